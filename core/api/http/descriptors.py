"""File descriptors: how many this process may have, and how many connections that leaves room for.

Each connection takes one. Downloads, engines, the database and files that are read take theirs from
the same limit and must never find it used up by clients.
"""

from __future__ import annotations

import resource

MOST = 1 << 16
"""The soft limit is raised to the hard one, but not beyond this: children inherit it, and some
programs loop over all that they might have."""
DARWIN_MOST = 10_240
"""What macOS takes at most where the hard limit is infinite (OPEN_MAX, setrlimit(2))."""
RESERVED = 184
"""Descriptors that are kept from clients, besides those of downloads: ten engines with three pipes
each, the database (6), files of models that are read (32), copies to other machines, and what
libraries open."""
LEAST_FOR_DOWNLOADS = 40
"""Descriptors that are kept for downloads at least."""
MOST_CONNECTIONS = 4000
"""Connections at most, whatever the limit: each takes some 10 KiB."""
LEAST_CONNECTIONS = 16
"""Connections at least: where the limit is absurdly low, the API stays reachable."""


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one; gives the limit in force."""
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
    """Descriptors that downloads take: of each its connections, its file and the file's lock."""
    return max(LEAST_FOR_DOWNLOADS, jobs_at_once * (connections + 2))


def connections_for(descriptors: int, downloads: int = LEAST_FOR_DOWNLOADS) -> int:
    """How many connections there may be with this limit of open files.

    >>> [connections_for(limit) for limit in (64, 256, 1024, 4096, 65536)]
    [32, 128, 800, 3872, 4000]
    >>> connections_for(1024, for_downloads(20, 16))
    512
    """
    reserved = min(RESERVED + downloads, descriptors // 2)
    return max(LEAST_CONNECTIONS, min(MOST_CONNECTIONS, descriptors - reserved))
