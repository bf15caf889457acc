"""One partial file on disk. The loop never waits for it: what blocks is called in threads.

What is hashed is read back from where it was written: so the hash covers what an earlier run left,
and it sees what is really on disk.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from core.detached import Detached
from core.downloads.disk import release, reserve
from core.downloads.parts import Spans
from core.errors import DeckError, NotEnoughDisk, StorageFailed
from core.schema import RepoFile
from core.storage.foreign_files import descriptor_of_regular

T = TypeVar("T")
P = ParamSpec("P")

READ_BYTES = 256 << 10
"""Hashed at once: it stays in the processor's cache on its way."""

LEAVE_S = 20.0
"""Seconds that a cancelled action may take to end; a sync of gigabytes takes some."""

THREADS = Detached(16, "files of downloads")
"""Threads for files of downloads. No time limit: a slow disk may take minutes to sync a file."""

logger = logging.getLogger(__name__)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


async def in_thread(action: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
    """Run a blocking action in a thread. A cancellation waits until the thread has ended.

    So files and locks are never taken away from under a thread that still works on them; `undo`
    gives back what the action got when nobody is left to take it. Only a thread that a disk or
    network mount holds for more than `LEAVE_S` is left behind: the core has to end without it.
    """
    work = asyncio.ensure_future(THREADS.run(action))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        with suppress(asyncio.CancelledError):
            await settled(work, LEAVE_S)
        if not work.done():
            logger.warning("A file of a download is left to a thread that does not come back.")
            raise
        if undo is not None and not work.cancelled() and work.exception() is None:
            undo(work.result())
        raise


async def settled(work: asyncio.Future[T], within_s: float | None = None) -> None:
    """Wait until `work` has ended, even when cancelled: that is passed on afterwards.

    The outcome of `work` is left alone. Waits no longer than `within_s` seconds where that is
    given.
    """
    cancelled = False
    deadline = None if within_s is None else time.monotonic() + within_s
    while not work.done() and (deadline is None or time.monotonic() < deadline):
        try:
            left_s = None if deadline is None else deadline - time.monotonic()
            await asyncio.wait([work], timeout=left_s)
        except asyncio.CancelledError:
            cancelled = True
    if work.done() and not work.cancelled():
        work.exception()
    if cancelled:
        raise asyncio.CancelledError


def whole(verb: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Make a coroutine function run to its end, even when whoever called it is cancelled.

    A client that hangs up in the middle of a request must not leave a job between two states.
    """

    @wraps(verb)
    async def unbroken(*args: P.args, **kwargs: P.kwargs) -> T:
        work = asyncio.create_task(verb(*args, **kwargs))
        await settled(work)
        return work.result()

    return unbroken


def disk_failure(path: Path, error: OSError) -> DeckError:
    """What to tell a person when this file could not be written or read."""
    if error.errno in _FULL:
        return NotEnoughDisk(
            f"The disk is full: {path} cannot grow.",
            "Make room: it goes on by itself, and what arrived is kept.",
        )
    return StorageFailed(
        f"{path} cannot be written or read: {error.strerror or error}.",
        "Check the disk and the permissions; HF_HUB_CACHE moves the cache.",
    )


class Digest(Protocol):
    """A hash in the making, as hashlib has them."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take in more content."""

    def hexdigest(self) -> str:
        """The hash so far, in lower-case hexadecimal digits."""


def digest_of(file: RepoFile) -> Digest:
    """An empty hash of the kind that names this file: SHA-256 of LFS files, else git's blob SHA-1.

    git hashes the word "blob", the size and a NUL before the content (gitformat-pack, git
    hash-object).
    """
    if file.lfs:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)


class Partial:
    """An open file that is being filled, or a complete one that is being checked."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    async def open(cls, path: Path, *, write: bool = True) -> Partial:
        """Open the file, made if it was missing when `write`. Raises StorageFailed."""
        # Not through a link: the partial is ours alone. A blob may be a link to a shared payload.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW if write else os.O_RDONLY
        try:
            descriptor = await in_thread(lambda: descriptor_of_regular(path, flags), undo=os.close)
        except OSError as error:
            raise disk_failure(path, error) from error
        return cls(path, descriptor)

    async def _do(self, action: Callable[[], T]) -> T:
        try:
            return await in_thread(action)
        except OSError as error:
            raise disk_failure(self.path, error) from error

    async def size(self) -> int:
        """Bytes the file has now."""
        return (await self._do(lambda: os.fstat(self._descriptor))).st_size

    async def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        await self._do(lambda: os.ftruncate(self._descriptor, size))

    async def reserve(self, size: int) -> None:
        """Make room for all of it, where the file system can. Raises NotEnoughDisk."""
        await self._do(lambda: reserve(self._descriptor, size))

    async def release(self, gaps: Spans) -> None:
        """Give back the room of what did not come, and is not about to."""

        def action() -> None:
            for start, end in gaps:
                release(self._descriptor, start, end)
            # Room behind the last byte that was written is given back by saying that it ends there.
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size)

        await self._do(action)

    def write(self, offset: int, data: memoryview) -> None:
        """Write at an offset; blocks. Raises NotEnoughDisk when the disk is full, StorageFailed."""
        try:
            while data:
                count = os.pwrite(self._descriptor, data, offset)
                data, offset = data[count:], offset + count
        except OSError as error:
            raise disk_failure(self.path, error) from error

    async def sync(self) -> None:
        """Make what was written durable."""
        await self._do(lambda: os.fsync(self._descriptor))

    def hash(self, digest: Digest, start: int, end: int, stopped: Callable[[], bool]) -> int:
        """Take bytes from `start` to `end` into the hash; where it got to. Blocks until `stopped`.

        Raises StorageFailed when the file ends before: it was cut by somebody else.
        """
        buffer, at = memoryview(bytearray(READ_BYTES)), start
        try:
            while at < end and not stopped():
                count = os.preadv(self._descriptor, [buffer[: end - at]], at)
                if not count:
                    raise OSError(errno.EIO, "it was cut by another program")
                digest.update(buffer[:count])
                at += count
        except OSError as error:
            raise disk_failure(self.path, error) from error
        return at

    async def close(self) -> None:
        """Close the file; nothing works on it any more."""
        await in_thread(lambda: os.close(self._descriptor))
