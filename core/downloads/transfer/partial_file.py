"""One partial file on disk. The loop never waits for it: what blocks is called in threads.

What is hashed is read back from where it was written: so the hash covers what an earlier run left,
and it sees what is really on disk.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from modeldeck.core.concurrency import in_thread
from modeldeck.core.downloads.ranges import ByteRanges
from modeldeck.core.downloads.transfer.fallocate import release, reserve
from modeldeck.core.errors import DeckError, NotEnoughDisk, StorageFailed
from modeldeck.core.schema import RepoFile
from modeldeck.core.storage.atomic import is_disk_full
from modeldeck.core.storage.foreign_files import descriptor_of_regular

T = TypeVar("T")

READ_BYTES = 256 << 10
"""Hashed at once: it stays in the processor's cache on its way."""


def disk_failure(path: Path, error: OSError) -> DeckError:
    """What to tell a person when this file could not be written or read."""
    if is_disk_full(error):
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


class PartialFile:
    """An open file that is being filled, or a complete one that is being checked."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    async def open(cls, path: Path, *, write: bool = True) -> PartialFile:
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

    async def release(self, gaps: ByteRanges) -> None:
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
