"""How often, and how much at once, one caller may ask. The clock is the only input and output."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

CALLERS = 4096
"""Callers that are remembered; of more, the one that has been quiet for longest is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What each caller may do."""

    per_s: float
    """Requests a second, in the long run."""
    burst: float
    """Requests at once after a pause."""
    at_once: int
    """Requests under way."""


@dataclass(slots=True)
class _TokenBucket:
    """What one caller has left (a token bucket), and what it has under way."""

    left: float
    seen_at: float
    under_way: int = 0


class RequestLimiter:
    """Keeps the accounts of all callers, each known by a key."""

    def __init__(self, allowance: Allowance, clock: Callable[[], float] = time.monotonic) -> None:
        self._allowance = allowance
        self._clock = clock
        self._accounts: OrderedDict[str, _TokenBucket] = OrderedDict()

    def ask(self, key: str) -> float:
        """Count one request: 0 when it may pass, else in how many seconds the next one may."""
        now = self._clock()
        account = self._account(key, now)
        allowed = self._allowance
        account.left = min(allowed.burst, account.left + (now - account.seen_at) * allowed.per_s)
        account.seen_at = now
        if account.left < 1:
            return (1 - account.left) / allowed.per_s
        account.left -= 1
        return 0

    def enter(self, key: str) -> bool:
        """Whether one more may be under way. If so, `leave` must follow."""
        account = self._account(key, self._clock())
        if account.under_way >= self._allowance.at_once:
            return False
        account.under_way += 1
        return True

    def leave(self, key: str) -> None:
        """One that entered is done."""
        if (account := self._accounts.get(key)) is not None:
            account.under_way -= 1

    def _account(self, key: str, now: float) -> _TokenBucket:
        account = self._accounts.get(key)
        if account is None:
            self._make_room()
            account = self._accounts[key] = _TokenBucket(self._allowance.burst, now)
        self._accounts.move_to_end(key)
        return account

    def _make_room(self) -> None:
        """Forget the quietest; never one with something under way, unless all have."""
        if len(self._accounts) >= CALLERS:
            idle = (key for key, account in self._accounts.items() if not account.under_way)
            del self._accounts[next(idle, next(iter(self._accounts)))]
