"""HTTP/1.1 over a Unix socket, on asyncio streams; h11 reads and writes the protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import h11

from modeldeck.core.client.transport import (
    CONNECT_S,
    KEEP_ALIVE_S,
    AnswerTimeout,
    CoreResponse,
    TransportFailed,
)

READ_BYTES = 1 << 16
MAX_IDLE = 4
"""Connections kept for the next request; a dashboard sends up to that many at the same time."""


class UnixTransport:
    """Requests to the core at a Unix socket; a few idle connections are used again."""

    def __init__(self, socket: Path, headers: Mapping[str, str]) -> None:
        self._socket = socket
        self._headers = [("Host", "localhost"), ("User-Agent", "modeldeck"), *headers.items()]
        self._idle: list[_Connection] = []
        self._closed = False

    async def close(self) -> None:
        """Close the idle connections; those in use are closed when their streams end."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, content: bytes | None, timeout_s: float | None
    ) -> AsyncIterator[CoreResponse]:
        """Send a request; see `Transport.stream`."""
        connection = self._take_idle() or await self._connect()
        try:
            head = await connection.send(
                h11.Request(method=method, target=path, headers=self._request_headers(content)),
                content,
                timeout_s,
            )
            async with aclosing(connection.body(timeout_s)) as body:
                yield CoreResponse(status=head.status_code, reason=head.reason.decode(), body=body)
        except BaseException:
            connection.abort()
            raise
        has_room = not self._closed and len(self._idle) < MAX_IDLE
        if has_room and connection.start_next_cycle():
            self._idle.append(connection)
        else:
            connection.abort()

    def _request_headers(self, content: bytes | None) -> list[tuple[str, str]]:
        if content is None:
            return self._headers
        length = str(len(content))
        return [*self._headers, ("Content-Type", "application/json"), ("Content-Length", length)]

    def _take_idle(self) -> _Connection | None:
        """The newest idle connection that is still open; the others that are not are closed."""
        usable = [connection for connection in self._idle if connection.is_usable()]
        for connection in self._idle:
            if connection not in usable:
                connection.abort()
        self._idle = usable
        return usable.pop() if usable else None

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_unix_connection(str(self._socket))
        except TimeoutError as error:
            raise TransportFailed(f"it did not accept within {CONNECT_S:.0f} s") from error
        except OSError as error:
            raise TransportFailed(str(error)) from error
        return _Connection(reader, writer)


_Event = h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]
"""What `h11.Connection.next_event` returns."""


class _Connection:
    """One connection, which carries one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)
        self._idle_since = 0.0

    async def send(
        self, request: h11.Request, content: bytes | None, timeout_s: float | None
    ) -> h11.Response:
        """Send a request and return the head of its answer. Raises TransportFailed."""
        events: list[h11.Event] = [request]
        if content:
            events.append(h11.Data(data=content))
        self._writer.writelines(
            data for event in (*events, h11.EndOfMessage()) if (data := self._http.send(event))
        )
        with suppress(OSError):  # the core may answer and close before it has read everything
            await self._writer.drain()
        while True:
            event = await self._next_event(timeout_s)
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise TransportFailed("the answer has no head")

    async def body(self, timeout_s: float | None) -> AsyncGenerator[bytes, None]:
        """The body of the answer, piece by piece. Raises TransportFailed."""
        while isinstance(event := await self._next_event(timeout_s), h11.Data):
            yield bytes(event.data)

    async def _next_event(self, timeout_s: float | None) -> _Event:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                async with asyncio.timeout(timeout_s):
                    data = await self._reader.read(READ_BYTES)
                self._http.receive_data(data)
        except TimeoutError as error:
            raise AnswerTimeout(f"nothing came for {timeout_s} s") from error
        except (OSError, h11.RemoteProtocolError) as error:
            raise TransportFailed(str(error) or type(error).__name__) from error
        return event

    def start_next_cycle(self) -> bool:
        """Make the connection ready for another request; False where it can carry none."""
        self._idle_since = time.monotonic()
        if (self._http.our_state, self._http.their_state) != (h11.DONE, h11.DONE):
            return False
        self._http.start_next_cycle()
        return True

    def is_usable(self) -> bool:
        """Whether the core can be expected to take another request on it."""
        young = time.monotonic() - self._idle_since < KEEP_ALIVE_S
        return young and not self._reader.at_eof() and not self._writer.is_closing()

    def abort(self) -> None:
        """Close it at once, from wherever it is."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close it, and return when the socket is closed."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
