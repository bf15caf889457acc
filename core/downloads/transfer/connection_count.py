"""How many connections, and which bytes for each: decisions about one file, without any I/O.

A file begins with one connection. Unless that is fast by itself, more are opened at once, up to the
most: many servers and long ways hold each connection back. After that it is tried, now and then and
over whole seconds, whether half of them bring as much, since each costs time on the processor, or
twice as many bring more. Whoever refuses (429, 503, a broken connection) gets fewer, and no more
for a while; so does what a rate limit, the disk or the hash holds back.

Parts are given out from the front of the file, since the hash follows it. Their size follows the
speed, so that the pause between two stays small, and shrinks toward the end, so that all
connections end together; the last ones are split while they run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from modeldeck.core.downloads.ranges import ByteRange, ByteRanges, add, missing

OPENING_S = 0.1
"""How long a width is watched while connections are opened, at least, and:"""

OPENING_ANSWERS = 2.0
"""so many times what an answer takes."""

OPENING_FACTOR = 4

OPENING_GAIN = 1.25
"""So many times as much must come for the newly opened ones to stay: little, since new connections
are slow at first, but more than where the line, or the processor, is what is short.
"""

FAST_BYTES_PER_S = 100e6
"""When a connection brings this much, more of them are tried with care only."""

WATCH_S = 1.0
"""How long a width is watched before it is judged: servers that hold back send in bursts."""

FIRST_TRIAL_S = 5.0
"""No trial before this: it would cost a short transfer more than it brings."""

REST_S = 15.0
"""After a trial that brought nothing, the next comes this much later, then twice that, and so on:
lines change, but not often."""

LONGEST_REST_S = 240.0

GAIN = 0.3
"""Of what more connections could bring at best, so much must come for them to stay."""

LOSS = 0.1
"""What fewer connections may bring less."""

HOLD_S = 60.0
"""After a refusal."""

LEAST_PART_BYTES = 4 << 20
MOST_PART_BYTES = 32 << 20
"""What a kill may cost each connection."""

PART_S = 0.25
"""How long a part should take, at least, and:"""

PART_ANSWERS = 10.0
"""so many times what its answer takes, so that waiting for answers costs a tenth at most."""

LEAST_SPLIT_BYTES = 1 << 20
"""Less is not worth another request."""

LEAST_SPLIT_S = 0.2
"""Nor is what comes sooner, or within a few times what an answer takes."""

SLOW_BYTES_PER_S = 1024
"""A connection that brings less than this over `stall_s` is given up: a slow loris brings a byte
now and then, and never stalls."""

SLOW_SHARE = 0.05
"""As is one that brings less than this share of what the others bring on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionCount:
    """How many connections a file should have, and what is known about other numbers."""

    most: int
    wanted: int = 1
    is_opening: bool = True
    base: int = 1
    """The width before a trial; equal to `wanted` while there is none."""
    base_rate: float = 0.0
    """What it brought, in bytes per second."""
    tries_fewer: bool = True
    """What the next trial is."""
    rest_s: float = REST_S
    quiet_until: float = 0.0
    """No trial before this moment, of any steady clock."""
    ceiling: int = 1 << 30
    """What a refusal said is too many."""

    @property
    def limit(self) -> int:
        """The most connections that may be tried."""
        return min(self.most, self.ceiling)

    def window_s(self, answer_s: float) -> float:
        """How long to watch before `judged`, where an answer takes `answer_s`."""
        answers = OPENING_ANSWERS * answer_s
        return max(OPENING_S if self.is_opening else WATCH_S, answers)

    def judged(self, rate: float, now: float) -> ConnectionCount:
        """The width after this one brought `rate` over a whole window."""
        if self.is_opening:
            return self._opened(rate, now)
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

    def _opened(self, rate: float, now: float) -> ConnectionCount:
        """The same, while connections are still opened."""
        settled = replace(self, is_opening=False, base=self.wanted, quiet_until=now + FIRST_TRIAL_S)
        if self.wanted > self.base and rate < OPENING_GAIN * self.base_rate:
            return replace(settled, wanted=self.base, base=self.base, tries_fewer=False)
        wanted = min(self.wanted * OPENING_FACTOR, self.limit)
        if rate / self.wanted < FAST_BYTES_PER_S and wanted > self.wanted:
            return replace(self, wanted=wanted, base=self.wanted, base_rate=rate)
        return settled

    def _trial(self, rate: float) -> ConnectionCount:
        """The width that is tried next, after this one brought `rate`."""
        ceiling = self.ceiling if self.ceiling > self.wanted else 2 * self.wanted
        there = replace(self, base_rate=rate, ceiling=ceiling)
        if self.tries_fewer and self.wanted > 1:
            return replace(there, wanted=self.wanted // 2)
        return replace(there, wanted=min(2 * self.wanted, there.limit), tries_fewer=False)

    def held(self) -> ConnectionCount:
        """The width while something else holds it back: a limit, the disk or the hash."""
        return replace(self, wanted=min(self.wanted, self.base))

    def refused(self, working: int, now: float) -> ConnectionCount:
        """The width after a refusal, while `working` other connections go on."""
        wanted = max(1, min(working, self.wanted // 2))
        return replace(
            self,
            wanted=wanted,
            base=wanted,
            is_opening=False,
            tries_fewer=False,
            ceiling=wanted,
            quiet_until=now + HOLD_S,
        )


def part_bytes(rate: float, answer_s: float, left: int, width: int) -> int:
    """Size of the next part of a connection that brought `rate` (0 for not known yet).

    `left` bytes are not given out; `width` connections share them.

    >>> part_bytes(0, 0, 1 << 30, 1) == LEAST_PART_BYTES
    True
    >>> part_bytes(1e9, 0, 1 << 30, 1) == MOST_PART_BYTES
    True
    """
    wished = int(rate * max(PART_S, PART_ANSWERS * answer_s))
    share = left // (2 * width) if width > 1 else left
    return max(LEAST_PART_BYTES, min(wished, share, MOST_PART_BYTES))


def next_part(
    there: ByteRanges, taken: Iterable[ByteRange], size: int, most: int
) -> ByteRange | None:
    """The first bytes that are neither there nor given out, at most `most`; None for none.

    >>> next_part(((0, 10),), [(10, 14)], 40 << 20, 20 << 20)
    (14, 20971534)
    """
    for span in taken:
        there = add(there, span)
    for start, end in missing(there, size):
        # A little rest is taken along: it is not worth a request of its own.
        return (start, end if end - start <= most + LEAST_SPLIT_BYTES else start + most)
    return None


def split(under_way: Collection[tuple[ByteRange, float]], least_s: float) -> tuple[int, int] | None:
    """Which of the parts under way to split, and where its second half begins; None for none.

    Each is what it still has to bring, and its rate. The one that would take longest is taken, if
    it takes longer than `least_s`: what lies in its socket behind the middle comes twice.

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


def is_slow(brought: int, elapsed_s: float, stall_s: float, others: Collection[float]) -> bool:
    """Whether to give up a connection that brought so little in `elapsed_s`.

    `others` are the rates of the other connections for the same file.
    """
    if elapsed_s >= stall_s:
        return brought < SLOW_BYTES_PER_S * elapsed_s
    if elapsed_s < stall_s / 4 or not others:
        return False
    return brought < SLOW_SHARE * elapsed_s * sum(others) / len(others)
