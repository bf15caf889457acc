"""The way out of one connection: what is written, and how long a peer may take to read it."""

from __future__ import annotations

import asyncio

from modeldeck.core.api.http.limits import ConnectionLimits, Deadline


class PeerGone(Exception):
    """The peer is gone, or its socket is closing: there is nobody to send to."""


class SocketWriter:
    """Writes to a transport, and cuts a peer off that does not take what is sent.

    A slow peer is waited for as long as it reads on: `ConnectionLimits.write_floor_bytes` in
    `write_s`.
    """

    def __init__(self, transport: asyncio.Transport, limits: ConnectionLimits) -> None:
        self.transport = transport
        self.gone = False
        self._limits = limits
        self._free = asyncio.Event()
        self._free.set()
        self._deadline = Deadline(self._expired)
        self._unsent = 0
        self._is_closing = False

    @property
    def blocked(self) -> bool:
        """Whether the peer has more to read than is good."""
        return not self._free.is_set()

    def write(self, data: bytes) -> None:
        """Send, sooner or later."""
        self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the peer takes what is sent. Raises Gone."""
        if not self._free.is_set():
            await self._free.wait()
        if self.gone:
            raise PeerGone

    def close(self, within_s: float) -> None:
        """End the connection when what was written is sent; cut it where that takes too long."""
        self._is_closing = True
        self.transport.close()
        self._deadline.set(within_s)

    # What the transport tells

    def pause(self) -> None:
        """The peer does not take what we send."""
        self._free.clear()
        self._unsent = self.transport.get_write_buffer_size()
        self._deadline.set(self._limits.write_s)

    def resume(self) -> None:
        """The peer takes it again."""
        self._free.set()
        if not self._is_closing:
            self._deadline.clear()

    def lost(self) -> None:
        """The connection is over."""
        self.gone = True
        self._deadline.close()
        self._free.set()

    def _expired(self) -> None:
        """Time is up: go on with a peer that reads, if slowly; cut off one that does not."""
        unsent = self.transport.get_write_buffer_size()
        if self._unsent - unsent < self._limits.write_floor_bytes:
            self.transport.abort()
            return
        self._unsent = unsent
        self._deadline.set(self._limits.write_s)
