"""One connection: requests are handled one after the other, and answered. HTTP/1.1 and 1.0.

`modeldeck.core.api.http.request_parser` reads and judges. At most one handler runs per connection;
pipelined requests wait in order, a bounded number of them, and then reading pauses. After a refusal
our side is closed and what still comes is thrown away for a moment, so that the answer is not lost
to a reset.

A client that polls sends the same bytes again and again. Those that came last, were judged by their
bytes alone and are answered at once, are not read and judged a second time (`_repeat`): the parser
and the checks are most of what such a request costs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from modeldeck.core.api.http import response_bytes
from modeldeck.core.api.http.access import ListenAddress, remaining_s, too_many
from modeldeck.core.api.http.limits import Deadline
from modeldeck.core.api.http.messages import (
    Request,
    Response,
    StreamResponse,
    error_response,
    text_response,
)
from modeldeck.core.api.http.request_parser import PendingRequest, RequestParser
from modeldeck.core.api.http.responder import Responder, failed
from modeldeck.core.api.http.server_state import ServerState, peer_of
from modeldeck.core.api.http.websocket import WebSocketConnection, handshake
from modeldeck.core.api.http.websocket_handler import talk
from modeldeck.core.api.http.writer import SocketWriter
from modeldeck.core.errors import RequestTimeout
from modeldeck.core.schema import Token

REPEATED_BYTES = 2 << 10
"""Longest request that is known again by its bytes."""

_INCOMING = memoryview(bytearray(64 << 10))
"""Where all connections receive: asyncio's own way allocates 256 KiB for each read, and gives most
of it back. What lies there is copied before the next one reads."""


class HttpConnection(asyncio.BufferedProtocol):
    """One client."""

    def __init__(self, site: ServerState, door: ListenAddress) -> None:
        self._site = site
        self._door = door
        self._fresh = True
        self._current: PendingRequest | None = None
        self._task: asyncio.Task[None] | None = None
        self._cancel_when_gone = False
        self._socket: WebSocketConnection | None = None
        self._eof = False
        self._last: tuple[bytes, PendingRequest, Request] | None = None
        self._entered: str | None = None
        self._expiry: asyncio.TimerHandle | None = None

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.peer = peer_of(transport, over_unix=self._door.is_socket)
        self._outlet = SocketWriter(transport, self._site.limits)
        self._input = Deadline(self._input_expired)
        self._answers = Responder(self._site, self._door, self.peer, self._outlet)
        self._receiver = RequestParser(self._site, self._input, self._door, self.peer)
        self._input.set(self._site.limits.head_s)
        self._site.admit(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where bytes go."""
        return _INCOMING

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        self.data_received(bytes(_INCOMING[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Take these bytes."""
        if self._last is not None and data == self._last[0] and self._repeat(*self._last):
            return
        self._last = None
        if self._socket is not None:
            self._socket.receive_data(data)
        else:
            self._fresh = False
            self._receiver.feed(memoryview(data))
            if len(data) <= REPEATED_BYTES:
                self._remember(data)
            self._advance()
        self._regulate()

    def eof_received(self) -> bool:
        """The client will send no more; True keeps our side open for answers that are due.

        Not for streams and sockets, nor for work that nobody else wants: one that half-closed
        cannot be told from one that is gone, and a generation must not run on for nobody.
        """
        self._eof = True
        if self._socket is not None or self._cancel_when_gone:
            return False
        self._receiver.end()
        queue = self._receiver.queue
        last = queue[-1] if queue else self._current
        if last is None:
            return False
        last.keep_alive = False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._receiver.deaf = True
        self._input.close()
        self._outlet.lost()
        self._receiver.queue.clear()
        self._site.release(self)
        if self._expiry is not None:
            self._expiry.cancel()
        if self._socket is not None:
            self._socket.lost()
        elif self._task is not None and self._cancel_when_gone:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The client does not take what we send."""
        self._outlet.pause()
        self._regulate()

    def resume_writing(self) -> None:
        """The client takes it again."""
        self._outlet.resume()
        self._advance()
        self._regulate()

    def _regulate(self) -> None:
        """Read on, or not: what a peer sends is not taken in while it has enough waiting here.

        One that does not read what we send could otherwise fill our memory with pongs.
        """
        if self._socket is not None:
            wants = not (self._socket.full or self._outlet.blocked)
        else:
            wants = self._receiver.deaf or not self._receiver.full
        if wants:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _input_expired(self) -> None:
        """The client was silent for too long."""
        if self._fresh or self._receiver.amid:
            self._fresh = False
            self._receiver.refuse(RequestTimeout("The request did not come in time."))
            self._advance()
        else:
            self._outlet.close(self._site.limits.linger_s)

    # Answering

    def _remember(self, data: bytes) -> None:
        """Keep a request that may come again just so: one, whole, that a token has no part in."""
        queue = self._receiver.queue
        if self._task is None and len(queue) == 1 and (one := queue[0]).may_repeat:
            if one.body or self._receiver.amid or self._door.is_outside:
                return
            self._last = data, one, self._request(one)

    def _repeat(self, data: bytes, exchange: PendingRequest, request: Request) -> bool:
        """Answer what was asked before; False where something stands in the way."""
        outlet, site = self._outlet, self._site
        if self._task is not None or outlet.blocked or outlet.gone or site.stopping or self._eof:
            return False
        exchange.began = time.perf_counter()
        exchange.id = site.journal.id(None)
        self._current = exchange
        self._ask(exchange, request)
        return True

    def _advance(self) -> None:
        """Handle what is complete, in order, for as long as nothing has to be waited for."""
        queue = self._receiver.queue
        while self._task is None and queue and not (self._outlet.blocked or self._outlet.gone):
            exchange = queue[0]
            if not exchange.complete:
                if exchange.awaits_continue:
                    exchange.awaits_continue = False
                    self._transport.write(response_bytes.CONTINUE)
                break
            self._current = queue.popleft()
            if exchange.failure is not None:
                self._reply(exchange, exchange.failure)
            elif exchange.upgrade:
                self._converse(exchange)
            else:
                self._ask(exchange, self._request(exchange))

    def _ask(self, exchange: PendingRequest, request: Request) -> None:
        """Call the handler; one that need not wait is answered here and now."""
        route = exchange.route
        assert route is not None
        assert route.handler is not None
        state = self._site.deck.state if route.of_state else None
        if state is not None and exchange.settled is not None and exchange.settled[0] is state:
            self._after(exchange, self._answers.whole(exchange, exchange.settled[1]))
            return
        try:
            answer = route.handler(self._site.deck, request)
        except Exception as error:
            answer = failed(error, exchange)
        if isinstance(answer, Response):
            if not self._site.content.is_slow(answer, exchange.head):
                settled = self._site.content.settled(answer, exchange.head)
                exchange.settled = (state, settled) if state is not None else None
                self._after(exchange, self._answers.whole(exchange, settled))
                return
            answer = _already(answer)
        if not self._enter(exchange):
            answer.close()
            return
        self._cancel_when_gone = route.cancel_when_gone
        self._task = self._site.start(self._finish(exchange, answer))
        # A task that is cancelled before its first step never awaits its work.
        self._task.add_done_callback(lambda _: answer.close())

    def _enter(self, exchange: PendingRequest) -> bool:
        """Count one more under way for its caller; answers with a refusal where it has enough."""
        key = exchange.caller.key if exchange.caller is not None else None
        if key is None:
            return True
        if self._site.limiter.enter(key):
            self._entered = key
            return True
        style = exchange.route.error_style if exchange.route else "json"
        self._reply(exchange, error_response(too_many(1), style, request_id=exchange.id))
        return False

    def _leave(self) -> None:
        if self._entered is not None:
            self._site.limiter.leave(self._entered)
            self._entered = None

    async def _finish(
        self, exchange: PendingRequest, work: Coroutine[Any, Any, Response | StreamResponse]
    ) -> None:
        """Wait for the handler, then answer."""
        try:
            try:
                answer = await work
                if isinstance(answer, Response):
                    answer = await self._site.content.settled_slowly(answer, exchange.head)
            except Exception as error:
                answer = failed(error, exchange)
            if isinstance(answer, Response):
                keep_alive = self._answers.whole(exchange, answer)
            else:
                self._cancel_when_gone = True
                keep_alive = await self._answers.stream(exchange, answer)
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        finally:
            self._task = None
            self._cancel_when_gone = False
            self._leave()
        self._after(exchange, keep_alive)
        self._advance()
        self._regulate()

    def _converse(self, exchange: PendingRequest) -> None:
        """Hand the connection to a socket handler."""
        request = self._request(exchange)
        assert exchange.head is not None
        agreed = handshake(exchange.head)
        opening = agreed.response
        if opening.status_code != 101:
            text = bytes(opening.body).decode() if opening.body else ""
            wanted = tuple(
                item for item in opening.headers.raw_items() if item[0].startswith("Sec-")
            )
            refusal = text_response(text, opening.status_code)
            self._reply(exchange, replace(refusal, headers=wanted))
            return
        if not self._enter(exchange):
            return
        self._socket = WebSocketConnection(
            self._outlet, agreed, self._site.limits, self._socket_closing, self._regulate
        )
        self._input.clear()
        self._expire_with(exchange)
        if self._receiver.early:
            self._socket.receive_data(self._receiver.early)
        self._task = self._site.start(self._talk(exchange, request, self._socket))

    def _expire_with(self, exchange: PendingRequest) -> None:
        """A socket lives no longer than the token it was opened with."""
        token = exchange.caller.token if exchange.caller is not None else None
        if token is not None and (left_s := remaining_s(token)) is not None:
            assert self._socket is not None
            self._expiry = asyncio.get_running_loop().call_later(
                left_s, self._socket.shut, 1008, "The token has expired."
            )

    async def _talk(
        self, exchange: PendingRequest, request: Request, socket: WebSocketConnection
    ) -> None:
        """Run a socket handler to its end."""
        refusal: Response | None = None
        try:
            refusal = await talk(self._site, exchange, request, socket)
        except asyncio.CancelledError:
            if not socket.accepted:
                self._transport.abort()
            raise
        finally:
            self._task = None
            self._leave()
            if refusal is None:
                self._answers.note(exchange, 101)
        if refusal is not None:
            self._reply(exchange, refusal)

    def _socket_closing(self) -> None:
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def _request(self, exchange: PendingRequest) -> Request:
        head, caller = exchange.head, exchange.caller
        assert head is not None
        return Request(
            method=head.method,
            path=head.path,
            params=exchange.params,
            query=exchange.query,
            headers=head.headers,
            body=bytes(exchange.body),
            origin=caller.name if caller is not None else self.peer,
            id=exchange.id,
            meter=self._site.meter,
        )

    def _reply(self, exchange: PendingRequest, answer: Response) -> None:
        """Send an answer that is whole."""
        settled = self._site.content.settled(answer, exchange.head)
        self._after(exchange, self._answers.whole(exchange, settled))

    def _after(self, exchange: PendingRequest, keep_alive: bool | None) -> None:
        """What follows an answer: the next request, or the end; nothing where nobody is here."""
        self._current = None
        if keep_alive is None:
            return
        if keep_alive:
            if not self._receiver.amid and not self._receiver.queue:
                self._input.set(self._site.limits.idle_s)
            return
        self._receiver.queue.clear()
        self._receiver.deaf = True
        limits = self._site.limits
        if exchange.failure is None or self._eof or not self._transport.can_write_eof():
            self._outlet.close(limits.write_s)
        else:
            self._transport.write_eof()
            self._transport.resume_reading()
            self._input.set(limits.linger_s)

    # What the listener asks and calls

    @property
    def idle(self) -> bool:
        """Whether nothing is being asked or answered here."""
        return self._task is None and not self._receiver.queue and not self._receiver.amid

    @property
    def is_outside(self) -> bool:
        """Whether it came from beyond this machine."""
        return self._door.is_outside

    @property
    def held_bytes(self) -> int:
        """Of bodies, for this client."""
        return self._receiver.held_bytes + (len(self._current.body) if self._current else 0)

    @property
    def token(self) -> Token | None:
        """The token of what is being answered, if any."""
        caller = self._current.caller if self._current is not None else None
        return caller.token if caller is not None else None

    def drop(self) -> None:
        """End the connection without a word."""
        self._transport.abort()

    def end(self) -> None:
        """End the connection when what was written is sent; at once where nobody reads it."""
        if self._outlet.blocked:
            self._transport.abort()
        else:
            self._outlet.close(self._site.limits.linger_s)

    def stop(self) -> None:
        """The listener stops: end what is idle, close sockets, let answers be finished."""
        if self._socket is not None:
            self._socket.shut(1001, "The core is stopping.")
        elif self.idle:
            self._transport.close()


async def _already(answer: Response) -> Response:
    """An answer that is there, for those who wait for one."""
    return answer
