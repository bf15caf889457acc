"""Request counters of one listener."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

BUCKETS_S = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
"""Upper bounds of the histogram's buckets, from a cached response to a whole chat."""

UNROUTED = "none"
"""Label for requests without a route; clients choose paths, so those are no labels."""

METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})


@dataclass(slots=True)
class RouteMetrics:
    """Counters of one route and method."""

    classes: list[int] = field(default_factory=lambda: [0] * 6)
    """Responses by the first digit of their status."""
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    seconds: float = 0.0
    sent_bytes: int = 0


class RequestMetrics:
    """Counters of one listener."""

    def __init__(self) -> None:
        self.tallies: dict[tuple[str, str], RouteMetrics] = {}
        """Counters by route template and method."""
        self.connections = 0
        """Open connections."""
        self.sockets = 0
        """Open WebSockets."""
        self.refused: Counter[str] = Counter()
        """Refused connections, by reason."""

    def count(
        self, template: str, method: str, status: int, seconds: float, sent_bytes: int
    ) -> None:
        """Count a response."""
        key = template, method
        tally = self.tallies.get(key)
        if tally is None:
            if method not in METHODS:
                key = template, "other"
            tally = self.tallies.setdefault(key, RouteMetrics())
        tally.classes[status // 100] += 1
        tally.buckets[bisect_left(BUCKETS_S, seconds)] += 1
        tally.seconds += seconds
        tally.sent_bytes += sent_bytes
