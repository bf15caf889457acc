"""Congestion control: a rate limit that makes downloads yield to other traffic on the same link.

Theory of operation. A saturated link delays every packet. The core measures the round-trip time of
pings to each attached front end; the excess over the shortest one is queueing delay. Above the
target the limit is halved; below it the limit grows by a tenth every second, until it no longer
slows the downloads and is removed. The target is LEDBAT's (RFC 6817, section 2.5), the increase and
decrease are TCP's (RFC 5681). It sees only links that a front end shares with the downloads: a
front end on the same machine measures hardly any delay. Pure: the caller has the clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

TARGET_S = 0.1
"""Largest acceptable queueing delay in seconds: RFC 6817 allows no more."""

SLOW_PINGS = 2
"""Consecutive slow pings before the limit is lowered: a single one may have other causes."""

FLOOR = 64 << 10
"""Lowest limit in bytes per second, so that downloads always make progress."""

GROWTH = 1.1
"""Factor by which the limit grows each second without congestion."""

FORGETTING = 1.002
"""Factor by which the shortest round trip ages with each ping: routes change within minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLatency:
    """Round-trip times of one front end."""

    best_s: float | None = None
    """Shortest recent round trip in seconds: the link without queueing."""
    delay_s: float = 0.0
    """Queueing delay of the last round trip in seconds."""
    ping_sent_at: float | None = None
    """When the unanswered ping was sent; None if there is none."""

    def ping_sent(self, now: float) -> ClientLatency:
        """Record that a ping was sent."""
        return replace(self, ping_sent_at=now)

    def ping_answered(self, now: float) -> ClientLatency:
        """Record that the ping was answered."""
        if self.ping_sent_at is None:
            return self
        took = now - self.ping_sent_at
        best = took if self.best_s is None else min(took, self.best_s * FORGETTING)
        return ClientLatency(best_s=best, delay_s=took - best)

    def current_delay_s(self, now: float) -> float:
        """Return the queueing delay now in seconds; an overdue answer counts as well."""
        if self.ping_sent_at is None or self.best_s is None:
            return self.delay_s
        return max(self.delay_s, now - self.ping_sent_at - self.best_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class CongestionControl:
    """The rate limit of downloads, and the recent slow pings."""

    limit: int | None = None
    """Bytes per second; None without congestion."""
    slow_pings: int = 0

    def after(self, delay_s: float, rate: float) -> CongestionControl:
        """Return the state a second later, by the longest delay of any front end and the rate."""
        if delay_s > TARGET_S:
            slow_pings = self.slow_pings + 1
            if slow_pings < SLOW_PINGS:
                return replace(self, slow_pings=slow_pings)
            now = rate if self.limit is None else min(rate, self.limit)
            return CongestionControl(limit=max(FLOOR, int(now / 2)))
        if self.limit is None or self.limit > 2 * max(rate, FLOOR):
            return CongestionControl()
        return CongestionControl(limit=int(self.limit * GROWTH) + 1)
