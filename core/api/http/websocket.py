"""A connection after its upgrade to WebSocket (RFC 6455), by websockets' sans-I/O layer.

`handshake` computes the answer from the parsed head. After it a `Protocol` in the state OPEN reads
the incoming frames and writes the control frames; messages go out as bytes that were framed once
for all clients that get them. `run_handler` runs the socket handler of a route.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from websockets.datastructures import Headers
from websockets.exceptions import NegotiationError
from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request as HandshakeRequest
from websockets.http11 import Response as HandshakeResponse
from websockets.protocol import OPEN, Protocol, Side
from websockets.server import ServerProtocol
from websockets.typing import ExtensionParameter

from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.api.http.messages import Request, Response
from modeldeck.core.api.http.request_head import RequestHead
from modeldeck.core.api.http.request_parser import PendingRequest
from modeldeck.core.api.http.responses import failed
from modeldeck.core.api.http.server_state import ServerState
from modeldeck.core.api.http.websocket_frames import FragmentAssembler, TextFrame
from modeldeck.core.api.http.writer import PeerGone, SocketWriter
from modeldeck.core.concurrency.deadline import Deadline
from modeldeck.core.errors import DeckError

_LOG = logging.getLogger("modeldeck.core.api.websocket")
_LOG.setLevel(logging.WARNING)  # the library reports every closed connection as news

REASON_BYTES = 120
"""Longest reason in a close frame; RFC 6455, section 5.5, allows 123."""

INBOX = 64
"""Messages that wait for a handler that receives; then reading pauses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeReply:
    """The answer to an opening handshake, and what it agreed to."""

    response: HandshakeResponse
    """101, or the refusal of a malformed one."""
    extensions: Sequence[Extension] = ()


class _FullWindowDeflate(ServerPerMessageDeflateFactory):
    """permessage-deflate for clients that can take the frames shared by all clients.

    No context is kept on either side, which also saves each connection 300 KiB of windows; a client
    that asks us for a smaller window is served without compression.
    """

    def __init__(self) -> None:
        super().__init__(server_no_context_takeover=True, client_no_context_takeover=True)

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], PerMessageDeflate]:
        """Agree to one offer. Raises NegotiationError for one that cannot be met."""
        agreed, extension = super().process_request_params(params, accepted_extensions)
        if extension.local_max_window_bits != 15:
            raise NegotiationError("only the full window")
        return agreed, extension


_DEFLATE = (_FullWindowDeflate(),)


def handshake(head: RequestHead) -> HandshakeReply:
    """The answer to an opening handshake."""
    headers = Headers(list(head.headers.items()))
    request = HandshakeRequest(head.target, headers, head.method, f"HTTP/{head.version}")
    protocol = ServerProtocol(logger=_LOG, extensions=_DEFLATE)
    response = protocol.accept(request)
    if response.status_code == 400 and head.headers.get("sec-websocket-version") != "13":
        response.headers["Sec-WebSocket-Version"] = "13"
    return HandshakeReply(response=response, extensions=protocol.extensions)


def _nothing() -> None:
    """Callback of a pong that answers no ping of `ping`."""


class WebSocketConnection:
    """`modeldeck.core.api.http.messages.WebSocket` on a transport."""

    def __init__(
        self,
        writer: SocketWriter,
        opening: HandshakeReply,
        limits: ConnectionLimits,
        on_closing: Callable[[], None],
        on_room: Callable[[], None],
    ) -> None:
        """`accept` or `shut` must follow.

        Args:
            writer: Writes to the client.
            opening: The agreed handshake.
            limits: Limits of message size and silence.
            on_closing: Called once, when nothing more can be sent.
            on_room: Called when `is_full` has become False.
        """
        self.accepted = False
        self._writer = writer
        self._transport = writer.transport
        self._opening = opening
        self._deflates = bool(opening.extensions)
        self._limits = limits
        self._on_closing = on_closing
        self._on_room = on_room
        self._protocol = Protocol(
            Side.SERVER, state=OPEN, max_size=limits.message_bytes, logger=_LOG
        )
        self._protocol.extensions = list(opening.extensions)
        self._deadline = Deadline(self._expired)
        self._early = b""
        self._received = True
        self._closing = False
        self._pings: dict[bytes, Callable[[], None]] = {}
        self._pinged = 0
        self._assembler = FragmentAssembler()
        self._receives = False
        self._inbox: deque[str | bytes] = deque()
        self._inbox_size = 0
        self._arrived = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether no more is read until the handler has received messages."""
        return len(self._inbox) >= INBOX or self._inbox_size > self._limits.message_bytes

    async def accept(self, *, receives: bool = False) -> None:
        """Send the 101 response; `receives` keeps messages of the client for `receive`."""
        if self._closing:
            raise PeerGone
        headers = self._opening.response.headers
        lines = [f"{name}: {value}\r\n" for name, value in headers.raw_items()]
        self._writer.write(
            f"HTTP/1.1 101 Switching Protocols\r\n{''.join(lines)}\r\n".encode("latin-1")
        )
        self.accepted = True
        self._receives = receives
        self._deadline.set(self._limits.ping_s)
        if self._early:
            early, self._early = self._early, b""
            self.receive_data(early)

    async def send(self, text: TextFrame | bytes | str) -> None:
        """Send one text message; waits while the peer reads too slowly. Raises PeerGone."""
        message = text if isinstance(text, TextFrame) else TextFrame(text)
        if self._deflates and message.is_slow:
            await asyncio.to_thread(getattr, message, "deflated")
        if self._closing:
            raise PeerGone
        self._writer.write(message.deflated if self._deflates else message.plain)
        await self._writer.drain()

    def post(self, message: TextFrame) -> bool:
        """Send without waiting; False, with nothing sent, where that is not possible now."""
        deflates = self._deflates
        if self._closing or self._writer.blocked or (deflates and message.is_slow):
            return False
        self._writer.write(message.deflated if deflates else message.plain)
        return True

    async def receive(self) -> str | bytes:
        """The next message of the client, text or binary. Raises PeerGone."""
        while not self._inbox:
            if self._closing:
                raise PeerGone
            self._arrived.clear()
            await self._arrived.wait()
        was_full = self.is_full
        message = self._inbox.popleft()
        self._inbox_size -= len(message)
        if was_full and not self.is_full:
            self._on_room()
        return message

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
        """Start the closing handshake, without waiting."""
        if self.accepted and self._protocol.state is OPEN:
            cut = reason.encode()[:REASON_BYTES].decode(errors="ignore")
            self._protocol.send_close(code, cut)
            self._flush()
            self._deadline.set(self._limits.close_s)
        self._end()

    def receive_data(self, data: bytes) -> None:
        """Parse bytes of the client; before `accept` they are kept, up to `message_bytes`."""
        if not self.accepted:
            self._early += data
            if len(self._early) > self._limits.message_bytes:
                self._transport.abort()
            return
        self._received = True
        self._protocol.receive_data(data)
        try:
            for event in self._protocol.events_received():
                assert isinstance(event, Frame)
                self._take(event)
        except UnicodeDecodeError:
            if self._protocol.state is OPEN:
                self._protocol.fail(CloseCode.INVALID_DATA, "The text is not UTF-8.")
        self._flush()
        if self._protocol.state is not OPEN:
            self._deadline.set(self._limits.close_s)
            self._end()

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PONG:
            self._pings.pop(bytes(frame.data), _nothing)()
            return
        message = self._assembler.take(frame)
        if message is not None and self._receives and not self._closing:
            self._inbox.append(message)
            self._inbox_size += len(message)
            self._arrived.set()

    def lost(self) -> None:
        """The transport was closed."""
        self._deadline.close()
        self._end()

    def _end(self) -> None:
        if not self._closing:
            self._closing = True
            self._arrived.set()
            self._on_closing()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._writer.write(data)
            elif self._transport.can_write_eof():
                # The client can still read our close frame; `_expired` aborts if it does not close.
                self._transport.write_eof()
            else:
                self._transport.close()

    def _expired(self) -> None:
        """Ping, or abort where the client was silent or did not finish the closing handshake."""
        silent = not self._received and not self.is_full and not self._writer.blocked
        if self._closing or silent:
            self._transport.abort()
            return
        self._received = False
        self._protocol.send_ping(b"")
        self._flush()
        self._deadline.set(self._limits.ping_s)


async def run_handler(
    server: ServerState, pending: PendingRequest, request: Request, socket: WebSocketConnection
) -> Response | None:
    """Run the socket handler of the route, then close the socket.

    Returns the refusal where the handler failed before it accepted: that is sent as plain HTTP.
    Close codes are those of RFC 6455, section 7.4.1: 1000 when the handler is done, 1001 when the
    core stops, 1011 when the handler failed.
    """
    route = pending.route
    assert route is not None
    assert route.socket is not None
    server.meter.sockets += 1
    try:
        await route.socket(server.deck, request, socket)
        if not socket.accepted:
            raise RuntimeError(f"{route.operation_id} ended without accepting its socket")
        await socket.close()
    except PeerGone:
        pass
    except asyncio.CancelledError:
        socket.shut(1001)
        raise
    except Exception as error:
        refusal = failed(error, pending)
        if not socket.accepted:
            return refusal
        socket.shut(1011, error.message if isinstance(error, DeckError) else "")
    finally:
        server.meter.sockets -= 1
    return None
