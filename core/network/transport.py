"""HTTP/1.1 connection pool: an httpx transport whose bodies can go from socket to file directly.

Requests and responses are httpx's records (URLs, headers, time limits); h11 writes and parses the
heads. Content passes through neither: a thread receives it into one buffer and hands that to a
`Sink`, without a further copy. httpx's own path copies every 64 KiB several times, which takes
three times the processor time. Threads are used because receiving and writing block, and because
Python releases its lock during both and during decryption: the event loop never waits.

    response = await transport.handle_async_request(request)
    if (body := response.extensions.get("network_stream")) is not None:
        await body.pour(sink)

Connections are kept for the next request to the same origin. Without a sink a response is read as
with any other transport.
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
"""Buffer of one connection; a larger one would not stay in the processor's cache."""

IDLE_S = 20.0
"""Seconds that an unused connection is kept. Servers close them after about a minute."""

IDLE_MOST = 32
"""Most unused connections that are kept."""

PUBLIC = "modeldeck.public"
"""Request extension: connect to public addresses only."""


class Sink(Protocol):
    """Receives content. `room` and `take` are called in one thread, in turn."""

    def room(self) -> int:
        """Bytes that `take` accepts next; blocks while it is none. 0 ends the transfer."""

    def take(self, data: memoryview) -> None:
        """Process received bytes; the buffer is reused afterwards."""

    def stop(self) -> None:
        """Make `room` return 0, also while it blocks. From any thread."""


def fill(sink: Sink, data: bytes | bytearray) -> bool:
    """Hand `data` to a sink; return whether the sink accepts more. Blocks."""
    view = memoryview(data)
    while view:
        if not (room := sink.room()):
            return False
        sink.take(view[:room])
        view = view[room:]
    return True


class BodyStream(httpx.AsyncByteStream):
    """Body of a response: `pour` it into a sink, or iterate over it."""

    def __init__(
        self,
        pool: ConnectionPool,
        connection: DownloadConnection,
        response: HttpResponse,
        timeout_s: float | None,
    ) -> None:
        self._pool = pool
        self._connection = connection
        self._response = response
        self._timeout_s = timeout_s
        self._left = response.length
        self._closed = False

    @property
    def can_pour(self) -> bool:
        """Whether the body has a known length, without chunked coding."""
        return self._left is not None

    async def pour(self, sink: Sink) -> None:
        """Receive the body into a sink, until its end or until the sink ends the transfer.

        Raises httpx.ReadError or ReadTimeout, and the errors of the sink.
        """

        def abort() -> None:
            sink.stop()
            self._connection.abort()

        await in_own_thread(partial(self._pour, sink), abort)

    def _pour(self, sink: Sink) -> None:
        assert self._left is not None
        early = self._response.parser.trailing_data[0][: self._left]
        if not fill(sink, early):
            return
        self._left -= len(early)
        buffer = memoryview(bytearray(min(BUFFER_BYTES, self._left)))
        while self._left:
            if not (room := sink.room()):
                return
            try:
                got = self._connection.receive(buffer[: min(room, self._left)], self._timeout_s)
            except OSError as error:
                raise _read_error(error) from error
            if not got:
                raise httpx.ReadError("the server ended it early")
            self._left -= got
            sink.take(buffer[:got])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the body as httpx does, for responses that are not poured."""
        parser = self._response.parser
        while True:
            try:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    parser.receive_data(
                        await in_own_thread(self._connection.read, self._connection.abort)
                    )
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
        """Return the connection to the pool if the body was read to its end; else close it."""
        if not self._closed:
            self._closed = True
            self._pool.give_back(
                self._connection, keep=self._left == 0 and self._response.keeps_alive
            )


class ConnectionPool(httpx.AsyncBaseTransport):
    """Pool of connections, either direct or all through one proxy."""

    def __init__(self, context: Callable[[], ssl.SSLContext], proxy: Proxy | None = None) -> None:
        """`context` is called for the first TLS connection, in a thread; it may block."""
        self._context = context
        self._proxy = proxy
        self._idle: list[DownloadConnection] = []
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on a kept or new connection; return the response with its body unread.

        With the extension `PUBLIC` it is sent to public addresses only; behind a proxy the proxy
        decides about addresses. Raises httpx.TransportError.
        """
        limits = request.extensions.get("timeout", {})
        read_s = limits.get("read")
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        origin = (request.url.scheme, request.url.host, port)
        public = bool(request.extensions.get(PUBLIC))
        head = self._request_head(request)
        while True:
            connection = self._idle_connection(origin, public)
            is_new = connection is None
            if connection is None:
                connection = await self._connect(origin, limits.get("connect"), public=public)
            try:
                response = await in_own_thread(
                    partial(connection.request, head, read_s), connection.abort
                )
            except (OSError, h11.RemoteProtocolError) as error:
                connection.close()
                # The server may have closed a kept connection just now: try another one.
                if is_new:
                    raise _read_error(error) from error
            except BaseException:
                connection.close()
                raise
            else:
                break
        stream = BodyStream(self, connection, response, read_s)
        return httpx.Response(
            response.head.status_code,
            headers=response.head.headers.raw_items(),
            stream=stream,
            extensions={"http_version": b"HTTP/1.1", "network_stream": stream},
        )

    def _request_head(self, request: httpx.Request) -> h11.Request:
        """The head of a request. A proxy needs the absolute URL for http (RFC 9112, 3.2.2)."""
        target, headers = request.url.raw_path, request.headers.raw
        if self._proxy is not None and request.url.scheme == "http":
            target = b"http://" + request.url.netloc + target
            headers = [*headers, *self._proxy.headers]
        try:
            return h11.Request(method=request.method.encode(), target=target, headers=headers)
        except h11.LocalProtocolError:
            # h11's message quotes the header, which may be a token: it must not be shown.
            raise httpx.LocalProtocolError("a header of the request cannot be sent") from None

    async def aclose(self) -> None:
        """Close unused connections. Bodies under way close theirs when their tasks end."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def give_back(self, connection: DownloadConnection, *, keep: bool) -> None:
        """Take a connection back after its response: keep it for reuse, or close it."""
        if keep and not self._closed and len(self._idle) < IDLE_MOST:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.close()

    def _idle_connection(self, origin: Origin, public: bool) -> DownloadConnection | None:
        """The most recently used open connection to this origin; None where there is none."""
        oldest = time.monotonic() - IDLE_S
        for connection in [
            connection for connection in self._idle if connection.idle_since < oldest
        ]:
            self._idle.remove(connection)
            connection.close()
        for connection in [
            connection for connection in reversed(self._idle) if connection.origin == origin
        ]:
            if public and not connection.public:
                continue
            self._idle.remove(connection)
            if connection.is_quiet():
                return connection
            connection.close()
        return None

    async def _connect(
        self, origin: Origin, timeout_s: float | None, *, public: bool
    ) -> DownloadConnection:
        proxy = self._proxy
        try:
            async with asyncio.timeout(timeout_s):
                sock = await (
                    dial(origin[1], origin[2], public=public)
                    if proxy is None
                    else _connect_proxy(proxy)
                )
                connection = DownloadConnection(sock, origin, public=public)
                if origin[0] == "https":
                    secure = partial(self._secure, connection, timeout_s)
                    try:
                        await in_own_thread(secure, connection.abort)
                    except BaseException:
                        connection.close()
                        raise
                return connection
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"no connection within {timeout_s:g} s") from error
        except (OSError, h11.RemoteProtocolError) as error:
            raise httpx.ConnectError(str(error)) from error

    def _secure(self, connection: DownloadConnection, timeout_s: float | None) -> None:
        if self._proxy is not None:
            connection.tunnel(self._proxy, timeout_s)
        connection.secure(self._context(), timeout_s)


async def _connect_proxy(proxy: Proxy) -> socket.socket:
    """Connect to a proxy. Raises httpx.ProxyError."""
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
