"""The connections of one file: they receive its missing ranges until it is complete.

Each connection is a task that receives one range after the other. One loop watches all of them: it
starts connections, closes those that hang, and lets `ConnectionCount` decide how many there are.
Where answers come late, the successor of a range is requested on another connection before the
present one ends; so a few more than the wanted number may be open, of which those beyond wait for
their answer. A network that is down never ends a transfer: it waits, longer each time, and goes on
when the network does.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass, field

from modeldeck.core.concurrency import settled
from modeldeck.core.config import config
from modeldeck.core.downloads.http.responses import FileLocation, RetryableFailure
from modeldeck.core.downloads.http.source import DownloadSource, Redirect, ResponseBody
from modeldeck.core.downloads.job_records import FileProgress, wait_s
from modeldeck.core.downloads.ranges import ByteRange, covered, front, missing
from modeldeck.core.downloads.transfer.bandwidth_limit import RateLimiter
from modeldeck.core.downloads.transfer.connection_count import (
    LEAST_SPLIT_S,
    ConnectionCount,
    ends_soon,
    is_slow,
    next_part,
    part_bytes,
    split,
)
from modeldeck.core.downloads.transfer.partial_file import PartialFile
from modeldeck.core.downloads.transfer.written_ranges import RangeWriter, WrittenRanges
from modeldeck.core.errors import HubUnavailable
from modeldeck.core.schema.errors import to_info

logger = logging.getLogger(__name__)

TICK_S = 0.05
"""Seconds between two looks at the connections: half of the shortest window of a measurement."""

UNANSWERED_S = 2.0
"""Seconds without an answer after which a range may be split too, when no other is left."""

HASH_BEHIND_BYTES = 64 << 20
"""When the hash is further behind the received front, more connections would wait for it."""

HELD_SHARE = 0.7
"""Share of a rate limit from which on the limit counts as the bottleneck."""


class ContentChanged(Exception):
    """The server has other content now; the rest of what was received cannot be fetched."""


@dataclass(slots=True, eq=False)
class _TransferConnection:
    """The task of one connection, and what is measured of it."""

    part: RangeWriter
    task: asyncio.Task[None] = field(init=False)
    asked_at: float = 0.0
    has_flowed: bool = False
    """Whether it, or the one that it succeeds, has received content."""
    since: float = 0.0
    """When the content of its range began to arrive; 0 while it waits for an answer."""
    rate: float = 0.0
    """Bytes per second, of its last range or of this one."""
    checked_at: float = 0.0
    checked_byte: int = 0
    is_too_slow: bool = False
    is_succeeded: bool = False
    """Whether its next range was requested on another connection: it ends after this one."""


class FileConnections:
    """Receives the missing ranges of one file."""

    def __init__(
        self,
        *,
        source: DownloadSource,
        location: FileLocation,
        partial: PartialFile,
        written: WrittenRanges,
        limiter: RateLimiter,
        progress: FileProgress,
        settings: config.DownloadSettings,
        validator: str,
    ) -> None:
        self._source = source
        self._location = location
        self._partial = partial
        self._written = written
        self._limiter = limiter
        self._progress = progress
        self._settings = settings
        self.validator = validator
        """The ETag that the content came with."""
        self._redirect = Redirect()
        self._connections: set[_TransferConnection] = set()
        self._count = ConnectionCount(most=settings.connections)
        self._accepts_ranges: bool | None = None
        self._answer_s: float | None = None
        """Moving average of the seconds from a request to its answer; None before the first."""
        self._failures = 0
        self._failed_at = 0.0
        self._failed_at_bytes = -1
        self._resume_at = 0.0
        self._window_at = 0.0
        self._window_bytes = 0

    @property
    def _size(self) -> int:
        return self._location.file.size_bytes

    @property
    def _wanted(self) -> int:
        """Number of connections to have. One until an answer says that ranges are served."""
        return self._count.wanted if self._accepts_ranges else 1

    @property
    def _present(self) -> int:
        """Number of connections, without those that another one succeeds."""
        return sum(not connection.is_succeeded for connection in self._connections)

    async def run(self) -> None:
        """Return when no range is missing.

        Raises ContentChanged; NotEnoughDisk, StorageFailed, Gated, NotFound, Corrupt,
        HubUnavailable.
        """
        try:
            while missing(self._written.ranges, self._size):
                self._start_connections()
                await self._wait()
                self._watch(time.monotonic())
        finally:
            for connection in self._connections:
                connection.task.cancel()
            tasks = [connection.task for connection in self._connections]
            await settled(asyncio.gather(*tasks, return_exceptions=True))

    # Connections

    def _start_connections(self) -> None:
        if time.monotonic() < self._resume_at:
            return
        while self._present < self._wanted and (part := self._next_part()) is not None:
            self._start(_TransferConnection(part))
        if self._answer_s is None or not self._accepts_ranges or self._present > self._wanted:
            return
        for connection in list(self._connections):
            left, rate = connection.part.end - connection.part.at, connection.rate
            if (
                connection.since
                and not connection.is_succeeded
                and len(self._connections) < self._count.limit_ahead
                and ends_soon(left, rate, self._answer_s, TICK_S)
                and (part := self._next_part(rate)) is not None
            ):
                connection.is_succeeded = True
                self._start(_TransferConnection(part, has_flowed=True, rate=rate))

    def _start(self, connection: _TransferConnection) -> None:
        connection.task = asyncio.create_task(self._receive(connection))
        self._connections.add(connection)

    def _next_part(
        self, rate: float = 0.0, connection: _TransferConnection | None = None
    ) -> RangeWriter | None:
        """The next range for a connection that had `rate`; None where none is left.

        It is from the front of what is missing, or the second half of another connection's range.
        `connection` is one whose own range has ended.
        """
        others = [other for other in self._connections if other is not connection]
        taken = [(other.part.begin, other.part.end) for other in others]
        left = self._size - covered(self._written.ranges)
        most = part_bytes(rate, self._answer_s or 0.0, left, self._wanted)
        if self._accepts_ranges is False:
            most = self._size
        span = next_part(self._written.ranges, taken, self._size, most)
        if span is None and self._accepts_ranges:
            span = self._split(others)
        if span is None:
            return None
        return RangeWriter(self._partial, self._written, self._limiter, span)

    def _split(self, connections: list[_TransferConnection]) -> ByteRange | None:
        """The second half of the range that would take longest, taken from its connection."""
        now = time.monotonic()
        connections = [
            connection
            for connection in connections
            if connection.since or now - connection.asked_at > UNANSWERED_S
        ]
        under_way = [
            ((each.part.at, each.part.end), each.rate if each.since else 0.0)
            for each in connections
        ]
        halved = split(under_way, max(LEAST_SPLIT_S, 3 * (self._answer_s or 0.0)))
        if halved is None:
            return None
        part, middle = connections[halved[0]].part, halved[1]
        span, part.end = (middle, part.end), middle
        return span

    async def _receive(self, connection: _TransferConnection) -> None:
        """Receive ranges until there are none, or another connection goes on instead."""
        while True:
            await self._receive_part(connection)
            if connection.is_succeeded or self._present > self._wanted:
                return
            if time.monotonic() < self._resume_at:
                return
            if (part := self._next_part(connection.rate, connection)) is None:
                return
            connection.part = part

    async def _receive_part(self, connection: _TransferConnection) -> None:
        part = connection.part
        connection.asked_at = time.monotonic()
        span = part.begin, part.end
        async with self._source.open(self._location, span, self.validator, self._redirect) as body:
            connection.since = connection.checked_at = now = time.monotonic()
            self._check_response(body, part)
            self._note_answer(now - connection.asked_at)
            connection.has_flowed, connection.checked_byte = True, part.at
            self._progress.trouble = None
            try:
                await body.pour(part)
            finally:
                connection.rate = (part.at - part.begin) / max(time.monotonic() - now, 1e-4)
                connection.since = 0.0
        if not part.is_full:
            left = part.end - part.at
            raise RetryableFailure(
                HubUnavailable(
                    f"{self._location} ended {left} bytes early.", "The rest is fetched by itself."
                )
            )

    def _note_answer(self, answer_s: float) -> None:
        if self._answer_s is None:
            self._answer_s = answer_s
            self._count = self._count.after_first_answer(answer_s)
            self._written.set_connections(self._wanted)
            self._start_connections()
        else:
            self._answer_s += (answer_s - self._answer_s) / 4

    def _check_response(self, body: ResponseBody, part: RangeWriter) -> None:
        """Compare an answer's content and range with the request. Raises ContentChanged."""
        known = self.validator
        same = body.confirmed or (body.validator != "" and body.validator == known)
        other = not body.confirmed and body.validator and known and body.validator != known
        if (body.start < part.begin and not same) or (other and covered(self._written.ranges)):
            raise ContentChanged
        self.validator = body.validator
        part.skip = part.begin - body.start
        if body.is_whole and (part.begin, part.end) != (0, self._size):
            # The server ignores ranges and sends the whole file: take all of it from here.
            self._accepts_ranges = False
            others = [(o.part.begin, o.part.end) for o in self._connections if o.part is not part]
            gap = next_part(self._written.ranges, others, self._size, self._size)
            if gap is not None and gap[0] == part.begin:
                part.end = gap[1]
        elif not body.is_whole:
            self._accepts_ranges = True

    # Watching

    async def _wait(self) -> None:
        """Wait until a connection has ended, or for a tick."""
        if not self._connections:
            await asyncio.sleep(max(0.0, self._resume_at - time.monotonic()))
            return
        await asyncio.wait(
            [connection.task for connection in self._connections],
            timeout=TICK_S,
            return_when=asyncio.FIRST_COMPLETED,
        )
        for ended in [each for each in self._connections if each.task.done()]:
            self._connections.remove(ended)
            if ended.is_too_slow:
                failure = RetryableFailure(_too_slow(self._location), passes=True)
                self._handle_failure(failure, ended.asked_at)
            elif isinstance(error := ended.task.exception(), RetryableFailure):
                self._handle_failure(error, ended.asked_at)
            elif error is not None:
                raise error

    def _handle_failure(self, failure: RetryableFailure, asked_at: float) -> None:
        """Plan the next try after a failure; raise its error when there were too many.

        One outage that breaks many connections is one failure: requests that were sent before the
        last failure count with it.
        """
        now, received = time.monotonic(), covered(self._written.ranges)
        is_new = asked_at >= self._failed_at
        if received > self._failed_at_bytes:
            self._failures = 1
        elif is_new:
            self._failures += 1
        self._failed_at, self._failed_at_bytes = now, received
        if not failure.passes and self._failures > self._settings.retries:
            raise failure.error from failure
        working = sum(1 for connection in self._connections if connection.since)
        reduced = self._count.refused if is_new else self._count.refused_again
        self._count = reduced(working, now)
        pause = failure.wait_s
        if pause is None:
            chance = random.random()  # noqa: S311 - spreads clients, hides nothing
            pause = wait_s(self._failures, self._settings.retry_wait_s, chance)
            if working and not failure.passes:
                pause = 0.0
        self._resume_at = max(self._resume_at, now + pause)
        if not working:
            self._progress.trouble = to_info(failure.error)
        logger.info("%s: %s Trying again in %.1f s.", self._location, failure.error.message, pause)

    def _watch(self, now: float) -> None:
        """Close connections that hang, and measure the rate at the end of a window."""
        flowing = [each for each in self._connections if each.since]
        for each in flowing:
            self._check_speed(each, [o.rate for o in flowing if o is not each], now)
        if self._present != self._wanted or not all(c.has_flowed for c in self._connections):
            self._window_at = 0.0
            return
        if not self._window_at:
            self._window_at, self._window_bytes = now, self._progress.received_bytes
            return
        elapsed = now - self._window_at
        if elapsed < self._count.window_s(self._answer_s or 0.0):
            return
        rate = (self._progress.received_bytes - self._window_bytes) / elapsed
        self._window_at = 0.0
        self._count = self._count.held() if self._is_held(rate) else self._count.measured(rate, now)
        self._written.set_connections(self._wanted)

    def _check_speed(
        self, connection: _TransferConnection, others: list[float], now: float
    ) -> None:
        """Close a connection that receives almost nothing; `others` are the others' rates."""
        at, elapsed = connection.part.at, now - connection.checked_at
        if now - connection.since > TICK_S:
            connection.rate = (at - connection.part.begin) / (now - connection.since)
        if self._limiter.lowest_rate is not None or connection.part.skip > 0:
            connection.checked_at, connection.checked_byte = now, at
        elif is_slow(at - connection.checked_byte, elapsed, self._settings.stall_s, others):
            connection.is_too_slow = True
            connection.task.cancel()
        elif elapsed >= self._settings.stall_s:
            connection.checked_at, connection.checked_byte = now, at

    def _is_held(self, rate: float) -> bool:
        """Whether the hash or a rate limit is the bottleneck, not the line."""
        behind = front(self._written.ranges) - self._progress.hashed_bytes
        limit = self._limiter.lowest_rate
        return behind > HASH_BEHIND_BYTES or (limit is not None and rate > HELD_SHARE * limit)


def _too_slow(location: FileLocation) -> HubUnavailable:
    return HubUnavailable(
        f"A connection for {location} brought almost nothing.", "It is made anew by itself."
    )
