"""HTTP/1.1 for content: an httpx transport whose bodies go from the socket straight to the disk.

httpx's records say what is asked and answered (URLs, headers, time limits), h11 writes and reads
the heads. The content itself passes neither: a thread receives it into one buffer and hands that to
a `Sink`, without a copy between the socket and the file. httpx's own path touches every 64 KiB
several times, which costs three times as much. Threads, because both the receiving and the writing
may block, and because Python lets go of its lock while they and the decryption work: the loop never
waits.

    response = await transport.handle_async_request(request)
    if (body := response.extensions.get("network_stream")) is not None:
        await body.pour(sink)

Connections are kept for the next part of the same origin. Who has no sink reads the answer as with
any other transport.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Protocol

import h11
import httpx

from modeldeck.core.concurrency import in_own_thread
from modeldeck.core.network.connection import (
    DownloadConnection,
    HttpResponse,
    Origin,
    Proxy,
    dial,
)

BUFFER_BYTES = 512 << 10
"""One buffer of a connection: more would leave the processor's cache between socket and file."""

IDLE_S = 20.0
"""Connections are kept unused so long. Servers close them after about a minute."""

IDLE_MOST = 32

PUBLIC = "modeldeck.public"
"""Extension of a request that may not leave the internet."""


class Sink(Protocol):
    """Where content goes. Its methods are called in a thread, one after the other."""

    def room(self) -> int:
        """How many bytes may come next; blocks while none may. 0 when no more are wanted."""

    def take(self, data: memoryview) -> None:
        """Keep these bytes: the buffer is used again afterwards."""

    def stop(self) -> None:
        """Make `room` end, and say that no more is wanted. From any thread."""


def fill(sink: Sink, data: bytes | bytearray) -> bool:
    """Hand all of `data` to a sink, as it has room; whether it wants more. Blocks."""
    view = memoryview(data)
    while view:
        if not (room := sink.room()):
            return False
        sink.take(view[:room])
        view = view[room:]
    return True


class BodyStream(httpx.AsyncByteStream):
    """The body of an answer, to be poured or read."""

    def __init__(
        self,
        wire: ConnectionPool,
        line: DownloadConnection,
        answer: HttpResponse,
        timeout_s: float | None,
    ) -> None:
        self._wire = wire
        self._line = line
        self._answer = answer
        self._timeout_s = timeout_s
        self._left = answer.length
        self._closed = False

    @property
    def can_pour(self) -> bool:
        """Whether the body comes as it is, with its length counted."""
        return self._left is not None

    async def pour(self, sink: Sink) -> None:
        """Receive the body into a sink, until its end or until no more is wanted.

        Raises httpx.ReadError or ReadTimeout; whatever the sink raises is passed on.
        """

        def abort() -> None:
            sink.stop()
            self._line.abort()

        await in_own_thread(partial(self._pour, sink), abort)

    def _pour(self, sink: Sink) -> None:
        assert self._left is not None
        early = self._answer.parser.trailing_data[0][: self._left]
        if not fill(sink, early):
            return
        self._left -= len(early)
        buffer = memoryview(bytearray(min(BUFFER_BYTES, self._left)))
        while self._left:
            if not (room := sink.room()):
                return
            try:
                got = self._line.receive(buffer[: min(room, self._left)], self._timeout_s)
            except OSError as error:
                raise _read_error(error) from error
            if not got:
                raise httpx.ReadError("the server ended it early")
            self._left -= got
            sink.take(buffer[:got])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body as httpx wants it, in pieces: of answers that are no content."""
        parser = self._answer.parser
        while True:
            try:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    parser.receive_data(await in_own_thread(self._line.read, self._line.abort))
                    continue
            except OSError as error:
                raise _read_error(error) from error
            except h11.RemoteProtocolError as error:
                raise httpx.RemoteProtocolError(str(error)) from error
            if not isinstance(event, h11.Data):
                self._left = 0
                return
            yield bytes(event.data)

    async def aclose(self) -> None:
        """Keep the connection if its body was read to the end; else close it."""
        if not self._closed:
            self._closed = True
            self._wire.give_back(self._line, keep=self._left == 0 and self._answer.stays)


class ConnectionPool(httpx.AsyncBaseTransport):
    """Connections, straight or all through one proxy."""

    def __init__(self, context: Callable[[], ssl.SSLContext], proxy: Proxy | None = None) -> None:
        """`context` is asked for when a connection is to be secured; it may block."""
        self._context = context
        self._proxy = proxy
        self._idle: list[DownloadConnection] = []
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, on a connection that is there or a new one; the answer's body follows.

        With `PUBLIC` among its extensions it is sent to addresses of the internet only; through a
        proxy, where it goes is the proxy's to decide. Raises httpx.TransportError.
        """
        limits = request.extensions.get("timeout", {})
        read_s = limits.get("read")
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        origin = (request.url.scheme, request.url.host, port)
        public = bool(request.extensions.get(PUBLIC))
        asked = self._asked(request)
        while True:
            line = self._kept(origin, public)
            is_new = line is None
            if line is None:
                line = await self._connect(origin, limits.get("connect"), public=public)
            try:
                answer = await in_own_thread(partial(line.ask, asked, read_s), line.abort)
            except (OSError, h11.RemoteProtocolError) as error:
                line.close()
                # A kept connection may have been closed by the server just now.
                if is_new:
                    raise _read_error(error) from error
            except BaseException:
                line.close()
                raise
            else:
                break
        stream = BodyStream(self, line, answer, read_s)
        return httpx.Response(
            answer.head.status_code,
            headers=answer.head.headers.raw_items(),
            stream=stream,
            extensions={"http_version": b"HTTP/1.1", "network_stream": stream},
        )

    def _asked(self, request: httpx.Request) -> h11.Request:
        """The head of a request; a proxy that does not just pass bytes on wants the whole URL."""
        target, headers = request.url.raw_path, request.headers.raw
        if self._proxy is not None and request.url.scheme == "http":
            target = b"http://" + request.url.netloc + target
            headers = [*headers, *self._proxy.headers]
        try:
            return h11.Request(method=request.method.encode(), target=target, headers=headers)
        except h11.LocalProtocolError:
            # h11's text quotes the header, which may be a token: it goes no further.
            raise httpx.LocalProtocolError("a header of the request cannot be sent") from None

    async def aclose(self) -> None:
        """Close what is kept. Bodies that are being received end with their tasks."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def give_back(self, line: DownloadConnection, *, keep: bool) -> None:
        """Take back a connection that an answer is done with."""
        if keep and not self._closed and len(self._idle) < IDLE_MOST:
            line.idle_since = time.monotonic()
            self._idle.append(line)
        else:
            line.close()

    def _kept(self, origin: Origin, public: bool) -> DownloadConnection | None:
        """The connection to this origin that was used last, if there is a good one."""
        oldest = time.monotonic() - IDLE_S
        for line in [line for line in self._idle if line.idle_since < oldest]:
            self._idle.remove(line)
            line.close()
        for line in [line for line in reversed(self._idle) if line.origin == origin]:
            if public and not line.public:
                continue
            self._idle.remove(line)
            if line.is_quiet():
                return line
            line.close()
        return None

    async def _connect(
        self, origin: Origin, timeout_s: float | None, *, public: bool
    ) -> DownloadConnection:
        proxy = self._proxy
        try:
            async with asyncio.timeout(timeout_s):
                plug = await (
                    dial(origin[1], origin[2], public=public) if proxy is None else _reach(proxy)
                )
                line = DownloadConnection(plug, origin, public=public)
                if origin[0] == "https":
                    secure = partial(self._secure, line, timeout_s)
                    try:
                        await in_own_thread(secure, line.abort)
                    except BaseException:
                        line.close()
                        raise
                return line
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"no connection within {timeout_s:g} s") from error
        except (OSError, h11.RemoteProtocolError) as error:
            raise httpx.ConnectError(str(error)) from error

    def _secure(self, line: DownloadConnection, timeout_s: float | None) -> None:
        if self._proxy is not None:
            line.tunnel(self._proxy, timeout_s)
        line.secure(self._context(), timeout_s)


async def _reach(proxy: Proxy) -> socket.socket:
    """A connection to a proxy. Raises httpx.ProxyError."""
    try:
        return await dial(proxy.host, proxy.port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise httpx.ProxyError(
            f"the proxy {proxy.host}:{proxy.port} cannot be reached ({reason})"
        ) from error


def _read_error(error: Exception) -> httpx.TransportError:
    if isinstance(error, h11.RemoteProtocolError):
        return httpx.RemoteProtocolError(str(error))
    if isinstance(error, TimeoutError):
        return httpx.ReadTimeout("nothing came in time")
    return httpx.ReadError(str(error))
