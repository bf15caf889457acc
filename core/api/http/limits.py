"""Limits of the listener, and the timer that holds a peer to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What one client can make us hold, and for how long. Bytes and seconds."""

    head_bytes: int = 32 << 10
    """Request line and headers together; nginx takes 32 KiB, Apache 8 KiB a line."""
    body_bytes: int = 1 << 20
    """A body; our largest is a model's record of a few KiB. Routes can have their own."""
    held_bytes: int = 256 << 20
    """Bodies that wait or are being read, of all connections together."""
    connections: int = 800
    """A core takes what its limit of open files leaves room for; see `api.http.descriptors`."""
    pipelined: int = 16
    """Requests read ahead of the one that is being answered."""
    ahead_bytes: int = 1 << 20
    """Their bodies."""
    message_bytes: int = 256 << 10
    """A message on a socket; clients have little to say there."""
    head_s: float = 10
    """From the first byte of a request to the end of its head; also for a silent new connection."""
    body_s: float = 60
    """For the rest of a request: 1 MiB in a minute is 17 KiB/s."""
    idle_s: float = 75
    """Between requests; nginx's default."""
    write_s: float = 60
    """For a peer that does not take what we send."""
    write_floor_bytes: int = 64 << 10
    """What a peer has to take in that time: 1 KiB/s, a fifth of a modem's."""
    linger_s: float = 2
    """Reading on after a refusal, so that the answer is not lost to a reset (RFC 9112, 9.6)."""
    ping_s: float = 20
    """Between pings on a socket; a peer that was silent from one to the next is gone."""
    close_s: float = 5
    """For the closing handshake of a socket."""
    grace_s: float = 5
    """For requests that are running when the listener stops."""


class Deadline:
    """A timer that is set anew far more often than it expires, and costs little for it."""

    def __init__(self, expired: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._expired = expired
        self._at: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Expire that many seconds from now, instead of whenever it was to expire."""
        self._at = self._loop.time() + seconds
        if self._handle is not None and self._handle.when() > self._at:
            self._handle.cancel()
            self._handle = None
        if self._handle is None:
            self._handle = self._loop.call_at(self._at, self._check)

    def clear(self) -> None:
        """Do not expire."""
        self._at = None

    def close(self) -> None:
        """Let go of the timer."""
        self._at = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _check(self) -> None:
        self._handle = None
        if self._at is None:
            return
        if self._loop.time() < self._at:
            self._handle = self._loop.call_at(self._at, self._check)
        else:
            self._at = None
            self._expired()
