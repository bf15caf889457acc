"""A timer that costs little to set again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """A timer that is cheap to set again: an earlier asyncio timer is kept and checked later."""

    __slots__ = ("_at", "_checked_at", "_expired", "_handle", "_held", "_left_s", "_loop")

    def __init__(self, expired: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._expired = expired
        self._at: float | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._checked_at = 0.0
        """Time of `_handle`; `TimerHandle.when` is a call more for each request."""
        self._held = False
        self._left_s: float | None = None
        """While it is held: what is left of the time."""

    def set(self, seconds: float) -> None:
        """Expire in `seconds`; replaces an earlier time."""
        if self._held:
            self._left_s = seconds
            return
        self._at = at = self._loop.time() + seconds
        if self._handle is not None:
            if self._checked_at <= at:
                return
            self._handle.cancel()
        self._call_at(at)

    def clear(self) -> None:
        """Do not expire."""
        self._at = self._left_s = None

    def hold(self) -> None:
        """Let no time pass until `release`."""
        if not self._held:
            self._held = True
            self._left_s = None if self._at is None else max(0.0, self._at - self._loop.time())
            self._at = None

    def release(self) -> None:
        """Let time pass again."""
        self._held = False
        if (left_s := self._left_s) is not None:
            self._left_s = None
            self.set(left_s)

    def close(self) -> None:
        """Clear, and cancel the asyncio timer."""
        self.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _call_at(self, at: float) -> None:
        self._checked_at = at
        self._handle = self._loop.call_at(at, self._check)

    def _check(self) -> None:
        self._handle = None
        if self._at is None:
            return
        if self._loop.time() < self._at:
            self._call_at(self._at)
        else:
            self._at = None
            self._expired()
