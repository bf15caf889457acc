"""One partial file on disk. Coroutines run their system calls in threads.

The hash reads the file back instead of hashing received bytes, so it covers ranges of earlier runs
and checks what was really written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from modeldeck.core.concurrency import in_thread
from modeldeck.core.downloads.ranges import ByteRanges
from modeldeck.core.downloads.transfer.fallocate import release, reserve
from modeldeck.core.errors import DeckError, NotEnoughDisk, StorageFailed
from modeldeck.core.storage.files import is_disk_full
from modeldeck.core.storage.foreign_files import descriptor_of_regular

T = TypeVar("T")

READ_BYTES = 256 << 10
"""Bytes hashed at once; they stay in the processor's cache."""


def disk_failure(path: Path, error: OSError) -> DeckError:
    """The error for a file that could not be written or read."""
    if is_disk_full(error):
        return NotEnoughDisk(
            f"The disk is full: {path} cannot grow.",
            "Free disk space: the download then continues by itself, and keeps its data.",
        )
    return StorageFailed(
        f"{path} cannot be written or read: {error.strerror or error}.",
        "Check the disk and the permissions; HF_HUB_CACHE moves the cache.",
    )


class Digest(Protocol):
    """A hash object of hashlib."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add content."""

    def hexdigest(self) -> str:
        """The hash so far, in lower-case hexadecimal digits."""


class PartialFile:
    """An open file: a partial one to write, or a complete one to verify."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    async def open(cls, path: Path, *, write: bool = True) -> PartialFile:
        """Open the file; with `write` it is created if missing. Raises StorageFailed."""
        # A partial file is never a link; a blob may be a link to a shared payload.
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
        """Present size in bytes."""
        return (await self._do(lambda: os.fstat(self._descriptor))).st_size

    async def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        await self._do(lambda: os.ftruncate(self._descriptor, size))

    async def reserve(self, size: int) -> None:
        """Reserve disk space for `size` bytes where supported. Raises NotEnoughDisk."""
        await self._do(lambda: reserve(self._descriptor, size))

    async def release(self, gaps: ByteRanges) -> None:
        """Release the disk space reserved for ranges that were not received."""

        def action() -> None:
            for start, end in gaps:
                release(self._descriptor, start, end)
            # Truncating to the present size releases the space reserved behind it.
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
        """Make written bytes durable (fsync)."""
        await self._do(lambda: os.fsync(self._descriptor))

    def hash(self, digest: Digest, start: int, end: int, stopped: Callable[[], bool]) -> int:
        """Hash bytes from `start` to `end`; return the offset reached. Blocks; ends if `stopped`.

        Raises StorageFailed when the file ends before `end`: another program truncated it.
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
        """Close the file; no other call may be under way."""
        await in_thread(lambda: os.close(self._descriptor))
