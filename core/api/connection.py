"""One connection: requests are handled one after the other, and answered. HTTP/1.1 and 1.0.

`core.api.receiver` reads and judges. At most one handler runs per connection; pipelined requests
wait in order, a bounded number of them, and then reading pauses. After a refusal our side is closed
and what still comes is thrown away for a moment, so that the answer is not lost to a reset.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from core.api import reply
from core.api.outlet import Gone, Outlet
from core.api.receiver import Exchange, Receiver
from core.api.router import Route
from core.api.security import cors_headers
from core.api.site import Site, log, peer_of
from core.api.timing import Deadline
from core.api.upgrade import Socket, handshake
from core.api.wire import Request, Response, StreamResponse, error_response, text_response
from core.errors import DeckError, RequestTimeout


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, site: Site, *, over_unix: bool) -> None:
        self._site = site
        self._over_unix = over_unix
        self._fresh = True
        self._current: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._cancel_when_gone = False
        self._socket: Socket | None = None
        self._eof = False
        self._origin = ""

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._outlet = Outlet(transport, self._site.limits)
        self._input = Deadline(self._input_expired)
        self._receiver = Receiver(self._site, self._input, over_unix=self._over_unix)
        self._origin = peer_of(transport, over_unix=self._over_unix)
        self._input.set(self._site.limits.head_s)
        self._site.admit(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._socket is not None:
            self._socket.receive_data(data)
            self._regulate()
        else:
            self._fresh = False
            self._receiver.feed(memoryview(data))
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

    def _advance(self) -> None:
        """Handle what is complete, in order, for as long as nothing has to be waited for."""
        queue = self._receiver.queue
        while self._task is None and queue and not (self._outlet.blocked or self._outlet.gone):
            exchange = queue[0]
            if not exchange.complete:
                if exchange.awaits_continue:
                    exchange.awaits_continue = False
                    self._transport.write(reply.CONTINUE)
                break
            self._current = queue.popleft()
            if exchange.failure is not None:
                self._reply(exchange, exchange.failure)
            elif exchange.upgrade:
                self._converse(exchange)
            else:
                self._handle(exchange)
        self._regulate()

    def _handle(self, exchange: Exchange) -> None:
        """Call the handler; one that need not wait is answered here and now."""
        route, request = self._request(exchange)
        assert route.handler is not None
        try:
            answer = route.handler(self._site.deck, request)
        except Exception as error:
            self._reply(exchange, _failed(error, route))
            return
        if isinstance(answer, Response):
            self._reply(exchange, answer)
            return
        self._cancel_when_gone = route.cancel_when_gone
        self._task = self._site.start(self._finish(exchange, route, answer))
        # A task that is cancelled before its first step never awaits its work.
        self._task.add_done_callback(lambda _: answer.close())

    async def _finish(
        self,
        exchange: Exchange,
        route: Route,
        work: Coroutine[Any, Any, Response | StreamResponse],
    ) -> None:
        """Wait for the handler, then answer."""
        try:
            try:
                answer = await work
            except Exception as error:
                answer = _failed(error, route)
            if isinstance(answer, Response):
                self._reply(exchange, answer)
            else:
                self._cancel_when_gone = True
                await self._stream(exchange, answer)
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        finally:
            self._task = None
            self._cancel_when_gone = False
        self._advance()

    async def _stream(self, exchange: Exchange, answer: StreamResponse) -> None:
        """Send the pieces as they come. A failure in between cuts the answer short, visibly."""
        head = exchange.head
        assert head is not None
        old, bare = head.version == "1.0", head.method == "HEAD"
        keep_alive = exchange.keep_alive and not old and not self._site.stopping
        cors = cors_headers(head, self._site.policy)
        try:
            if self._outlet.gone:
                return
            start = reply.stream_head(answer, keep_alive=keep_alive, old=old, extra=cors)
            self._transport.write(start + (b"" if bare else reply.chunk(answer.first, old=old)))
            if not bare:
                async for data in answer.chunks:
                    self._transport.write(reply.chunk(data, old=old))
                    await self._outlet.drain()
                self._transport.write(b"" if old else reply.LAST_CHUNK)
        except Gone:
            return
        except Exception as error:
            log.error("%s %s failed in mid-answer.", head.method, head.path, exc_info=error)
            self._transport.abort()
            return
        finally:
            await answer.chunks.aclose()
        self._after(exchange, keep_alive=keep_alive)

    def _converse(self, exchange: Exchange) -> None:
        """Hand the connection to a socket handler."""
        route, request = self._request(exchange)
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
        self._socket = Socket(
            self._outlet, agreed, self._site.limits, self._socket_closing, self._regulate
        )
        self._input.clear()
        if self._receiver.early:
            self._socket.receive_data(self._receiver.early)
        self._regulate()
        self._task = self._site.start(self._talk(exchange, route, request, self._socket))

    async def _talk(
        self, exchange: Exchange, route: Route, request: Request, socket: Socket
    ) -> None:
        """Run a socket handler to its end and close the socket as that end demands."""
        assert route.socket is not None
        try:
            await route.socket(self._site.deck, request, socket)
            if not socket.accepted:
                raise RuntimeError(f"{route.operation_id} ended without accepting its socket")
            await socket.close()
        except Gone:
            pass
        except asyncio.CancelledError:
            if not socket.accepted:
                self._transport.abort()
            socket.shut(1001)
            raise
        except Exception as error:
            failure = _failed(error, route)
            if socket.accepted:
                socket.shut(1011, error.message if isinstance(error, DeckError) else "")
            else:
                self._reply(exchange, failure)
        finally:
            self._task = None

    def _socket_closing(self) -> None:
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def _request(self, exchange: Exchange) -> tuple[Route, Request]:
        head, route = exchange.head, exchange.route
        assert head is not None
        assert route is not None
        return route, Request(
            method=head.method,
            path=head.path,
            params=exchange.params,
            query=exchange.query,
            headers=head.headers,
            body=bytes(exchange.body),
            origin=self._origin,
        )

    def _reply(self, exchange: Exchange, answer: Response) -> None:
        """Send an answer that is whole."""
        if self._outlet.gone:
            return
        head = exchange.head
        keep_alive = exchange.keep_alive and not self._site.stopping
        data = reply.whole(
            answer,
            keep_alive=keep_alive,
            old=head is not None and head.version == "1.0",
            head_only=head is not None and head.method == "HEAD",
            extra=cors_headers(head, self._site.policy) if head else (),
        )
        self._transport.write(data)
        self._after(exchange, keep_alive=keep_alive)

    def _after(self, exchange: Exchange, *, keep_alive: bool) -> None:
        """What follows an answer: the next request, or the end."""
        self._current = None
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

    # What the listener calls

    @property
    def idle(self) -> bool:
        """Whether nothing is being asked or answered here."""
        return self._task is None and not self._receiver.queue and not self._receiver.amid

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


def _failed(error: Exception, route: Route) -> Response:
    """The answer to what a handler raised. A bug is logged, and not told to the client."""
    if isinstance(error, DeckError):
        return error_response(error, route.error_style, route.error_status(error))
    log.error("%s %s failed.", route.method, route.template, exc_info=error)
    unexpected = DeckError("Something went wrong inside modeldeck.", "The log of the core has it.")
    return error_response(unexpected, route.error_style)
