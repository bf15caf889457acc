"""Limits of rate (token bucket) and concurrency for each caller. Pure but for the clock."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

CALLERS = 4096
"""Callers remembered at most; then the least recent one is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Limits of each caller."""

    per_s: float
    """Requests a second on average."""
    burst: float
    """Requests at once after a pause."""
    at_once: int
    """Requests running at once."""


@dataclass(slots=True)
class _TokenBucket:
    """Token bucket and number of running requests of one caller."""

    left: float
    seen_at: float
    running: int = 0


class RequestLimiter:
    """Rate and concurrency limits of all callers, each identified by a key."""

    def __init__(self, allowance: Allowance, clock: Callable[[], float] = time.monotonic) -> None:
        self._allowance = allowance
        self._clock = clock
        self._buckets: OrderedDict[str, _TokenBucket] = OrderedDict()

    def ask(self, key: str) -> float:
        """Count one request: 0 where it is allowed, else seconds until the next one is."""
        now = self._clock()
        bucket = self._bucket(key, now)
        allowed = self._allowance
        bucket.left = min(allowed.burst, bucket.left + (now - bucket.seen_at) * allowed.per_s)
        bucket.seen_at = now
        if bucket.left < 1:
            return (1 - bucket.left) / allowed.per_s
        bucket.left -= 1
        return 0

    def enter(self, key: str) -> bool:
        """Count a running request; False at the limit. After True, `leave` must follow."""
        bucket = self._bucket(key, self._clock())
        if bucket.running >= self._allowance.at_once:
            return False
        bucket.running += 1
        return True

    def leave(self, key: str) -> None:
        """A running request has ended."""
        if (bucket := self._buckets.get(key)) is not None:
            bucket.running -= 1

    def _bucket(self, key: str, now: float) -> _TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            self._make_room()
            bucket = self._buckets[key] = _TokenBucket(self._allowance.burst, now)
        self._buckets.move_to_end(key)
        return bucket

    def _make_room(self) -> None:
        """Forget the least recent caller, preferably one without running requests."""
        if len(self._buckets) >= CALLERS:
            idle = (key for key, bucket in self._buckets.items() if not bucket.running)
            del self._buckets[next(idle, next(iter(self._buckets)))]
