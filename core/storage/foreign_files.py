"""The one way to open and to wait for a file that a person, a cache or another tool chose.

Such a path may lead to anything: a named pipe blocks `open` until a writer comes, a terminal or a
device blocks `read`, and a network mount whose server is gone blocks every call, `stat` included,
for ever. So these files are opened without blocking and must be regular files (`open_regular`),
and whatever touches them runs in daemon threads with a time limit (`in_thread`). Work on models at
paths that people added (`CUSTOM`) has threads of its own, so that a hung mount there leaves the
cache usable.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from modeldeck.core.concurrency import DaemonThreadPool, TimeLimitExceeded, TooManyStuck
from modeldeck.core.errors import StorageTimeout

T = TypeVar("T")

FILE_S = 10.0
"""Time limit in seconds for work on one file, such as reading a header: milliseconds as a rule; a
disk that spins up, or a mount that reconnects, takes some seconds."""
SCAN_S = 60.0
"""Time limit in seconds for work on a whole folder tree: thousands of `stat` on a slow mount."""

CACHE = DaemonThreadPool(8, "cache files", limit_s=FILE_S)
"""Threads for files in the folders of models."""
CUSTOM = DaemonThreadPool(8, "files of custom models", limit_s=FILE_S)
"""Threads for files at paths that people added."""

_KINDS = {
    stat.S_IFIFO: "it is a named pipe, not a file",
    stat.S_IFSOCK: "it is a socket, not a file",
    stat.S_IFCHR: "it is a device, not a file",
    stat.S_IFBLK: "it is a device, not a file",
}


def refuse_irregular(mode: int, path: str | os.PathLike[str]) -> None:
    """Raise OSError, with words, unless `mode` (of `stat`) is a regular file's."""
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    words = _KINDS.get(stat.S_IFMT(mode), "it is not a regular file")
    raise OSError(errno.EINVAL, words, os.fspath(path))


def stat_regular(path: str | os.PathLike[str]) -> os.stat_result:
    """`stat` of a regular file; links are followed. Blocks. Raises OSError for anything else."""
    found = os.stat(path)
    refuse_irregular(found.st_mode, path)
    return found


def descriptor_of_regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file. Blocks no longer than the file system does. Raises OSError.

    With `O_NONBLOCK` a named pipe opens at once (POSIX, open), and what was opened is looked at
    before it is read: a look before opening could be outdated.
    """
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a pipe to write to that nobody reads
            refuse_irregular(os.stat(path).st_mode, path)
        raise
    try:
        refuse_irregular(os.fstat(descriptor).st_mode, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_regular(path: str | os.PathLike[str], *, noatime: bool = False) -> BinaryIO:
    """A regular file, opened for reading bytes. Blocks. Raises OSError for anything else.

    With `noatime` reading leaves the time of access alone where the system allows that (Linux, own
    files only).
    """
    descriptor = -1
    if noatime:
        try:
            descriptor = descriptor_of_regular(path, os.O_RDONLY | getattr(os, "O_NOATIME", 0))
        except PermissionError:
            pass
    if descriptor < 0:
        descriptor = descriptor_of_regular(path)
    return os.fdopen(descriptor, "rb")


def read_regular(path: str | os.PathLike[str], limit: int) -> bytes:
    """The bytes of a regular file, at most `limit`. Blocks. Raises OSError, EFBIG for more."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", os.fspath(path))
    return data


async def in_thread(
    work: Callable[[], T],
    path: str | Path,
    *,
    custom: bool = False,
    limit_s: float = FILE_S,
) -> T:
    """What `work` on this path returns or raises; it runs in a thread that may be left behind.

    Args:
        work: Reads or looks at the file or folder.
        path: For the error; a path that hung once gets no further thread until it answers.
        custom: Whether it is one that a person added, outside the folders of models.
        limit_s: Time limit in seconds.

    Raises StorageTimeout when the time is up, or when too much hangs already.
    """
    threads = CUSTOM if custom else CACHE
    try:
        return await threads.run(work, key=os.fspath(path), limit_s=limit_s)
    except TimeLimitExceeded:
        raise StorageTimeout(
            f"{path} did not answer within {limit_s:g} s.",
            "Its disk or network mount hangs: check that, then try again.",
        ) from None
    except TooManyStuck:
        raise StorageTimeout(
            f"{path} is not read: {_hanging(threads, os.fspath(path))}.",
            "Check the disk or network mount; when it answers, this goes on by itself.",
        ) from None


def _hanging(threads: DaemonThreadPool, path: str) -> str:
    stuck = threads.stuck
    if path in stuck:
        return "an earlier attempt still waits for it"
    return f"{len(stuck)} files do not answer, the first is {stuck[0] if stuck else 'unknown'}"
