"""Number of connections and byte ranges for one file: pure decisions, no I/O.

A file begins with one connection. Where its first answer comes late, the most are opened at once:
with a long round trip one connection is slow at first, and to measure it would take longer than to
open the others. Where answers come soon, connections are opened in steps of four, each measured
before the next, unless one is fast by itself. Later a trial of at least a second tests from time to
time whether half as many bring the same, since each connection costs processor time, or twice as
many bring more. A refusal (429, 503, a broken connection) reduces the number and rules out trials
for a while. While a rate limit, the disk or the hash is the bottleneck, the number does not grow.

Ranges are given out from the front of the file, because the hash follows it. Their size follows the
speed, so that requests are rare, and shrinks toward the end, so that all connections end together;
the last ranges are split while they are received. Where answers come late the next range is
requested before the present one ends, so that no connection's share of the line lies idle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from modeldeck.core.downloads.ranges import ByteRange, ByteRanges, add, missing

OPENING_S = 0.1
"""Least seconds to observe a connection count while connections are being opened."""

OPENING_ANSWERS = 2.0
"""Same, in times to an answer; the longer of both applies."""

OPENING_FACTOR = 4
"""Each step of the opening multiplies the connection count by this."""

OPENING_GAIN = 1.25
"""Least factor on the rate for newly opened connections to stay. Low, since new connections are
slow at first; above 1, for lines and processors that are full already.
"""

LATE_ANSWER_S = 0.05
"""Time to the first answer from which on connections are opened without a measurement."""

AHEAD_ANSWER_S = 0.03
"""Average time to an answer from which on ranges are requested ahead."""

AHEAD_SHARE = 0.5
"""Most connections that wait for the answer to such a request, as a share of the others."""

FAST_BYTES_PER_S = 100e6
"""Rate of one connection from which on the opening ends; only trials add more."""

WATCH_S = 1.0
"""Least seconds to observe a connection count in a trial: throttling servers send in bursts."""

FIRST_TRIAL_S = 5.0
"""Seconds without trials after the opening: in a short transfer a trial costs more than it
gains."""

REST_S = 15.0
"""Seconds until the next trial after one without gain; doubles with each further one."""

LONGEST_REST_S = 240.0
"""Upper bound of the seconds between two trials."""

GAIN = 0.3
"""Least share of the ideal gain for added connections to stay."""

LOSS = 0.1
"""Greatest share of the rate that a trial of fewer connections may lose."""

HOLD_S = 60.0
"""Seconds without trials after a refusal."""

LEAST_PART_BYTES = 4 << 20
"""Smallest range of one request, but for the end of the file."""

LATE_PART_BYTES = 8 << 20
"""First range of a connection of unknown rate where answers come late."""

MOST_PART_BYTES = 32 << 20
"""Largest range of one request: the hash follows the front of the file, and falls behind by all
ranges that are under way."""

PART_S = 0.25
"""Seconds that a range should take at least."""

PART_ANSWERS = 5.0
"""Same, in times to an answer; the longer of both applies."""

LEAST_SPLIT_BYTES = 1 << 20
"""A smaller range is not worth another request."""

LEAST_SPLIT_S = 0.2
"""Nor is one that is received sooner than this, or than three times to an answer."""

SLOW_BYTES_PER_S = 1024
"""A connection below this rate over `stall_s` is closed: a server that sends a byte now and then
never runs into the time limit of a read."""

SLOW_SHARE = 0.05
"""A connection below this share of the others' average rate is closed as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionCount:
    """How many connections a file should have, and what trials of other numbers have shown."""

    most: int
    wanted: int = 1
    is_opening: bool = True
    base: int = 1
    """The count before a trial; equal to `wanted` when there is no trial."""
    base_rate: float = 0.0
    """Rate at `base`, in bytes per second."""
    tries_fewer: bool = True
    """Whether the next trial is of fewer connections."""
    rest_s: float = REST_S
    quiet_until: float = 0.0
    """No trial before this time of a steady clock."""
    ceiling: int = 1 << 30
    """The most connections since a server refused more."""

    @property
    def limit(self) -> int:
        """The most connections that may be tried."""
        return min(self.most, self.ceiling)

    @property
    def limit_ahead(self) -> int:
        """The most connections with those that wait for the successor of a range under way."""
        return min(self.wanted + max(1, int(self.wanted * AHEAD_SHARE)), self.ceiling)

    def window_s(self, answer_s: float) -> float:
        """Seconds to observe before `measured`, where an answer takes `answer_s`."""
        answers = OPENING_ANSWERS * answer_s
        return max(OPENING_S if self.is_opening else WATCH_S, answers)

    def after_first_answer(self, answer_s: float) -> ConnectionCount:
        """The count once the first answer has come, after `answer_s`."""
        if not self.is_opening or self.wanted > 1 or answer_s < LATE_ANSWER_S:
            return self
        return replace(self, wanted=min(OPENING_FACTOR**2, self.limit))

    def measured(self, rate: float, now: float) -> ConnectionCount:
        """The count after this one reached `rate` over a whole window."""
        if self.is_opening:
            return self._opening(rate, now)
        if self.wanted == self.base:
            return self if now < self.quiet_until else self._trial(rate)
        if self.wanted > self.base:
            best = self.base_rate * (self.wanted / self.base - 1)
            good = rate >= self.base_rate + GAIN * best
        else:
            good = rate >= self.base_rate * (1 - LOSS)
        if good:
            return replace(self, base=self.wanted, rest_s=REST_S, quiet_until=now)
        fewer = self.base > 1 and (not self.tries_fewer or self.base >= self.limit)
        return replace(
            self,
            wanted=self.base,
            tries_fewer=fewer,
            rest_s=min(2 * self.rest_s, LONGEST_REST_S),
            quiet_until=now + self.rest_s,
        )

    def _opening(self, rate: float, now: float) -> ConnectionCount:
        """`measured` while connections are being opened."""
        opened = replace(self, is_opening=False, base=self.wanted, quiet_until=now + FIRST_TRIAL_S)
        if self.wanted > self.base and rate < OPENING_GAIN * self.base_rate:
            return replace(opened, wanted=self.base, base=self.base, tries_fewer=False)
        wanted = min(self.wanted * OPENING_FACTOR, self.limit)
        if rate / self.wanted < FAST_BYTES_PER_S and wanted > self.wanted:
            return replace(self, wanted=wanted, base=self.wanted, base_rate=rate)
        return opened

    def _trial(self, rate: float) -> ConnectionCount:
        """The count that is tried next, after this one reached `rate`."""
        ceiling = self.ceiling if self.ceiling > self.wanted else 2 * self.wanted
        raised = replace(self, base_rate=rate, ceiling=ceiling)
        if self.tries_fewer and self.wanted > 1:
            return replace(raised, wanted=self.wanted // 2)
        return replace(raised, wanted=min(2 * self.wanted, raised.limit), tries_fewer=False)

    def held(self) -> ConnectionCount:
        """The count while a rate limit, the disk or the hash is the bottleneck."""
        return replace(self, wanted=min(self.wanted, self.base))

    def refused(self, working: int, now: float) -> ConnectionCount:
        """The count after a refusal, while `working` other connections are receiving."""
        return self._reduced(max(1, min(working, self.wanted // 2)), now)

    def refused_again(self, working: int, now: float) -> ConnectionCount:
        """The count after another refusal of requests that were sent together.

        It is no further reduction: by now answers may have come to more of them.
        """
        return self._reduced(max(self.wanted, min(working, self.most)), now)

    def _reduced(self, wanted: int, now: float) -> ConnectionCount:
        return replace(
            self,
            wanted=wanted,
            base=wanted,
            is_opening=False,
            tries_fewer=False,
            ceiling=wanted,
            quiet_until=now + HOLD_S,
        )


def part_bytes(rate: float, answer_s: float, left: int, connections: int) -> int:
    """Size of the next range of a connection at `rate` bytes per second, 0 for unknown.

    `left` bytes of the file have not been received; `connections` share them.

    >>> part_bytes(0, 0, 1 << 30, 1) == LEAST_PART_BYTES
    True
    >>> part_bytes(1e9, 0, 1 << 30, 1) == MOST_PART_BYTES
    True
    """
    wished = int(rate * max(PART_S, PART_ANSWERS * answer_s))
    if not rate and answer_s >= AHEAD_ANSWER_S:
        wished = LATE_PART_BYTES
    share = left // (2 * connections) if connections > 1 else left
    return max(LEAST_PART_BYTES, min(wished, share, MOST_PART_BYTES))


def next_part(
    written: ByteRanges, taken: Iterable[ByteRange], size: int, most: int
) -> ByteRange | None:
    """The first bytes that are neither written nor given out, at most `most`; None for none.

    >>> next_part(((0, 10),), [(10, 14)], 40 << 20, 20 << 20)
    (14, 20971534)
    """
    for span in taken:
        written = add(written, span)
    for start, end in missing(written, size):
        # A short remainder is included: it is not worth a request of its own.
        return (start, end if end - start <= most + LEAST_SPLIT_BYTES else start + most)
    return None


def ends_soon(left: int, rate: float, answer_s: float, tick_s: float) -> bool:
    """Whether to request the successor of a range now, of which `left` bytes are to come.

    True where answers come late, and the answer to a request at the next look, `tick_s` later,
    would come after the range's end.

    >>> ends_soon(3_000_000, 20e6, 0.1, 0.05), ends_soon(4_000_000, 20e6, 0.1, 0.05)
    (True, False)
    >>> ends_soon(0, 20e6, 0.01, 0.05)
    False
    """
    return answer_s >= AHEAD_ANSWER_S and left <= rate * (answer_s + tick_s)


def split(under_way: Collection[tuple[ByteRange, float]], least_s: float) -> tuple[int, int] | None:
    """Which range under way to split, by index, and where its second half begins; None for none.

    Each is its remaining bytes and its rate. The one that would take longest is taken, if it takes
    longer than `least_s`: bytes of the second half that are in its socket already come twice.

    >>> split([((0, 100), 1.0), ((200, 8 << 20), 1e6)], 1.0)
    (1, 4194404)
    """
    worth = [
        ((end - start) / max(rate, 1.0), index, (start + end) // 2)
        for index, ((start, end), rate) in enumerate(under_way)
        if end - start >= 2 * LEAST_SPLIT_BYTES
    ]
    if not worth or max(worth)[0] < least_s:
        return None
    return max(worth)[1:]


def is_slow(received: int, elapsed_s: float, stall_s: float, others: Collection[float]) -> bool:
    """Whether to close a connection that received this few bytes in `elapsed_s`.

    `others` are the rates of the other connections for the same file, in bytes per second.
    """
    if elapsed_s >= stall_s:
        return received < SLOW_BYTES_PER_S * elapsed_s
    if elapsed_s < stall_s / 4 or not others:
        return False
    return received < SLOW_SHARE * elapsed_s * sum(others) / len(others)
