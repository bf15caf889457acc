"""The connections of one file: they fill its gaps, as many as bring speed, until it is complete.

Each connection is a lane, a task that takes one part after the other. One loop watches them all: it
starts lanes, gives up those that hang, and decides with `width` how many there are. A network that
is down never ends this: it waits, longer each time, and goes on when the network does.
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
from modeldeck.core.downloads.transfer.connection_count import (
    LEAST_SPLIT_S,
    ConnectionCount,
    is_slow,
    next_part,
    part_bytes,
    split,
)
from modeldeck.core.downloads.transfer.partial_file import PartialFile
from modeldeck.core.downloads.transfer.rate_limit import RateLimiter
from modeldeck.core.downloads.transfer.written_ranges import RangeWriter, WrittenRanges
from modeldeck.core.errors import HubUnavailable
from modeldeck.core.schema.errors import to_info

logger = logging.getLogger(__name__)

TICK_S = 0.05
"""How often the lanes are looked at: half of the shortest window in which a width is judged."""

UNANSWERED_S = 2.0
"""When others have nothing left to do, the part of one that waits this long is halved as well."""

HASH_BEHIND_BYTES = 64 << 20
"""When the hash is further behind than this, more connections would only wait for it."""

HELD_SHARE = 0.7
"""Near enough to a rate limit for it to be what holds a transfer back."""


class ContentChanged(Exception):
    """The server has other content now, and does not serve the rest of what is there in part."""


@dataclass(slots=True, eq=False)
class _TransferConnection:
    """One connection at work."""

    part: RangeWriter
    task: asyncio.Task[None] = field(init=False)
    asked_at: float = 0.0
    has_flowed: bool = False
    since: float = 0.0
    """When the body of its part began to come; 0 while it waits for an answer."""
    rate: float = 0.0
    """Bytes per second, of its last part or of this one."""
    checked_at: float = 0.0
    checked_byte: int = 0
    given_up: bool = False


class FileConnections:
    """Fills the gaps of one file."""

    def __init__(
        self,
        *,
        source: DownloadSource,
        place: FileLocation,
        partial: PartialFile,
        ledger: WrittenRanges,
        limiter: RateLimiter,
        progress: FileProgress,
        settings: config.DownloadSettings,
        validator: str,
    ) -> None:
        self._source = source
        self._place = place
        self._partial = partial
        self._ledger = ledger
        self._limiter = limiter
        self._progress = progress
        self._settings = settings
        self.validator = validator
        """The ETag that the content came with."""
        self._route = Redirect()
        self._lanes: set[_TransferConnection] = set()
        self._width = ConnectionCount(most=settings.connections)
        self._ranges: bool | None = None
        self._answer_s = 0.0
        self._failures = 0
        self._failed_at = 0.0
        self._failed_at_bytes = -1
        self._resume_at = 0.0
        self._window_at = 0.0
        self._window_bytes = 0

    @property
    def _size(self) -> int:
        return self._place.file.size_bytes

    @property
    def _wanted(self) -> int:
        """How many lanes there should be. The first answer says whether there are ranges."""
        return self._width.wanted if self._ranges else 1

    async def run(self) -> None:
        """Return when nothing is missing any more.

        Raises Changed; NotEnoughDisk, StorageFailed, Gated, NotFound, Corrupt, HubUnavailable.
        """
        try:
            while missing(self._ledger.there, self._size):
                self._start_lanes()
                await self._turn()
                self._watch(time.monotonic())
        finally:
            for lane in self._lanes:
                lane.task.cancel()
            tasks = [lane.task for lane in self._lanes]
            await settled(asyncio.gather(*tasks, return_exceptions=True))

    # Lanes

    def _start_lanes(self) -> None:
        if time.monotonic() < self._resume_at:
            return
        while len(self._lanes) < self._wanted and (part := self._take()) is not None:
            lane = _TransferConnection(part)
            lane.task = asyncio.create_task(self._bring(lane))
            self._lanes.add(lane)

    def _take(self, lane: _TransferConnection | None = None) -> RangeWriter | None:
        """The next part for a lane: from the front, or the second half of another's."""
        others = [other for other in self._lanes if other is not lane]
        taken = [(other.part.begin, other.part.end) for other in others]
        left = self._size - covered(self._ledger.there)
        most = part_bytes(lane.rate if lane else 0, self._answer_s, left, self._wanted)
        span = next_part(
            self._ledger.there, taken, self._size, self._size if self._ranges is False else most
        )
        if span is None and self._ranges:
            span = self._halve(others)
        if span is None:
            return None
        return RangeWriter(self._partial, self._ledger, self._limiter, span)

    def _halve(self, lanes: list[_TransferConnection]) -> ByteRange | None:
        """The second half of the part that would take longest; it ends sooner from now on."""
        now = time.monotonic()
        lanes = [lane for lane in lanes if lane.since or now - lane.asked_at > UNANSWERED_S]
        under_way = [
            ((lane.part.at, lane.part.end), lane.rate if lane.since else 0.0) for lane in lanes
        ]
        halved = split(under_way, max(LEAST_SPLIT_S, 3 * self._answer_s))
        if halved is None:
            return None
        part, middle = lanes[halved[0]].part, halved[1]
        span, part.end = (middle, part.end), middle
        return span

    async def _bring(self, lane: _TransferConnection) -> None:
        """Fetch parts until there are none, or until there are too many lanes."""
        while True:
            await self._fetch(lane)
            if len(self._lanes) > self._wanted or time.monotonic() < self._resume_at:
                return
            if (part := self._take(lane)) is None:
                return
            lane.part = part

    async def _fetch(self, lane: _TransferConnection) -> None:
        part = lane.part
        lane.asked_at = time.monotonic()
        span = part.begin, part.end
        async with self._source.open(self._place, span, self.validator, self._route) as body:
            lane.since = lane.checked_at = now = time.monotonic()
            self._answer_s += (now - lane.asked_at - self._answer_s) / 4
            self._heed(body, part)
            lane.has_flowed, lane.checked_byte = True, part.at
            self._progress.trouble = None
            try:
                await body.pour(part)
            finally:
                lane.rate = (part.at - part.begin) / max(time.monotonic() - now, 1e-4)
                lane.since = 0.0
        if not part.is_full:
            left = part.end - part.at
            raise RetryableFailure(
                HubUnavailable(
                    f"{self._place} ended {left} bytes early.", "The rest is fetched by itself."
                )
            )

    def _heed(self, body: ResponseBody, part: RangeWriter) -> None:
        """Take in what an answer says of the file. Raises Changed."""
        known = self.validator
        same = body.confirmed or (body.validator != "" and body.validator == known)
        other = not body.confirmed and body.validator and known and body.validator != known
        if (body.start < part.begin and not same) or (other and covered(self._ledger.there)):
            raise ContentChanged
        self.validator = body.validator
        part.skip = part.begin - body.start
        if body.is_whole and (part.begin, part.end) != (0, self._size):
            # No ranges: all comes again, so that this connection may as well bring all that misses.
            self._ranges = False
            others = [(o.part.begin, o.part.end) for o in self._lanes if o.part is not part]
            gap = next_part(self._ledger.there, others, self._size, self._size)
            if gap is not None and gap[0] == part.begin:
                part.end = gap[1]
        elif not body.is_whole:
            self._ranges = True

    # Watching

    async def _turn(self) -> None:
        """Wait until a lane has ended, or a tick has passed."""
        if not self._lanes:
            await asyncio.sleep(max(0.0, self._resume_at - time.monotonic()))
            return
        await asyncio.wait(
            [lane.task for lane in self._lanes],
            timeout=TICK_S,
            return_when=asyncio.FIRST_COMPLETED,
        )
        for lane in [lane for lane in self._lanes if lane.task.done()]:
            self._lanes.remove(lane)
            if lane.given_up:
                self._met(RetryableFailure(_slow(self._place), passes=True), lane.asked_at)
            elif isinstance(error := lane.task.exception(), RetryableFailure):
                self._met(error, lane.asked_at)
            elif error is not None:
                raise error

    def _met(self, setback: RetryableFailure, asked_at: float) -> None:
        """Decide how to go on after a setback; raises its error when it is no use.

        One outage that breaks many connections is one failure: what was asked before the last one
        counts with it.
        """
        now, there = time.monotonic(), covered(self._ledger.there)
        if there > self._failed_at_bytes:
            self._failures = 1
        elif asked_at >= self._failed_at:
            self._failures += 1
        self._failed_at, self._failed_at_bytes = now, there
        if not setback.passes and self._failures > self._settings.retries:
            raise setback.error from setback
        working = sum(1 for lane in self._lanes if lane.since)
        self._width = self._width.refused(working, now)
        pause = setback.wait_s
        if pause is None:
            chance = random.random()  # noqa: S311 - spreads clients, hides nothing
            pause = wait_s(self._failures, self._settings.retry_wait_s, chance)
            if working and not setback.passes:
                pause = 0.0
        self._resume_at = max(self._resume_at, now + pause)
        if not working:
            self._progress.trouble = to_info(setback.error)
        logger.info("%s: %s Trying again in %.1f s.", self._place, setback.error.message, pause)

    def _watch(self, now: float) -> None:
        """Give up lanes that hang, and judge the width at the end of a window."""
        flowing = [lane for lane in self._lanes if lane.since]
        for lane in flowing:
            self._check(lane, [o.rate for o in flowing if o is not lane], now)
        if len(self._lanes) != self._wanted or not all(lane.has_flowed for lane in self._lanes):
            self._window_at = 0.0
            return
        if not self._window_at:
            self._window_at, self._window_bytes = now, self._progress.received_bytes
            return
        elapsed = now - self._window_at
        if elapsed < self._width.window_s(self._answer_s):
            return
        rate = (self._progress.received_bytes - self._window_bytes) / elapsed
        self._window_at = 0.0
        self._width = self._width.held() if self._is_held(rate) else self._width.judged(rate, now)
        self._ledger.set_width(self._wanted)

    def _check(self, lane: _TransferConnection, others: list[float], now: float) -> None:
        """Give up a lane that hangs, or brings next to nothing."""
        at, elapsed = lane.part.at, now - lane.checked_at
        if now - lane.since > TICK_S:
            lane.rate = (at - lane.part.begin) / (now - lane.since)
        if self._limiter.lowest_rate is not None or lane.part.skip > 0:
            lane.checked_at, lane.checked_byte = now, at
        elif is_slow(at - lane.checked_byte, elapsed, self._settings.stall_s, others):
            lane.given_up = True
            lane.task.cancel()
        elif elapsed >= self._settings.stall_s:
            lane.checked_at, lane.checked_byte = now, at

    def _is_held(self, rate: float) -> bool:
        """Whether something else than the line holds this transfer back."""
        behind = front(self._ledger.there) - self._progress.hashed_bytes
        limit = self._limiter.lowest_rate
        return behind > HASH_BEHIND_BYTES or (limit is not None and rate > HELD_SHARE * limit)


def _slow(place: FileLocation) -> HubUnavailable:
    return HubUnavailable(
        f"A connection for {place} brought next to nothing.", "It is made anew by itself."
    )
