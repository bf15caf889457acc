"""Limit of file descriptors of this process, and how many connections it leaves room for.

Each connection uses one. Downloads, engines, the database and open files use the same limit, and
clients must never exhaust it.
"""

from __future__ import annotations

import resource

MOST = 1 << 16
"""The soft limit is raised to the hard one, but not above this: child processes inherit it, and
some programs loop over all possible descriptors."""
DARWIN_MOST = 10_240
"""Maximum on macOS where the hard limit is infinite (OPEN_MAX, setrlimit(2))."""
RESERVED = 184
"""Descriptors kept for other uses than clients and downloads: ten engines with three pipes each,
the database (6), open model files (32), copies to other machines, and libraries."""
LEAST_FOR_DOWNLOADS = 40
"""Descriptors kept for downloads at least."""
MOST_CONNECTIONS = 4000
"""Connections at most: each takes some 10 KiB of memory."""
LEAST_CONNECTIONS = 16
"""Connections at least, so that the API stays reachable with a very low limit."""


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one; returns the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (_least(hard, MOST), _least(hard, DARWIN_MOST)):
        if soft != resource.RLIM_INFINITY and soft < wanted:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            except (ValueError, OSError):
                continue
            return wanted
    return limit()


def limit() -> int:
    """The soft limit of open files in force."""
    return _least(resource.getrlimit(resource.RLIMIT_NOFILE)[0], MOST)


def _least(one: int, most: int) -> int:
    return most if one == resource.RLIM_INFINITY else min(one, most)


def for_downloads(jobs_at_once: int, connections: int) -> int:
    """Descriptors of downloads: for each its connections, its file and the file's lock."""
    return max(LEAST_FOR_DOWNLOADS, jobs_at_once * (connections + 2))


def connections_for(descriptors: int, downloads: int = LEAST_FOR_DOWNLOADS) -> int:
    """Maximum of connections for a limit of open files.

    >>> [connections_for(limit) for limit in (64, 256, 1024, 4096, 65536)]
    [32, 128, 800, 3872, 4000]
    >>> connections_for(1024, for_downloads(20, 16))
    512
    """
    reserved = min(RESERVED + downloads, descriptors // 2)
    return max(LEAST_CONNECTIONS, min(MOST_CONNECTIONS, descriptors - reserved))
