"""Writing to the socket of one connection, with a time limit for clients that do not read."""

from __future__ import annotations

import asyncio

from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.concurrency.deadline import Deadline


class PeerGone(Exception):
    """The client is gone, or its socket is closing: nothing can be sent."""


class SocketWriter:
    """Writes to a transport, and aborts it when the client does not read.

    A slow client may go on as long as it reads at least `ConnectionLimits.write_floor_bytes` in
    each `write_s`.
    """

    __slots__ = (
        *("transport", "gone", "blocked"),
        *("_limits", "_writable", "_deadline", "_unsent", "_is_closing"),
    )

    def __init__(self, transport: asyncio.Transport, limits: ConnectionLimits) -> None:
        self.transport = transport
        self.gone = False
        self.blocked = False
        """Whether the send buffer is full."""
        self._limits = limits
        self._writable = asyncio.Event()
        self._writable.set()
        self._deadline = Deadline(self._expired)
        self._unsent = 0
        self._is_closing = False

    def write(self, data: bytes) -> None:
        """Send `data`, or add it to the send buffer."""
        self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the send buffer has room. Raises PeerGone."""
        if self.blocked:
            await self._writable.wait()
        if self.gone:
            raise PeerGone

    def close(self, within_s: float) -> None:
        """Close when the send buffer is empty; abort where that takes over `within_s` seconds."""
        self._is_closing = True
        self.transport.close()
        self._deadline.set(within_s)

    # Called by the connection

    def pause(self) -> None:
        """The send buffer is full: start the time limit."""
        self.blocked = True
        self._writable.clear()
        self._unsent = self.transport.get_write_buffer_size()
        self._deadline.set(self._limits.write_s)

    def resume(self) -> None:
        """The send buffer has room again."""
        self.blocked = False
        self._writable.set()
        if not self._is_closing:
            self._deadline.clear()

    def lost(self) -> None:
        """The connection is closed: wake `drain`."""
        self.gone = True
        self.blocked = False
        self._deadline.close()
        self._writable.set()

    def _expired(self) -> None:
        """Abort where the client read less than `write_floor_bytes`, else start the time again."""
        unsent = self.transport.get_write_buffer_size()
        if self._unsent - unsent < self._limits.write_floor_bytes:
            self.transport.abort()
            return
        self._unsent = unsent
        self._deadline.set(self._limits.write_s)
