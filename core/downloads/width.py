"""How many connections, and which bytes for each: decisions about one file, without any I/O.

A file begins with one connection. While it flows, connections are doubled for as long as that
brings speed: where a server or a long way holds each of them back, that is up to the most; where
one fills the line, or the disk or the hash cannot follow, it stays one, since each more only costs
time on the processor. Whoever refuses (429, 503, a broken connection) gets fewer, and none more for
a while.

Parts are given out from the front of the file, since the hash follows it. Their size follows the
speed, so that the pause between two stays small, and shrinks toward the end, so that all
connections end together; the last ones are split while they run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from core.downloads.parts import Span, Spans, add, missing

WINDOW_S = 0.1
"""How long a width is watched, at least, before it is judged."""

WINDOW_ANSWERS = 4.0
"""And at least so many times what an answer takes: new connections come up to speed by then."""

GAIN = 0.3
"""Of what twice the connections could bring at best, so much must come for them to stay."""

REST_S = 15.0
"""After more brought nothing, they are tried again this much later: lines change."""

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
class Width:
    """How many connections a file should have, and what is known about having more."""

    most: int
    wanted: int = 1
    base: int = 1
    """The width before the last doubling."""
    base_rate: float | None = None
    """What it brought, in bytes per second; None before anything was judged."""
    ceiling: int = 1 << 30
    """What a refusal said is too many."""
    quiet_until: float = 0.0
    """No doubling before this moment, of any steady clock."""

    @property
    def limit(self) -> int:
        """The most connections that may be tried."""
        return min(self.most, self.ceiling)

    def judged(self, rate: float, now: float) -> Width:
        """The width after this one brought `rate` over a whole window."""
        if self.wanted > self.base and self.base_rate is not None:
            best = self.base_rate * (self.wanted / self.base - 1)
            if rate < self.base_rate + GAIN * best:
                return replace(self, wanted=self.base, base_rate=None, quiet_until=now + REST_S)
        if now < self.quiet_until:
            return replace(self, base=self.wanted, base_rate=rate)
        ceiling = self.ceiling
        if ceiling <= self.wanted and self.quiet_until:
            ceiling = self.wanted * 2  # The refusal was long ago: one step further may go well.
        grown = replace(self, ceiling=ceiling, base=self.wanted, base_rate=rate)
        return replace(grown, wanted=min(self.wanted * 2, grown.limit))

    def held(self) -> Width:
        """The width while something else holds it back: a limit, the disk or the hash."""
        return replace(self, wanted=self.base, base_rate=None)

    def refused(self, working: int, now: float) -> Width:
        """The width after a refusal, while `working` other connections go on."""
        wanted = max(1, min(working, self.wanted // 2))
        return replace(
            self,
            wanted=wanted,
            base=wanted,
            base_rate=None,
            ceiling=wanted,
            quiet_until=now + HOLD_S,
        )


def window_s(answer_s: float) -> float:
    """How long a width is watched where an answer takes `answer_s`."""
    return max(WINDOW_S, WINDOW_ANSWERS * answer_s)


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


def next_part(there: Spans, taken: Iterable[Span], size: int, most: int) -> Span | None:
    """The first bytes that are neither there nor given out, at most `most`; None for none.

    >>> next_part(((0, 10),), [(10, 14)], 40, 20)
    (14, 34)
    """
    for span in taken:
        there = add(there, span)
    for start, end in missing(there, size):
        # A little rest is taken along: it is not worth a request of its own.
        return (start, end if end - start <= most + LEAST_SPLIT_BYTES else start + most)
    return None


def split(under_way: Collection[tuple[Span, float]], least_s: float) -> tuple[int, int] | None:
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
