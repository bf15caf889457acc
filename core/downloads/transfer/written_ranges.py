"""What is there of one file while several threads fill it and one hashes it.

Connections write their parts, in threads; the hash follows the contiguous front, in another; the
loop syncs and claims. What they must know of each other stands here, behind one lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from modeldeck.core.downloads.job_records import FileProgress
from modeldeck.core.downloads.ranges import ByteRange, ByteRanges, add, covered, front
from modeldeck.core.downloads.transfer.partial_file import Digest, PartialFile
from modeldeck.core.downloads.transfer.rate_limit import RateLimiter

UNSYNCED_BYTES = 32 << 20
"""The most that each connection may be ahead of what is synced: what a kill costs."""


class WrittenRanges:
    """The spans of a file that were written, and how many bytes of them are synced."""

    def __init__(
        self, there: ByteRanges, progress: FileProgress, on_step: Callable[[], None]
    ) -> None:
        self._changed = threading.Condition()
        self._there = there
        self._progress = progress
        self._on_step = on_step
        self._ahead_bytes = 0
        self._step_bytes = UNSYNCED_BYTES // 4
        self._most_ahead_bytes = UNSYNCED_BYTES
        progress.received_bytes = covered(there)

    @property
    def there(self) -> ByteRanges:
        """What was written."""
        return self._there

    def snapshot(self) -> tuple[ByteRanges, int]:
        """What was written, and how many bytes of it are not synced yet."""
        with self._changed:
            return self._there, self._ahead_bytes

    def set_width(self, connections: int) -> None:
        """Let so many connections be ahead of what is synced."""
        with self._changed:
            self._most_ahead_bytes = UNSYNCED_BYTES * connections
            self._changed.notify_all()

    def wrote(self, start: int, end: int) -> None:
        """Note what a connection has written."""
        with self._changed:
            self._there = add(self._there, (start, end))
            self._progress.received_bytes = covered(self._there)
            before = self._ahead_bytes
            self._ahead_bytes += end - start
            is_step = before < self._step_bytes <= self._ahead_bytes
            self._changed.notify_all()
        if is_step:
            self._on_step()

    def synced(self, count: int) -> None:
        """Note that so many of the bytes that were ahead are safe now."""
        with self._changed:
            self._ahead_bytes -= count
            self._changed.notify_all()
            is_step = self._ahead_bytes >= self._step_bytes
        if is_step:
            self._on_step()

    def wait_for_sync(self, stopped: Callable[[], bool]) -> None:
        """Block while too much is not synced yet, unless `stopped`."""
        with self._changed:
            while self._ahead_bytes >= self._most_ahead_bytes and not stopped():
                self._changed.wait()

    def wait_beyond(self, at: int, stopped: Callable[[], bool]) -> int:
        """Block until more than `at` bytes are there from the beginning; how many. Or `stopped`."""
        with self._changed:
            while (end := front(self._there)) <= at and not stopped():
                self._changed.wait()
        return end

    def wake(self) -> None:
        """Let everybody who waits look whether they were stopped."""
        with self._changed:
            self._changed.notify_all()


class RangeWriter:
    """What one connection is to bring: a sink that writes into its place in the partial.

    A thread fills it; the loop may meanwhile bring its end forward, or stop it.
    """

    def __init__(
        self, partial: PartialFile, ledger: WrittenRanges, limiter: RateLimiter, span: ByteRange
    ) -> None:
        self._partial = partial
        self._ledger = ledger
        self._limiter = limiter
        self.begin, self.end = span
        self.at = self.begin
        """Up to where it is written."""
        self.skip = 0
        """Bytes that come before it: a server without ranges sends the file from its beginning."""
        self._stopped = False

    @property
    def is_full(self) -> bool:
        """Whether all of it is written."""
        return self.at >= self.end

    def stop(self) -> None:
        """Want no more."""
        self._stopped = True
        self._limiter.wake()
        self._ledger.wake()

    def _is_over(self) -> bool:
        return self._stopped or self.is_full

    def room(self) -> int:
        """How many bytes may come next: as the limits, and the disk, allow."""
        self._ledger.wait_for_sync(self._is_over)
        allowed = self._limiter.admit(self._is_over)
        return min(allowed, self.skip or self.end - self.at)

    def take(self, data: memoryview) -> None:
        """Write what came. Raises NotEnoughDisk, StorageFailed."""
        self._limiter.spend(len(data))
        if self.skip:
            self.skip -= len(data)
            return
        # The end may have come forward meanwhile.
        data = data[: max(0, self.end - self.at)]
        if data:
            self._partial.write(self.at, data)
            self.at += len(data)
            self._ledger.wrote(self.at - len(data), self.at)


class Verifier:
    """Hashes a file from its beginning as far as it is there, until it is complete."""

    def __init__(
        self,
        partial: PartialFile,
        ledger: WrittenRanges,
        digest: Digest,
        size: int,
        progress: FileProgress,
    ) -> None:
        self._partial = partial
        self._ledger = ledger
        self._digest = digest
        self._size = size
        self._progress = progress
        self._stopped = False

    def stop(self) -> None:
        """End soon."""
        self._stopped = True
        self._ledger.wake()

    def run(self) -> str:
        """The hash of it all; blocks until it is there. Of no meaning once stopped."""
        at = self._progress.hashed_bytes = 0
        while at < self._size and not self._stopped:
            end = self._ledger.wait_beyond(at, lambda: self._stopped)
            at = self._partial.hash(self._digest, at, end, lambda: self._stopped)
            self._progress.hashed_bytes = at
        return self._digest.hexdigest()
