"""Which ranges of one file are written, shared by the threads that write, hash and sync it.

Connections write their ranges, each in a thread; the `verifier` hashes the contiguous front, in
another thread; the event loop syncs and records claims. They share this state under one lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from modeldeck.core.downloads.job_records import FileProgress
from modeldeck.core.downloads.ranges import ByteRange, ByteRanges, add, covered, front
from modeldeck.core.downloads.transfer.bandwidth_limit import RateLimiter
from modeldeck.core.downloads.transfer.partial_file import PartialFile

UNSYNCED_BYTES = 32 << 20
"""Bytes that each connection may write before a sync: the most that a kill loses."""


class WrittenRanges:
    """The ranges of a file that are written, and how many bytes of them are not synced yet."""

    def __init__(
        self, ranges: ByteRanges, progress: FileProgress, on_step: Callable[[], None]
    ) -> None:
        self._changed = threading.Condition()
        self._ranges = ranges
        self._progress = progress
        self._on_step = on_step
        self._unsynced_bytes = 0
        self._step_bytes = UNSYNCED_BYTES // 4
        self._most_unsynced_bytes = UNSYNCED_BYTES
        progress.received_bytes = covered(ranges)

    @property
    def ranges(self) -> ByteRanges:
        """All ranges that are written."""
        return self._ranges

    def snapshot(self) -> tuple[ByteRanges, int]:
        """All written ranges, and how many bytes of them are not synced yet."""
        with self._changed:
            return self._ranges, self._unsynced_bytes

    def set_connections(self, connections: int) -> None:
        """Scale the bound on unsynced bytes to the number of connections."""
        with self._changed:
            self._most_unsynced_bytes = UNSYNCED_BYTES * connections
            self._changed.notify_all()

    def wrote(self, start: int, end: int) -> None:
        """Record a range that a connection has written."""
        with self._changed:
            self._ranges = add(self._ranges, (start, end))
            self._progress.received_bytes = covered(self._ranges)
            before = self._unsynced_bytes
            self._unsynced_bytes += end - start
            is_step = before < self._step_bytes <= self._unsynced_bytes
            self._changed.notify_all()
        if is_step:
            self._on_step()

    def synced(self, count: int) -> None:
        """Record that `count` of the unsynced bytes are durable now."""
        with self._changed:
            self._unsynced_bytes -= count
            self._changed.notify_all()
            is_step = self._unsynced_bytes >= self._step_bytes
        if is_step:
            self._on_step()

    def wait_for_sync(self, stopped: Callable[[], bool]) -> None:
        """Block while too many bytes are unsynced, unless `stopped`."""
        with self._changed:
            while self._unsynced_bytes >= self._most_unsynced_bytes and not stopped():
                self._changed.wait()

    def wait_beyond(self, at: int, stopped: Callable[[], bool]) -> int:
        """Block until the front is beyond `at`, or `stopped`; return the front."""
        with self._changed:
            while (end := front(self._ranges)) <= at and not stopped():
                self._changed.wait()
        return end

    def wake(self) -> None:
        """Let waiting threads check whether they are stopped."""
        with self._changed:
            self._changed.notify_all()


class RangeWriter:
    """Sink for one range: writes what a connection receives at its offset in the partial file.

    A thread writes; the event loop may meanwhile move the end forward, or stop it.
    """

    def __init__(
        self, partial: PartialFile, written: WrittenRanges, limiter: RateLimiter, span: ByteRange
    ) -> None:
        self._partial = partial
        self._written = written
        self._limiter = limiter
        self.begin, self.end = span
        self.at = self.begin
        """Offset up to which it is written."""
        self.skip = 0
        """Bytes to drop first: a server without ranges sends the file from its beginning."""
        self._stopped = False

    @property
    def is_full(self) -> bool:
        """Whether the whole range is written."""
        return self.at >= self.end

    def stop(self) -> None:
        """End the transfer of this range. From any thread."""
        self._stopped = True
        self._limiter.wake()
        self._written.wake()

    def _is_over(self) -> bool:
        return self._stopped or self.is_full

    def room(self) -> int:
        """Bytes that may be received next; blocks while rate limit or sync allow none."""
        self._written.wait_for_sync(self._is_over)
        allowed = self._limiter.admit(self._is_over)
        return min(allowed, self.skip or self.end - self.at)

    def take(self, data: memoryview) -> None:
        """Write received bytes. Raises NotEnoughDisk, StorageFailed."""
        self._limiter.spend(len(data))
        if self.skip:
            self.skip -= len(data)
            return
        # The event loop may have moved the end forward meanwhile.
        data = data[: max(0, self.end - self.at)]
        if data:
            self._partial.write(self.at, data)
            self.at += len(data)
            self._written.wrote(self.at - len(data), self.at)
