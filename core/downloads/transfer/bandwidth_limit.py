"""Limits on bytes per second: one for all downloads, and one for each job.

Which limit is in force, `core/service/bandwidth.py` decides.

Theory of operation. A connection calls `admit` before it receives and `spend` with the count after.
Spent bytes must be paid off in time before the next is admitted, so the average is exact for any
number of connections and any size of their reads. A job's limiter has that of all downloads as its
parent: both must admit. Connections receive in threads, so limiters are thread-safe.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from modeldeck.core.errors import InvalidRequest

BURST_S = 0.1
"""Seconds of unused time that may be made up for: threads are woken late now and then."""

STEP_S = 0.02
"""Seconds of the limit that one read may take, so that the flow is even."""

LEAST_BYTES = 2048
"""Least bytes of one read under any limit: smaller reads cost too many system calls."""

MOST_BYTES = 1 << 20
"""Most bytes of one read without a limit."""

_LONGEST_WAIT_S = 1.0
"""Most seconds until a waiting thread checks again whether it is stopped."""


class RateLimiter:
    """Limit on bytes per second, under that of its parent."""

    def __init__(self, parent: RateLimiter | None = None, rate: int | None = None) -> None:
        self._parent = parent
        self._rate: int | None = None
        self._free_at = 0.0
        self._changed: threading.Condition = parent._changed if parent else threading.Condition()
        self.set(rate)

    @property
    def rate(self) -> int | None:
        """Bytes per second; None without a limit of its own."""
        return self._rate

    @property
    def lowest_rate(self) -> int | None:
        """The lowest limit of it and its parents, in bytes per second; None without any."""
        above = self._parent.lowest_rate if self._parent is not None else None
        if self._rate is None or above is None:
            return above if self._rate is None else self._rate
        return min(self._rate, above)

    def set(self, rate: int | None) -> None:
        """Change the limit, for waiting threads as well. Raises InvalidRequest below 1."""
        if rate is not None and rate <= 0:
            raise InvalidRequest(
                "A limit is at least 1 byte per second.", "Pause the download to stop it."
            )
        with self._changed:
            now = time.monotonic()
            debt = max(0.0, self._free_at - now) * (self._rate or 0)
            self._rate = rate
            self._free_at = now + (debt / rate if rate else 0.0)
            self._changed.notify_all()

    def wake(self) -> None:
        """Let waiting threads check whether they are stopped."""
        with self._changed:
            self._changed.notify_all()

    def admit(self, stopped: Callable[[], bool]) -> int:
        """Block until bytes may be received; return how many at most. 0 when `stopped`."""
        with self._changed:
            while not stopped():
                if (wait := self.wait_s()) <= 0:
                    return self.most_bytes()
                self._changed.wait(min(wait, _LONGEST_WAIT_S))
        return 0

    def spend(self, count: int) -> None:
        """Charge received bytes to this limit and its parents."""
        with self._changed:
            if self._rate is not None:
                earliest = time.monotonic() - BURST_S
                self._free_at = max(self._free_at, earliest) + count / self._rate
            if self._parent is not None:
                self._parent.spend(count)

    def wait_s(self) -> float:
        """Seconds until bytes may be received; 0 or less for now."""
        own = self._free_at - time.monotonic() if self._rate is not None else 0.0
        return max(own, self._parent.wait_s()) if self._parent is not None else own

    def most_bytes(self) -> int:
        """Most bytes of one read."""
        most = MOST_BYTES if self._parent is None else self._parent.most_bytes()
        if self._rate is None:
            return most
        return min(most, max(LEAST_BYTES, int(self._rate * STEP_S)))


class RateLimits:
    """The limiter of all downloads, and those of the jobs under it."""

    def __init__(self) -> None:
        self.all = RateLimiter()
        self._jobs: dict[str, RateLimiter] = {}

    def of(self, job_id: str) -> RateLimiter:
        """The limiter of a job; it has no limit of its own at first."""
        if (limiter := self._jobs.get(job_id)) is None:
            limiter = self._jobs[job_id] = RateLimiter(self.all)
        return limiter

    def forget(self, job_id: str) -> None:
        """Remove the limiter of a job that was removed."""
        self._jobs.pop(job_id, None)
