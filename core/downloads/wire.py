"""HTTP/1.1 for content: an httpx transport whose bodies go from the socket straight to the disk.

httpx decides everything (URLs, headers, redirects, time limits) and h11 writes and reads the heads.
The content itself passes neither: a thread receives it into one buffer and hands that to a `Sink`,
without a copy between the socket and the file. httpx's own path touches every 64 KiB several times,
which costs three times as much. Threads, because both the receiving and the writing may block, and
because Python lets go of its lock while they and the decryption work: the loop never waits.

    response = await client.send(request, stream=True)
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
from collections.abc import AsyncIterator
from functools import partial
from typing import Protocol

import h11
import httpx

from core.downloads.threads import in_own_thread

BUFFER_BYTES = 512 << 10
"""One buffer of a connection: more would leave the processor's cache between socket and file."""

GATHER_S = 0.05
"""A slow line's bytes are gathered so long before they are written."""

HEAD_BYTES = 100 << 10
"""Limit of an answer's head. The Hub's, with its policies, take some 4 KiB."""

EACH_ADDRESS_S = 2.0
"""For one of several addresses of a host: the next may be of the other IP version."""

IDLE_S = 20.0
"""Connections are kept unused so long. Servers close them after about a minute."""

IDLE_MOST = 32


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


Origin = tuple[str, str, int]
"""Scheme, host and port."""


class Line:
    """One connection. Its blocking methods are called in one thread at a time."""

    def __init__(self, plug: socket.socket, origin: Origin) -> None:
        self._plug = plug
        self.origin = origin
        self.idle_since = 0.0

    def secure(self, context: ssl.SSLContext, timeout_s: float | None) -> None:
        """Speak TLS from now on."""
        self._plug.settimeout(timeout_s)
        # First wrapped, then shaken hands: so that `abort` finds the socket that waits.
        self._plug = plug = context.wrap_socket(
            self._plug, server_hostname=self.origin[1], do_handshake_on_connect=False
        )
        plug.do_handshake()

    def ask(self, request: httpx.Request, timeout_s: float | None) -> Answer:
        """Send a request and read the head of its answer. Raises OSError, h11.RemoteProtocolError.

        The limit is for all of it, so a server that sends a byte now and then gains nothing.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
        self._plug.settimeout(timeout_s)
        asked = h11.Request(
            method=request.method.encode(),
            target=request.url.raw_path,
            headers=request.headers.raw,
        )
        self._plug.sendall((parser.send(asked) or b"") + (parser.send(h11.EndOfMessage()) or b""))
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Response):
                self._plug.settimeout(timeout_s)
                return Answer(event, parser)
            if event is h11.NEED_DATA:
                if deadline is not None:
                    self._plug.settimeout(max(0.001, deadline - time.monotonic()))
                parser.receive_data(self._plug.recv(1 << 16))

    def receive(self, view: memoryview, timeout_s: float | None) -> int:
        """Fill the buffer, or what comes of it within `GATHER_S`; 0 at the end of the connection.

        Raises OSError when nothing came at all; what came before an error is not lost.
        """
        self._plug.settimeout(timeout_s)
        got = self._plug.recv_into(view)
        until = time.monotonic() + GATHER_S
        while 0 < got < len(view) and (rest := until - time.monotonic()) > 0:
            self._plug.settimeout(rest)
            try:
                if not (more := self._plug.recv_into(view[got:])):
                    break
            except OSError:
                break  # The next call meets it again, or the limit was only ours.
            got += more
        return got

    def read(self) -> bytes:
        """Whatever comes next, up to 64 KiB."""
        return self._plug.recv(1 << 16)

    def is_quiet(self) -> bool:
        """Whether nothing waits to be read: on an idle connection that would be its end."""
        self._plug.settimeout(0)
        try:
            # Past TLS, which would take what is there.
            socket.socket.recv(self._plug, 1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        except (OSError, ValueError):
            return False
        return False

    def abort(self) -> None:
        """Make a blocking call in another thread end now."""
        try:
            # Not ssl.SSLSocket's: that one goes on unencrypted.
            socket.socket.shutdown(self._plug, socket.SHUT_RDWR)
        except OSError:
            pass  # It is closed already.

    def close(self) -> None:
        """Close the connection."""
        self._plug.close()


class Answer:
    """The head of an answer, and what the parser has of its body."""

    def __init__(self, head: h11.Response, parser: h11.Connection) -> None:
        self.head = head
        self.parser = parser
        headers = dict(head.headers)
        length = headers.get(b"content-length")
        self.length = int(length) if length and b"transfer-encoding" not in headers else None
        """Bytes of the body, where they are counted and nothing else marks its end."""
        tokens = headers.get(b"connection", b"").lower().split(b",")
        self.stays = head.http_version == b"1.1" and b"close" not in map(bytes.strip, tokens)
        """Whether the connection may be used again."""


class Stream(httpx.AsyncByteStream):
    """The body of an answer, to be poured or read."""

    def __init__(self, wire: Wire, line: Line, answer: Answer, timeout_s: float | None) -> None:
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


class Wire(httpx.AsyncBaseTransport):
    """Connections without a proxy."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._idle: list[Line] = []
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, on a connection that is there or a new one; the answer's body follows.

        Raises httpx.TransportError.
        """
        limits = request.extensions.get("timeout", {})
        read_s = limits.get("read")
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        origin = (request.url.scheme, request.url.host, port)
        while True:
            line = self._kept(origin)
            is_new = line is None
            if line is None:
                line = await self._connect(origin, limits.get("connect"))
            try:
                answer = await in_own_thread(partial(line.ask, request, read_s), line.abort)
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
        stream = Stream(self, line, answer, read_s)
        return httpx.Response(
            answer.head.status_code,
            headers=answer.head.headers.raw_items(),
            stream=stream,
            extensions={"http_version": b"HTTP/1.1", "network_stream": stream},
        )

    async def aclose(self) -> None:
        """Close what is kept. Bodies that are being received end with their tasks."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def give_back(self, line: Line, *, keep: bool) -> None:
        """Take back a connection that an answer is done with."""
        if keep and not self._closed and len(self._idle) < IDLE_MOST:
            line.idle_since = time.monotonic()
            self._idle.append(line)
        else:
            line.close()

    def _kept(self, origin: Origin) -> Line | None:
        """The connection to this origin that was used last, if there is a good one."""
        oldest = time.monotonic() - IDLE_S
        for line in [line for line in self._idle if line.idle_since < oldest]:
            self._idle.remove(line)
            line.close()
        for line in [line for line in reversed(self._idle) if line.origin == origin]:
            self._idle.remove(line)
            if line.is_quiet():
                return line
            line.close()
        return None

    async def _connect(self, origin: Origin, timeout_s: float | None) -> Line:
        try:
            async with asyncio.timeout(timeout_s):
                line = Line(await _open(origin), origin)
                if origin[0] == "https":
                    secure = partial(line.secure, self._context, timeout_s)
                    try:
                        await in_own_thread(secure, line.abort)
                    except BaseException:
                        line.close()
                        raise
                return line
        except TimeoutError as error:
            raise httpx.ConnectTimeout(f"no connection within {timeout_s:g} s") from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error


async def _open(origin: Origin) -> socket.socket:
    """A connection to the first address of a host that answers. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(origin[1], origin[2], type=socket.SOCK_STREAM)
    failure: OSError = OSError("the host has no address")
    for number, (family, kind, protocol, _, address) in enumerate(found, 1):
        plug = socket.socket(family, kind, protocol)
        try:
            plug.setblocking(False)
            async with asyncio.timeout(EACH_ADDRESS_S if number < len(found) else None):
                await loop.sock_connect(plug, address)
            plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            plug.close()
            failure = error
        except BaseException:
            plug.close()
            raise
        else:
            return plug
    raise failure


def _read_error(error: Exception) -> httpx.TransportError:
    if isinstance(error, h11.RemoteProtocolError):
        return httpx.RemoteProtocolError(str(error))
    if isinstance(error, TimeoutError):
        return httpx.ReadTimeout("nothing came in time")
    return httpx.ReadError(str(error))
