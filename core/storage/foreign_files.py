"""Access to foreign files: files whose path was chosen by a person, the cache or another tool.

Such a path may lead to anything: a named pipe blocks `open` until a writer comes, a terminal or a
device blocks `read`, and a network mount whose server is gone blocks every call, `stat` included,
for ever. So these files are opened without blocking and must be regular files (`open_regular`), and
all work on them runs in daemon threads with a time limit (`in_file_thread`). Work on custom models
outside the cache (`CUSTOM`) has separate threads, so that a hung mount there leaves the cache
usable.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from modeldeck.core.concurrency import DaemonThreadPool, TimeLimitExceeded, TooManyStuck
from modeldeck.core.errors import StorageTimeout

T = TypeVar("T")

FILE_S = 10.0
"""Time limit in seconds for work on one file, such as reading a header: usually milliseconds; a
disk that spins up, or a mount that reconnects, takes some seconds."""
SCAN_S = 60.0
"""Time limit in seconds for work on a whole folder tree: thousands of `stat` on a slow mount."""

CACHE = DaemonThreadPool(8, "cache files", limit_s=FILE_S)
"""Threads for files in the folders of models."""
CUSTOM = DaemonThreadPool(8, "files of custom models", limit_s=FILE_S)
"""Threads for custom models outside the cache."""

_KINDS = {
    stat.S_IFIFO: "it is a named pipe, not a file",
    stat.S_IFSOCK: "it is a socket, not a file",
    stat.S_IFCHR: "it is a device, not a file",
    stat.S_IFBLK: "it is a device, not a file",
}


def refuse_irregular(mode: int, path: str | os.PathLike[str]) -> None:
    """Raise OSError, naming the kind of file, unless `mode` (of `stat`) is a regular file's."""
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    words = _KINDS.get(stat.S_IFMT(mode), "it is not a regular file")
    raise OSError(errno.EINVAL, words, os.fspath(path))


def stat_regular(path: str | os.PathLike[str]) -> os.stat_result:
    """Return `stat` of a regular file, following links. Blocks. Raises OSError for other kinds."""
    found = os.stat(path)
    refuse_irregular(found.st_mode, path)
    return found


def descriptor_of_regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Open a regular file; return its descriptor. Blocks only on the disk. Raises OSError.

    With `O_NONBLOCK` a named pipe opens at once (POSIX, open). The kind of file is checked after
    opening: a check before could be outdated.
    """
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a pipe without a reader
            refuse_irregular(os.stat(path).st_mode, path)
        raise
    try:
        refuse_irregular(os.fstat(descriptor).st_mode, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_regular(path: str | os.PathLike[str], *, noatime: bool = False) -> BinaryIO:
    """Open a regular file for reading bytes. Blocks. Raises OSError for other kinds of files.

    With `noatime` reading does not change the access time where the system allows that (Linux, own
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
    """Return the content of a regular file. Blocks. Raises OSError; EFBIG above `limit` bytes."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", os.fspath(path))
    return data


def entries(folder: str | os.PathLike[str], most: int = 5000) -> Iterator[tuple[Path, bool]]:
    """Yield the entries of a folder in order of name, each with whether it is a folder. Blocks.

    At most `most` of them; none of a folder that is missing or may not be read.
    """
    try:
        with os.scandir(folder) as found:
            listed = [(Path(entry.path), entry.is_dir()) for entry in islice(found, most)]
    except OSError:
        return
    yield from sorted(listed)


async def in_file_thread(
    work: Callable[[], T],
    path: str | Path,
    *,
    custom: bool = False,
    limit_s: float = FILE_S,
) -> T:
    """Run `work` on a path in a thread that is abandoned if it hangs; return its result.

    Args:
        work: Reads or checks the file or folder.
        path: For the error; a path that hangs gets no further thread until it answers.
        custom: Whether it is a custom model's, outside the folders of models.
        limit_s: Time limit in seconds.

    Raises the errors of `work`, and StorageTimeout at the time limit, or if too many threads hang.
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
