"""One HTTP/1.1 or 1.0 connection: its requests are handled and answered in order.

`modeldeck.core.api.http.request_parser` parses and checks requests. At most one handler runs per
connection; a bounded number of pipelined requests waits in order, then reading pauses. After a
refusal our side is closed, and what the client still sends is read and dropped for a moment, so
that a reset does not destroy the response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from modeldeck.core.api.http.access import ListenAddress, remaining_s, too_many
from modeldeck.core.api.http.decoding import DECODED_AT_ONCE_BYTES, decode_and_handle
from modeldeck.core.api.http.messages import (
    Request,
    Response,
    StreamResponse,
    error_response,
    text_response,
)
from modeldeck.core.api.http.request_parser import PendingRequest, RequestParser
from modeldeck.core.api.http.responses import (
    CONTINUE,
    Responder,
    failed,
    is_slow,
    negotiated,
    negotiated_in_thread,
)
from modeldeck.core.api.http.server_state import ServerState, peer_of, program_of
from modeldeck.core.api.http.websocket import WebSocketConnection, handshake, run_handler
from modeldeck.core.api.http.writer import SocketWriter
from modeldeck.core.concurrency.deadline import Deadline
from modeldeck.core.errors import RequestTimeout
from modeldeck.core.schema import Token

_INCOMING = memoryview(bytearray(64 << 10))
"""Receive buffer of all connections: asyncio's own way allocates 256 KiB for each read and gives
most of it back. The parsers keep copies, so that another connection can read into it."""


class HttpConnection(asyncio.BufferedProtocol):
    """The connection of one client, on one address of the listener."""

    # As little memory as possible for a connection: with many of them the caches decide the speed.
    __slots__ = (
        *("peer", "_server", "_address", "_transport", "_writer", "_responder", "_parser"),
        *("_deadline", "_current", "_task", "_socket", "_token_timer", "_limited_key", "_program"),
        *("_is_new", "_reads", "_cancel_when_gone", "_input_ended"),
    )

    def __init__(self, server: ServerState, address: ListenAddress) -> None:
        self._server = server
        self._address = address
        self._is_new = True
        self._reads = True
        self._current: PendingRequest | None = None
        self._task: asyncio.Task[None] | None = None
        self._cancel_when_gone = False
        self._socket: WebSocketConnection | None = None
        self._input_ended = False
        self._limited_key: str | None = None
        self._token_timer: asyncio.TimerHandle | None = None
        self._program: str | None = None
        """The client's program; None before the first request."""

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to read requests, with the time limit for the first head."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.peer = peer_of(transport, over_unix=self._address.is_socket)
        self._writer = SocketWriter(transport, self._server.limits)
        self._deadline = Deadline(self._handle_timeout)
        self._responder = Responder(self._server, self._address, self.peer, self._writer)
        self._parser = RequestParser(self._server, self._deadline, self._address, self.peer)
        self._deadline.set(self._server.limits.head_s)
        self._server.admit(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """The buffer that asyncio receives into."""
        return _INCOMING

    def buffer_updated(self, nbytes: int) -> None:
        """Take the first `nbytes` of the buffer."""
        self.data_received(_INCOMING[:nbytes])

    def data_received(self, data: memoryview) -> None:
        """Parse bytes of the client and handle the requests that are complete."""
        if self._socket is not None:
            self._socket.receive_data(bytes(data))
        else:
            self._is_new = False
            self._parser.feed(data)
            self._advance()
        self._update_reading()

    def eof_received(self) -> bool:
        """The client closed its side; True keeps ours open for responses that are due.

        False for streams, sockets and routes that are cancelled with their client: a client that
        half-closed cannot be told from one that is gone, and its generation must not run on.
        """
        self._input_ended = True
        if self._socket is not None or self._cancel_when_gone:
            return False
        self._parser.end()
        queue = self._parser.queue
        last = queue[-1] if queue else self._current
        if last is None:
            return False
        last.keep_alive = False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection, and cancel work that is done for this client only."""
        self._parser.input_closed = True
        self._deadline.close()
        self._writer.lost()
        self._parser.queue.clear()
        self._server.release(self)
        if self._token_timer is not None:
            self._token_timer.cancel()
        if self._socket is not None:
            self._socket.lost()
        elif self._task is not None and self._cancel_when_gone:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The send buffer is full."""
        self._writer.pause()
        self._update_reading()

    def resume_writing(self) -> None:
        """The send buffer has room again."""
        self._writer.resume()
        self._advance()
        self._update_reading()

    def _update_reading(self) -> None:
        """Read on, or pause reading while enough input or output is waiting here.

        A client that does not read what we send could otherwise fill our memory with pongs.
        """
        if self._socket is not None:
            reads = not (self._socket.is_full or self._writer.blocked)
        else:
            parser = self._parser
            reads = not parser.queue or parser.input_closed or not parser.is_full
        if reads != self._reads:
            self._set_reading(reads)

    def _set_reading(self, reads: bool) -> None:
        self._reads = reads
        if reads:
            self._deadline.release()
            self._transport.resume_reading()
        else:  # the client cannot send what is not read
            self._deadline.hold()
            self._transport.pause_reading()

    def _handle_timeout(self) -> None:
        """Refuse a request that did not come in time, or close an idle connection."""
        if self._is_new or self._parser.mid_request:
            self._is_new = False
            self._parser.refuse(RequestTimeout("The request did not come in time."))
            self._advance()
        else:
            self._writer.close(self._server.limits.linger_s)

    # Answering

    def _advance(self) -> None:
        """Handle complete requests in order, until one has to be waited for."""
        queue = self._parser.queue
        while self._task is None and queue and not (self._writer.blocked or self._writer.gone):
            pending = queue[0]
            if not pending.complete:
                if self._parser.body_may_come(pending):
                    self._transport.write(CONTINUE)
                break
            self._current = queue.popleft()
            if pending.failure is not None:
                self._send(pending, pending.failure)
            elif pending.upgrade:
                self._upgrade(pending)
            else:
                self._call_handler(pending, self._request(pending))

    def _call_handler(self, pending: PendingRequest, request: Request) -> None:
        """Call the handler. A response that is there at once is sent without a task."""
        route = pending.route
        assert route is not None
        assert route.handler is not None
        answer: Response | Coroutine[Any, Any, Response | StreamResponse]
        if pending.size > DECODED_AT_ONCE_BYTES:
            answer = decode_and_handle(route.handler, self._server, request)
        else:
            try:
                answer = route.handler(self._server.deck, request)
            except Exception as error:
                answer = failed(error, pending)
        if isinstance(answer, Response):
            if not is_slow(answer, pending.head):
                self._send(pending, answer)
                return
            answer = _completed(answer)
        if not self._count_running(pending):
            answer.close()
            return
        self._cancel_when_gone = route.cancel_when_gone
        self._task = self._server.start(self._finish(pending, answer))
        # A task that is cancelled before its first step never awaits its work.
        self._task.add_done_callback(lambda _: answer.close())

    def _count_running(self, pending: PendingRequest) -> bool:
        """Count a running request of its caller; sends a refusal where it has too many."""
        key = pending.caller.key if pending.caller is not None else None
        if key is None:
            return True
        if self._server.limiter.enter(key):
            self._limited_key = key
            return True
        style = self._server.error_style(pending.route, pending.head)
        self._send(pending, error_response(too_many(1), style, request_id=pending.id))
        return False

    def _uncount_running(self) -> None:
        if self._limited_key is not None:
            self._server.limiter.leave(self._limited_key)
            self._limited_key = None

    async def _finish(
        self, pending: PendingRequest, work: Coroutine[Any, Any, Response | StreamResponse]
    ) -> None:
        """Wait for the handler, then send its response."""
        try:
            try:
                answer = await work
                if isinstance(answer, Response):
                    answer = await negotiated_in_thread(answer, pending.head)
            except Exception as error:
                answer = failed(error, pending)
            if isinstance(answer, Response):
                keep_alive = self._responder.send(pending, answer)
            else:
                self._cancel_when_gone = True
                keep_alive = await self._responder.stream(pending, answer)
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        finally:
            self._task = None
            self._cancel_when_gone = False
            self._uncount_running()
        self._finish_response(pending, keep_alive)
        self._advance()
        self._update_reading()

    def _upgrade(self, pending: PendingRequest) -> None:
        """Answer the opening handshake and run the socket handler of the route."""
        request = self._request(pending)
        assert pending.head is not None
        agreed = handshake(pending.head)
        opening = agreed.response
        if opening.status_code != 101:
            text = bytes(opening.body).decode() if opening.body else ""
            wanted = tuple(
                item for item in opening.headers.raw_items() if item[0].startswith("Sec-")
            )
            refusal = text_response(text, opening.status_code)
            self._send(pending, replace(refusal, headers=wanted))
            return
        if not self._count_running(pending):
            return
        self._socket = WebSocketConnection(
            self._writer, agreed, self._server.limits, self._socket_closing, self._update_reading
        )
        self._deadline.clear()
        self._close_with_token(pending)
        if self._parser.early:
            self._socket.receive_data(self._parser.early)
        self._task = self._server.start(self._run_socket(pending, request, self._socket))

    def _close_with_token(self, pending: PendingRequest) -> None:
        """Close the socket when the token it was opened with expires."""
        token = pending.caller.token if pending.caller is not None else None
        if token is not None and (left_s := remaining_s(token)) is not None:
            assert self._socket is not None
            self._token_timer = asyncio.get_running_loop().call_later(
                left_s, self._socket.shut, 1008, "The token has expired."
            )

    async def _run_socket(
        self, pending: PendingRequest, request: Request, socket: WebSocketConnection
    ) -> None:
        """Run the socket handler to its end; send its refusal where it did not accept."""
        refusal: Response | None = None
        try:
            refusal = await run_handler(self._server, pending, request, socket)
        except asyncio.CancelledError:
            if not socket.accepted:
                self._transport.abort()
            raise
        finally:
            self._task = None
            self._uncount_running()
            if refusal is None:
                self._responder.log(pending, 101)
        if refusal is not None:
            self._send(pending, refusal)

    def _socket_closing(self) -> None:
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def _request(self, pending: PendingRequest) -> Request:
        if self._program is None:
            self._program = program_of(self._transport, over_unix=self._address.is_socket)
        return pending.request(self._program, self._server.meter)

    def _send(self, pending: PendingRequest, answer: Response) -> None:
        """Send a buffered response."""
        sent = self._responder.send(pending, negotiated(answer, pending.head))
        self._finish_response(pending, sent)

    def _finish_response(self, pending: PendingRequest, keep_alive: bool | None) -> None:
        """After a response: wait for the next request or close, unless the client is gone."""
        self._current = None
        if keep_alive is None:
            return
        if keep_alive:
            if not self._parser.mid_request and not self._parser.queue:
                self._deadline.set(self._server.limits.idle_s)
            return
        self._parser.queue.clear()
        self._parser.input_closed = True
        limits = self._server.limits
        if pending.failure is None or self._input_ended or not self._transport.can_write_eof():
            self._writer.close(limits.write_s)
        else:
            self._transport.write_eof()
            self._set_reading(True)
            self._deadline.set(limits.linger_s)

    # ConnectionHandle: called by the listener

    @property
    def idle(self) -> bool:
        """Whether no request is read or answered now."""
        return self._task is None and not self._parser.queue and not self._parser.mid_request

    @property
    def is_outside(self) -> bool:
        """Whether the client is on another machine."""
        return self._address.is_outside

    @property
    def held_bytes(self) -> int:
        """Bytes of request bodies held for this client."""
        return self._parser.held_bytes + (self._current.size if self._current else 0)

    @property
    def token(self) -> Token | None:
        """Token of the request that is being answered, if any."""
        caller = self._current.caller if self._current is not None else None
        return caller.token if caller is not None else None

    def drop(self) -> None:
        """Abort the connection."""
        self._transport.abort()

    def end(self) -> None:
        """Close when everything written is sent; abort where the client does not read."""
        if self._writer.blocked:
            self._transport.abort()
        else:
            self._writer.close(self._server.limits.linger_s)

    def stop(self) -> None:
        """Begin to stop: close if idle, close sockets with 1001, let running requests finish."""
        if self._socket is not None:
            self._socket.shut(1001, "The core is stopping.")
        elif self.idle:
            self._transport.close()


async def _completed(answer: Response) -> Response:
    """A coroutine that returns `answer`."""
    return answer
