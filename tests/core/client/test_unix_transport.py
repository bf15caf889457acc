"""HTTP over a Unix socket: connections used again, servers that are silent, slow or gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from modeldeck.core.client import unix_transport
from modeldeck.core.client.transport import AnswerTimeout, TransportFailed
from modeldeck.core.client.unix_transport import MAX_IDLE, UnixTransport
from tests.support import stream_server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[UnixTransport]:
    """A transport to a server that handles each connection with `serve`, then closes it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    with TemporaryDirectory() as folder:
        socket = Path(folder) / "core.sock"
        async with stream_server.serving(handle, socket):
            transport = UnixTransport(socket, {"X-Test": "1"})
            try:
                yield transport
            finally:
                await transport.close()


async def ask(transport: UnixTransport, content: bytes | None = None) -> bytes:
    method = "GET" if content is None else "POST"
    async with transport.stream(method, "/path?x=1", content, 60.0) as response:
        assert (response.status, response.reason) == (200, "OK")
        return b"".join([piece async for piece in response.body])


class Recorder:
    """Answers every request on a connection, up to `limit` of them, and keeps what came."""

    def __init__(self, limit: int = 100) -> None:
        self.connections = 0
        self.heads: list[bytes] = []
        self._limit = limit

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for _ in range(self._limit):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            if b"POST" in head:
                head += await reader.readexactly(2)
            self.heads.append(head)
            writer.write(OK)


async def test_a_request_has_its_headers_and_body() -> None:
    async with serving(recorder := Recorder()) as transport:
        assert await ask(transport) == b"ok"
        assert await ask(transport, b"{}") == b"ok"
    get, post = (head.lower() for head in recorder.heads)
    assert get.startswith(b"get /path?x=1 http/1.1\r\nhost: localhost\r\n")
    assert b"x-test: 1\r\n" in get
    assert b"content-" not in get
    assert b"content-type: application/json\r\ncontent-length: 2\r\n" in post
    assert post.endswith(b"\r\n\r\n{}")


async def test_a_connection_is_used_again() -> None:
    async with serving(recorder := Recorder()) as transport:
        for _ in range(3):
            await ask(transport)
    assert recorder.connections == 1


async def test_a_connection_that_the_core_closed_is_not_used_again() -> None:
    async with serving(recorder := Recorder(limit=1)) as transport:
        for expected in (1, 2):
            await ask(transport)
            assert recorder.connections == expected
            (idle,) = transport._idle
            while idle.is_usable():  # noqa: ASYNC110 (a stream has no event for its end)
                await asyncio.sleep(0)


async def test_a_connection_that_was_idle_for_long_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unix_transport, "KEEP_ALIVE_S", 0.0)
    async with serving(recorder := Recorder()) as transport:
        await ask(transport)
        await ask(transport)
        assert len(transport._idle) == 1
    assert recorder.connections == 2


async def test_few_idle_connections_are_kept() -> None:
    async with serving(Recorder()) as transport:
        await asyncio.gather(*(ask(transport) for _ in range(3 * MAX_IDLE)))
        assert len(transport._idle) == MAX_IDLE


async def test_a_connection_whose_answer_ends_after_the_close_is_closed() -> None:
    ended = asyncio.Event()
    recorder = Recorder()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await recorder(reader, writer)
        ended.set()

    async with serving(serve) as transport:
        async with transport.stream("GET", "/", None, 60.0) as response:
            await transport.close()
            assert b"".join([piece async for piece in response.body]) == b"ok"
        await asyncio.wait_for(ended.wait(), 60)


async def test_a_connection_whose_answer_was_left_is_not_used_again() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        assert await reader.read() == b""
        ended.set()

    ended = asyncio.Event()
    async with serving(serve) as transport:
        async with transport.stream("GET", "/", None, 60.0) as response:
            assert await anext(response.body) == b"half"
        assert transport._idle == []
        await ended.wait()  # the core hears at once that nothing more is read


async def test_a_head_that_says_continue_is_followed_by_the_answer() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
        await reader.read()

    async with serving(serve) as transport:
        assert await ask(transport) == b"ok"


async def test_a_silent_core_is_waited_for_as_long_as_was_said() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(serve) as transport:
        with pytest.raises(AnswerTimeout):
            async with transport.stream("GET", "/", None, 0.01):
                pass
        assert transport._idle == []


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    ],
)
async def test_what_is_not_http_or_breaks_off_is_a_failure(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with serving(serve) as transport:
        with pytest.raises(TransportFailed):
            await ask(transport)
        assert transport._idle == []


async def test_where_nothing_listens_it_fails_with_what_the_system_says(tmp_path: Path) -> None:
    transport = UnixTransport(tmp_path / "none.sock", {})
    with pytest.raises(TransportFailed, match="No such file"):
        await ask(transport)
