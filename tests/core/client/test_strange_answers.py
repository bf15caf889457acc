"""The client against servers that answer strangely."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from modeldeck.core.client import connection
from modeldeck.core.client.answers import OTHER_VERSION
from modeldeck.core.client.client import Client
from modeldeck.core.client.connection import CoreConnection
from modeldeck.core.client.transport import TransportFailed
from modeldeck.core.errors import (
    CoreUnreachable,
    DeckError,
    EngineFailed,
    Forbidden,
    InvalidRequest,
    Unauthorized,
)
from modeldeck.core.schema import GenerateRequest, Message
from tests.support.stream_server import serving


def _question(text: str) -> GenerateRequest:
    return GenerateRequest(messages=(Message(role="user", content=text),))


Answering = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture(params=["socket", "url"])
def answering(request: pytest.FixtureRequest) -> Answering:
    """Makes a client of a server that reads a request head and sends these pieces, one by one.

    Over each of the client's transports.
    """

    @asynccontextmanager
    async def answering(*pieces: bytes) -> AsyncIterator[Client]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        if request.param == "url":
            async with serving(serve) as port, Client(url=f"http://127.0.0.1:{port}") as client:
                yield client
            return
        with TemporaryDirectory() as folder:
            socket = Path(folder) / "core.sock"
            async with serving(serve, socket), Client(socket=socket) as client:
                yield client

    return answering


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


async def test_a_streamed_answer_may_be_cut_anywhere(answering: Answering) -> None:
    event = 'data: {"choices":[{"delta":{"content":"a\u2028b🦙"}}]}\r\n\r\n'.encode()
    end = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    stream = HEAD + b": a comment\n\n" + event + end
    async with (
        answering(*(stream[i : i + 1] for i in range(len(stream)))) as client,
        client.generate("m", _question("x")) as chunks,
    ):
        pieces = [chunk async for chunk in chunks]
    assert [piece.text for piece in pieces] == ["a\u2028b🦙", ""]
    assert pieces[-1].finish_reason == "stop"


async def test_an_error_in_mid_answer_is_raised_with_its_class(answering: Answering) -> None:
    event = b'data: {"choices":[{"delta":{"content":"so far"}}]}\n\n'
    error = b'data: {"error":{"code":"engine_failed","message":"It died."}}\n\n'
    async with (
        answering(HEAD, event, error) as client,
        client.generate("m", _question("x")) as chunks,
    ):
        assert (await anext(chunks)).text == "so far"
        with pytest.raises(EngineFailed, match="It died"):
            await anext(chunks)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "not JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "not understood"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\nsorry", "sorry"),
        (b'HTTP/1.1 404 No\r\nContent-Length: 14\r\n\r\n{"error":"no"}', "404"),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n", "Bad"),
    ],
)
async def test_an_answer_that_is_not_modeldecks_is_an_error_in_words(
    answering: Answering, answer: bytes, words: str
) -> None:
    async with answering(answer) as client:
        with pytest.raises(DeckError, match=words):
            await client.model("m")


@pytest.mark.parametrize("body", [b"null", b"[]", b"{}", b"7", b'{"models": [1], "fits": 1}'])
async def test_an_answer_of_another_shape_is_an_error_in_words(
    answering: Answering, body: bytes
) -> None:
    questions: list[Callable[[Client], Awaitable[object]]] = [
        lambda client: client.state(),
        lambda client: client.download("m"),
        lambda client: client.fits(),
        lambda client: client.model("m"),
    ]
    for question in questions:
        async with answering(handshake("200 OK", body)) as client:
            with pytest.raises(DeckError, match="answer"):
                await question(client)


@pytest.mark.parametrize("body", [b"7", b'{"data": [{}]}', b'{"data": [{"embedding": "x"}]}'])
async def test_embeddings_of_another_shape_are_an_error_in_words(
    answering: Answering, body: bytes
) -> None:
    async with answering(handshake("200 OK", body)) as client:
        with pytest.raises(DeckError, match="answer"):
            await client.embed("m", ["text"])


def test_a_file_of_certificates_that_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ca")
    with pytest.raises(InvalidRequest, match="it is no file"):
        CoreConnection(None, "https://127.0.0.1:1", ca_file=str(tmp_path / "ca"))


async def test_an_answer_cut_off_means_that_the_core_is_gone(answering: Answering) -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{") as client:
        with pytest.raises(CoreUnreachable):
            await client.model("m")


async def test_a_feed_that_is_refused_is_not_asked_for_again_and_again(
    answering: Answering,
) -> None:
    async with answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as client:
        with pytest.raises(DeckError, match="refuses the feed"):
            await client.feed.until(lambda _: True)


def handshake(status: str, body: bytes = b"") -> bytes:
    length = f"Content-Length: {len(body)}"
    return f"HTTP/1.1 {status}\r\n{length}\r\nConnection: close\r\n\r\n".encode() + body


def recorded(code: str, message: str, remedy: str = "") -> bytes:
    return msgspec.json.encode({"error": {"code": code, "message": message, "remedy": remedy}})


@pytest.mark.parametrize(
    ("status", "body", "kind", "words", "remedy"),
    [
        ("401 Unauthorized", recorded("unauthorized", "No token."), Unauthorized, "No token.",
         "token create"),
        ("401 Unauthorized", recorded("unauthorized", "Expired.", "Make one."), Unauthorized,
         "status 401: Expired.", "Make one."),
        ("401 Unauthorized", b"<html>a proxy</html>", Unauthorized, "status 401.", "--token-file"),
        ("403 Forbidden", b"", Forbidden, "status 403.", "not allowed"),
        ("403 Forbidden", recorded("forbidden", "Not in scope."), Forbidden, "Not in scope.", ""),
        ("400 Bad Request", recorded("invalid_request", "max_hz."), InvalidRequest, "max_hz.", ""),
        ("404 Not Found", b"", DeckError, "status 404.", OTHER_VERSION),
        ("426 Upgrade Required", b"", DeckError, "status 426.", OTHER_VERSION),
        ("302 Found", b"", DeckError, "status 302.", ""),
    ],
)  # fmt: skip
async def test_a_handshake_that_is_refused_is_told_as_what_it_is(
    answering: Answering, status: str, body: bytes, kind: type[DeckError], words: str, remedy: str
) -> None:
    async with answering(handshake(status, body)) as client:
        with pytest.raises(DeckError, match="refuses the feed") as raised:
            await client.feed.until(lambda _: True)
    error = raised.value
    assert type(error) is kind
    assert words in error.message
    assert remedy in error.remedy
    assert remedy == OTHER_VERSION or "another version" not in str(error)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        ("429 Too Many Requests", recorded("too_many_requests", "Ask less often."),
         "status 429: Ask less often."),
        ("500 Internal Server Error", b"", "status 500."),
        ("502 Bad Gateway", b"<html>", "status 502."),
        ("503 Service Unavailable", recorded("busy", "1,000 connections."), "1,000 connections."),
    ],
)  # fmt: skip
async def test_a_handshake_that_may_do_later_is_tried_again_and_told(
    answering: Answering, status: str, body: bytes, words: str
) -> None:
    told: list[CoreUnreachable] = []
    async with (
        answering(handshake(status, body)) as client,
        client.feed.watch(lost=lambda error, _: told.append(error)) as items,
    ):
        waiting = asyncio.ensure_future(anext(aiter(items)))
        while len(told) < 2:
            assert not waiting.done()
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert words in told[-1].message
    assert "another version" not in str(told[-1])


async def test_the_token_is_not_sent_where_an_answer_leads() -> None:
    """A redirection of the handshake may name any other machine."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        where = f"Location: ws://localhost:{port}/elsewhere\r\n".encode()
        writer.write(b"HTTP/1.1 302 Found\r\n" + where + b"Content-Length: 0\r\n\r\n")
        writer.close()

    async with (
        serving(serve) as port,
        Client(url=f"http://127.0.0.1:{port}", token="deck_secret") as client,
    ):
        with pytest.raises(DeckError, match="refuses the feed with status 302") as raised:
            await client.feed.until(lambda _: True)
    assert len(heads) == 1
    assert "deck_secret" not in repr((raised.value, raised.value.__cause__, str(raised.value)))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 4096,
        b"HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\n" + b"x" * 4096,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Encoding: gzip\r\n\r\n"
        + gzip.compress(b"x" * 100_000),
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Encoding: gzip\r\n\r\nno gzip",
    ],
)
async def test_an_answer_has_a_limit_and_is_decoded_or_refused(
    answering: Answering, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "ANSWER_BYTES", 2048)
    monkeypatch.setattr(connection, "ERROR_BYTES", 2048)
    async with answering(answer) as client:
        with pytest.raises(DeckError):
            await client.model("m")


@pytest.mark.parametrize("event", [b"no json", b'"text"', b"[" * 100_000])
async def test_an_event_that_makes_no_sense_is_an_error_in_words(
    answering: Answering, event: bytes
) -> None:
    async with (
        answering(HEAD + b"data: " + event + b"\n\n") as client,
        client.generate("m", _question("?")) as chunks,
    ):
        with pytest.raises(DeckError, match="broke off"):
            await anext(chunks)


@pytest.mark.parametrize(
    ("mode", "words"), [(0o750, "`sudo usermod -aG {group} NAME`"), (0o700, "It is {owner}'s.")]
)
def test_a_socket_of_others_says_who_may_use_it(tmp_path: Path, mode: int, words: str) -> None:
    tmp_path.chmod(mode)
    there = CoreConnection(tmp_path / "core.sock", None)
    refused = TransportFailed("[Errno 13] Permission denied")
    refused.__cause__ = PermissionError(13, "Permission denied")
    error = there.unreachable(refused)
    assert error.message == f"This user may not use {tmp_path / 'core.sock'}."
    assert words.format(group=tmp_path.group(), owner=tmp_path.owner()) in error.remedy
