"""How many bytes a second may come: for all downloads together, and for each job by itself.

Theory of operation. Whoever receives asks first (`admit`), takes what is there, and says how much
it was (`spend`). What was spent must be paid off in time before anybody is admitted again, so the
average is exact however many connections there are and however much each of them brings. A job's
limiter has the one of all downloads as its parent: both must admit. Connections receive in threads,
so all of this is safe between threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from modeldeck.core.errors import InvalidRequest

BURST_S = 0.1
"""Time that was not used may be made up for this far back: threads are woken late now and then."""

STEP_S = 0.02
"""A limited connection takes what this time allows, so that the flow is even."""

LEAST_BYTES = 2048
"""Taken at once under the smallest limit: below it the system calls would be the cost."""

MOST_BYTES = 1 << 20
"""Taken at once without a limit."""

_LONGEST_WAIT_S = 1.0
"""Whoever waits looks this often whether it was stopped."""


class RateLimiter:
    """One limit, under that of its parent."""

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
        """Bytes per second that it and its parents allow; None without any limit."""
        above = self._parent.lowest_rate if self._parent is not None else None
        if self._rate is None or above is None:
            return above if self._rate is None else self._rate
        return min(self._rate, above)

    def set(self, rate: int | None) -> None:
        """Change the limit; whoever waits goes by the new one at once. Raises InvalidRequest."""
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
        """Let everybody who waits look whether they were stopped."""
        with self._changed:
            self._changed.notify_all()

    def admit(self, stopped: Callable[[], bool]) -> int:
        """Wait until something may be taken; how many bytes at most. 0 when `stopped`. Blocks."""
        with self._changed:
            while not stopped():
                if (wait := self.wait_s()) <= 0:
                    return self.most_bytes()
                self._changed.wait(min(wait, _LONGEST_WAIT_S))
        return 0

    def spend(self, count: int) -> None:
        """Note that so many bytes were taken, here and above."""
        with self._changed:
            if self._rate is not None:
                earliest = time.monotonic() - BURST_S
                self._free_at = max(self._free_at, earliest) + count / self._rate
            if self._parent is not None:
                self._parent.spend(count)

    def wait_s(self) -> float:
        """Seconds until something may be taken; 0 or less for now."""
        own = self._free_at - time.monotonic() if self._rate is not None else 0.0
        return max(own, self._parent.wait_s()) if self._parent is not None else own

    def most_bytes(self) -> int:
        """How much may be taken at once."""
        most = MOST_BYTES if self._parent is None else self._parent.most_bytes()
        if self._rate is None:
            return most
        return min(most, max(LEAST_BYTES, int(self._rate * STEP_S)))


class RateLimits:
    """The limit of all downloads, and one for each job under it."""

    def __init__(self) -> None:
        self.all = RateLimiter()
        self._jobs: dict[str, RateLimiter] = {}

    def of(self, job_id: str) -> RateLimiter:
        """The limiter of one job, without a limit of its own until it is given one."""
        if (limiter := self._jobs.get(job_id)) is None:
            limiter = self._jobs[job_id] = RateLimiter(self.all)
        return limiter

    def forget(self, job_id: str) -> None:
        """Drop the limit of a job that is no more."""
        self._jobs.pop(job_id, None)
