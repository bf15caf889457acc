"""A small HTTP/1.1 server on loopback: connections, requests, and nothing about the Hub.

Made for the demo hub, which must be able to misbehave in ways that a good server does not allow:
cut a body short, reset a connection, go silent. So the handler holds the connection itself.
"""

from __future__ import annotations

import asyncio
import http
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

import httptools

HOST = "127.0.0.1"

_MESSAGE_LIMIT = 1 << 20
"""Bytes of one request, body included. The Hub's clients send a few kilobytes at most."""

_SEND_BUFFER = 256 << 10
"""Bytes the kernel may hold for a client: small, so that what counts as sent has nearly arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRequest:
    """One request, read to its end."""

    method: str
    target: str
    """Path and query, as they came."""
    headers: dict[str, str]
    """Names in lower case; of several with one name, the last."""
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def segments(self) -> list[str]:
        """The path's segments, decoded one by one, so that `%2F` stays inside its segment."""
        return [unquote(part) for part in self.path.split("/")[1:]]

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's values by name."""
        return parse_qs(self.target.partition("?")[2], keep_blank_values=True)


@dataclass(slots=True)
class _RequestReader:
    """The parser's callbacks (httptools): they collect requests."""

    ready: deque[HubRequest]
    url: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    parser: httptools.HttpRequestParser = field(init=False)

    def __post_init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.url, self.body, self.headers = b"", b"", {}

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ready.append(
            HubRequest(
                method=self.parser.get_method().decode(),
                target=self.url.decode("latin-1"),
                headers=self.headers,
                body=self.body,
            )
        )


class HubConnection:
    """One client's connection. Requests come out, bytes go in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._stream = reader
        self._writer = writer
        self._ready: deque[HubRequest] = deque()
        self._reader = _RequestReader(self._ready)
        self._received = 0
        # No buffer of our own: `write` then returns when the kernel has taken everything.
        writer.transport.set_write_buffer_limits(high=0)
        plug = writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    async def requests(self) -> AsyncIterator[HubRequest]:
        """Requests in order, until the client is gone. Raises httptools.HttpParserError."""
        while True:
            while self._ready:
                request = self._ready.popleft()
                self._received = 0
                yield request
                if request.headers.get("connection", "").lower() == "close":
                    return
            if not await self._receive():
                return

    async def _receive(self) -> bool:
        data = await self._stream.read(1 << 16)
        self._received += len(data)
        if self._received > _MESSAGE_LIMIT:
            raise httptools.HttpParserError("The request is too large.")
        if data:
            self._reader.parser.feed_data(data)
        return bool(data)

    async def gone(self) -> None:
        """Wait until the client closed its side; what it still sends is kept for later."""
        try:
            while await self._receive():
                pass
        except ConnectionError:
            pass

    async def head(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Send a status line and headers. Raises ConnectionError."""
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers]
        await self.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def write(self, data: bytes) -> None:
        """Send bytes, and return when the kernel has them. Raises ConnectionError."""
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        """Close the connection properly, even with a shorter body than announced."""
        self._writer.close()

    def reset(self) -> None:
        """Drop the connection with a TCP reset, so that the client sees an error."""
        if self._writer.transport.is_closing():
            return
        plug = self._writer.get_extra_info("socket")
        # Linger on, zero seconds: close() then sends RST instead of FIN (socket(7)).
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Handler = Callable[[HubRequest, HubConnection], Awaitable[None]]


class Server:
    """Listens on a free port of loopback and hands every request to a handler, in order."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._serving: dict[asyncio.Task[None], HubConnection] = {}
        self.online = True
        """While False, new connections are closed at once."""

    async def start(self, port: int = 0) -> int:
        """Listen, and return the port. Raises OSError when `port` is taken."""
        self._server = await asyncio.start_server(self._accept, HOST, port)
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        assert self._server is not None
        self._server.close()
        for task, connection in self._serving.items():
            task.cancel()
            connection.reset()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    def drop_all(self) -> None:
        """Reset every connection; new ones are taken while `online`."""
        for connection in self._serving.values():
            connection.reset()

    # Not a coroutine: the tasks are ours, and not asyncio.streams', which logs those it cancels.
    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = HubConnection(reader, writer)
        if not self.online:
            connection.reset()
            return
        task = asyncio.create_task(self._serve(connection))
        self._serving[task] = connection
        task.add_done_callback(self._serving.pop)

    async def _serve(self, connection: HubConnection) -> None:
        try:
            async for request in connection.requests():
                await self._handle(request, connection)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            await self._refuse(connection)
        except ConnectionError:
            pass  # The client left: nothing is owed to it.
        finally:
            connection.close()

    async def _refuse(self, connection: HubConnection) -> None:
        try:
            await connection.head(400, [("Content-Length", "0"), ("Connection", "close")])
        except ConnectionError:
            pass
