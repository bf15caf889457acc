"""A connection after its upgrade to WebSocket (RFC 6455), by websockets' sans-I/O layer.

`handshake` only computes the answer from the head that httptools parsed; nothing is serialised and
parsed again. After it a `Protocol` in the state OPEN owns the frames.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from websockets.datastructures import Headers
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import OPEN, Protocol, Side
from websockets.server import ServerProtocol

from core.api.head import Head
from core.api.timing import Deadline, Limits

_LOG = logging.getLogger("core.api.websocket")
_LOG.setLevel(logging.WARNING)  # the library reports every closed connection as news

REASON_BYTES = 120
"""Of a close frame: 123 (RFC 6455, section 5.5)."""


class Gone(Exception):
    """The socket is closing or closed; its handler has nothing left to do."""


def _nothing() -> None:
    """What a pong leads to that nobody waits for."""


def handshake(head: Head) -> Response:
    """The answer to an opening handshake: 101, or the refusal of a malformed one."""
    headers = Headers(list(head.headers.items()))
    request = Request(head.target, headers, head.method, f"HTTP/{head.version}")
    response = ServerProtocol(logger=_LOG).accept(request)
    if response.status_code == 400 and head.headers.get("sec-websocket-version") != "13":
        response.headers["Sec-WebSocket-Version"] = "13"
    return response


class Socket:
    """Implements `core.api.wire.WebSocket` on a transport."""

    def __init__(
        self,
        transport: asyncio.Transport,
        drain: Callable[[], Awaitable[None]],
        opening: Response,
        limits: Limits,
        on_closing: Callable[[], None],
    ) -> None:
        """`on_closing` is called once, when there is no use in sending any more."""
        self.accepted = False
        self._transport = transport
        self._drain = drain
        self._opening = opening
        self._limits = limits
        self._on_closing = on_closing
        self._protocol = Protocol(
            Side.SERVER, state=OPEN, max_size=limits.message_bytes, logger=_LOG
        )
        self._deadline = Deadline(self._expired)
        self._early = b""
        self._heard = True
        self._closing = False
        self._pings: dict[bytes, Callable[[], None]] = {}
        self._pinged = 0

    async def accept(self) -> None:
        """Finish the handshake."""
        if self._closing:
            raise Gone
        lines = [f"{name}: {value}\r\n" for name, value in self._opening.headers.raw_items()]
        self._transport.write(
            f"HTTP/1.1 101 Switching Protocols\r\n{''.join(lines)}\r\n".encode("latin-1")
        )
        self.accepted = True
        self._deadline.set(self._limits.ping_s)
        if self._early:
            self.receive(self._early)

    async def send(self, text: bytes | str) -> None:
        """Send one text frame; waits while the peer reads too slowly. Raises Gone."""
        if self._closing:
            raise Gone
        try:
            self._protocol.send_text(text.encode() if isinstance(text, str) else text)
        except InvalidState as error:
            raise Gone from error
        self._flush()
        await self._drain()

    def ping(self, answered: Callable[[], None]) -> None:
        """Send a ping, and call `answered` when the peer's answer to it comes."""
        if not self._closing:
            self._pinged += 1
            payload = self._pinged.to_bytes(8)
            self._pings[payload] = answered
            self._protocol.send_ping(payload)
            self._flush()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake; harmless when it was started already."""
        self.shut(code, reason)

    def shut(self, code: int, reason: str = "") -> None:
        """As `close`, without being awaited."""
        if self.accepted and self._protocol.state is OPEN:
            cut = reason.encode()[:REASON_BYTES].decode(errors="ignore")
            self._protocol.send_close(code, cut)
            self._flush()
            self._deadline.set(self._limits.close_s)
        self._end()

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if not self.accepted:
            self._early += data
            if len(self._early) > self._limits.message_bytes:
                self._transport.abort()
            return
        self._heard = True
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.PONG:
                self._pings.pop(bytes(event.data), _nothing)()
        self._flush()
        if self._protocol.state is not OPEN:
            self._deadline.set(self._limits.close_s)
            self._end()

    def lost(self) -> None:
        """The transport is gone."""
        self._deadline.close()
        self._end()

    def _end(self) -> None:
        if not self._closing:
            self._closing = True
            self._on_closing()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                # The peer reads our close frame before the end; `_expired` sees to the rest.
                self._transport.write_eof()
            else:
                self._transport.close()

    def _expired(self) -> None:
        """Time for a ping, or the peer is gone, or did not finish the closing handshake."""
        if self._closing or not self._heard:
            self._transport.abort()
            return
        self._heard = False
        self._protocol.send_ping(b"")
        self._flush()
        self._deadline.set(self._limits.ping_s)
