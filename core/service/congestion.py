"""The good neighbour: downloads that give way when somebody else suffers on the same line.

Theory of operation. A line that is full makes everything on it wait. The core measures how long
each attached front end takes to answer a ping; what that takes more than at its best is time spent
waiting in line. Above the target the limit is halved, below it the limit grows by a tenth a second,
until it holds nothing back any more and is lifted. The target is that of LEDBAT (RFC 6817, section
2.5), the way of going is TCP's (RFC 5681). It sees only lines that a front end shares with the
downloads: one on the machine itself hardly ever waits. Pure: whoever has a clock calls this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

TARGET_S = 0.1
"""Waiting that is still good: RFC 6817 allows no more."""

STRIKES = 2
"""So often in a row it must have been bad: one late answer says nothing about the line."""

FLOOR = 64 << 10
"""Bytes per second that are left to the downloads, however bad it is: they must end some day."""

GROWTH = 1.1
"""Each second that all is well."""

FORGETTING = 1.002
"""The best round trip counts less with each answer: routes change, in minutes and not seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLatency:
    """What one front end's answers say of the line."""

    best_s: float | None = None
    """The shortest round trip lately: the line when nothing waits in it."""
    waiting_s: float = 0.0
    """What the last one took more."""
    asked_at: float | None = None
    """When it was asked what it has not answered yet."""

    def asked(self, now: float) -> ClientLatency:
        """A ping was sent."""
        return replace(self, asked_at=now)

    def answered(self, now: float) -> ClientLatency:
        """The ping came back."""
        if self.asked_at is None:
            return self
        took = now - self.asked_at
        best = took if self.best_s is None else min(took, self.best_s * FORGETTING)
        return ClientLatency(best_s=best, waiting_s=took - best)

    def waits_s(self, now: float) -> float:
        """How long it waits in line now; an answer that is overdue counts as well."""
        if self.asked_at is None or self.best_s is None:
            return self.waiting_s
        return max(self.waiting_s, now - self.asked_at - self.best_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class CongestionControl:
    """How far the downloads give way."""

    limit: int | None = None
    """Bytes per second; None while there is no need."""
    strikes: int = 0

    def after(self, waits_s: float, rate: float) -> CongestionControl:
        """A second later: the longest wait of any front end, and what the downloads take."""
        if waits_s > TARGET_S:
            strikes = self.strikes + 1
            if strikes < STRIKES:
                return replace(self, strikes=strikes)
            now = rate if self.limit is None else min(rate, self.limit)
            return CongestionControl(limit=max(FLOOR, int(now / 2)))
        if self.limit is None or self.limit > 2 * max(rate, FLOOR):
            return CongestionControl()
        return CongestionControl(limit=int(self.limit * GROWTH) + 1)
