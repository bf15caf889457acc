"""Limits of size and time for each connection."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Limits for what one client can make us hold or wait for. In bytes and seconds."""

    head_bytes: int = 32 << 10
    """Request line and headers together; nginx takes 32 KiB, Apache 8 KiB a line."""
    body_bytes: int = 1 << 20
    """One body; our largest is a model's record of a few KiB. Routes can have their own limit."""
    asking_bytes: int = 64 << 20
    """One body of a route that asks a model: it may hold a long text, or images. A core sets it to
    `api.body_limit_bytes`."""
    held_bytes: int = 256 << 20
    """Bodies held by all connections together, being read or until they are answered."""
    connections: int = 800
    """Open connections. A core sets it by its limit of open files; see `api.http.descriptors`."""
    pipelined: int = 16
    """Pipelined requests read ahead of the one that is being answered."""
    ahead_bytes: int = 1 << 20
    """Bodies of the requests read ahead."""
    message_bytes: int = 256 << 10
    """One WebSocket message of a client; they are short."""
    head_s: float = 10
    """From the first byte of a request to the end of its head; also for a silent new connection."""
    body_s: float = 60
    """For the rest of a request, and then a second for each `body_floor_bytes` of its length."""
    body_floor_bytes: int = 256 << 10
    idle_s: float = 75
    """Between requests; nginx's default."""
    write_s: float = 60
    """Between checks that a client with a full send buffer still reads."""
    write_floor_bytes: int = 64 << 10
    """Bytes a client must read in `write_s`: 1 KiB/s, a fifth of a modem's speed."""
    linger_s: float = 2
    """Reading on after a refusal, so that the answer is not lost to a reset (RFC 9112, 9.6)."""
    ping_s: float = 20
    """Between pings on a WebSocket; a client silent from one to the next counts as gone."""
    close_s: float = 5
    """For the closing handshake of a WebSocket."""
    grace_s: float = 5
    """For running requests when the listener stops."""
