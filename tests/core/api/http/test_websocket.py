"""Sockets, by the websockets client and by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.api.http.messages import Request, WebSocket, json_response
from modeldeck.core.api.http.router import Route
from modeldeck.core.errors import Conflict, NotFound

Serve = Callable[..., Any]
Until = Callable[[Callable[[], bool]], Awaitable[None]]

HANDSHAKE = (
    b"GET /count HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
QUICK = ConnectionLimits(ping_s=0.2, write_s=0.3, close_s=0.2, linger_s=0.2, grace_s=0.2)


async def count(deck: Any, request: Request, socket: WebSocket) -> None:
    limit = request.number("limit", 3)
    if limit > 100:
        raise NotFound("Too far.")
    await socket.accept()
    for number in range(limit):
        await socket.send(f"{number}")
    if limit == 7:
        raise Conflict("Seven is taken.")


async def forever(deck: Any, request: Request, socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send("x" * 1000)
            await asyncio.sleep(0)
    finally:
        deck.append("ended")


async def silent(deck: Any, request: Request, socket: WebSocket) -> None:
    await socket.accept()
    try:
        await asyncio.Event().wait()
    finally:
        deck.append("ended")


async def pinging(deck: Any, request: Request, socket: WebSocket) -> None:
    await socket.accept()
    socket.ping(lambda: deck.append("first"))
    socket.ping(lambda: deck.append("second"))
    await asyncio.Event().wait()


async def broken(deck: Any, request: Request, socket: WebSocket) -> None:
    await socket.accept()
    raise RuntimeError("the secret of the core")


async def forgetful(deck: Any, request: Request, socket: WebSocket) -> None:
    return None


def both(deck: Any, request: Request) -> Any:
    return json_response({"plain": True})


def route(name: str, socket: Any, **more: Any) -> Route:
    return Route(
        method="GET",
        template=f"/{name}",
        operation_id=name,
        summary="",
        tag="",
        socket=socket,
        **more,
    )


ROUTES = (
    route("count", count, statuses={NotFound: 410}, error_style="text"),
    route("forever", forever),
    route("silent", silent),
    route("broken", broken),
    route("forgetful", forgetful),
    route("both", count, handler=both),
)


def ws(served: Any, path: str) -> str:
    return f"ws://127.0.0.1:{served.addresses.port}/{path}"


async def test_frames_come_in_order_and_the_end_is_clean(serve: Serve) -> None:
    served = await serve(ROUTES)
    async with connect(ws(served, "count?limit=5")) as socket:
        assert [frame async for frame in socket] == ["0", "1", "2", "3", "4"]
    assert socket.close_code == 1000


async def test_over_the_unix_socket(serve: Serve) -> None:
    served = await serve(ROUTES, socket=True)
    async with unix_connect(served.addresses.socket, "ws://anything/count") as socket:
        assert [frame async for frame in socket] == ["0", "1", "2"]


async def test_a_refusal_before_the_handshake_is_plain_http(serve: Serve) -> None:
    served = await serve(ROUTES)
    with pytest.raises(InvalidStatus) as caught:
        await connect(ws(served, "count?limit=101"))
    assert caught.value.response.status_code == 410
    assert b"Too far." in (caught.value.response.body or b"")


async def test_a_failure_after_the_handshake_is_a_close_code(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve(ROUTES)
    async with connect(ws(served, "count?limit=7")) as socket:
        assert [await socket.recv() for _ in range(7)][-1] == "6"
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1011, "Seven is taken.")
    async with connect(ws(served, "broken")) as socket:
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1011, "")
    assert "the secret of the core" in caplog.text


async def test_a_handler_that_forgets_to_accept_is_a_bug(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await connect(ws(await serve(ROUTES), "forgetful"))
    assert caught.value.response.status_code == 500
    assert "without accepting" in caplog.text


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://evil.example", 403), ("null", 403), ("http://127.0.0.1:1", 403)],
)
async def test_a_foreign_page_gets_no_socket(serve: Serve, origin: Any, status: int) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await connect(ws(await serve(ROUTES), "count"), origin=origin)
    assert caught.value.response.status_code == status


async def test_the_server_s_own_origin_gets_one(serve: Serve) -> None:
    served = await serve(ROUTES)
    origin: Any = served.addresses.url
    async with connect(ws(served, "count"), origin=origin) as socket:
        assert await socket.recv() == "0"


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"short", 400),
        (b"Version: 13", b"Version: 8", 400),
        (b"HTTP/1.1", b"HTTP/1.0", 505),
        (b"Host: localhost", b"Host: rebound.example", 403),
        (b"/count", b"/none", 404),
    ],
)
async def test_a_broken_handshake_is_refused(
    serve: Serve, old: bytes, new: bytes, status: int
) -> None:
    client = await (await serve(ROUTES)).connect()
    await client.send(HANDSHAKE.replace(old, new))
    answer = await client.answer()
    assert answer.status == status
    if new == b"Version: 8":
        assert answer.headers["sec-websocket-version"] == "13"


async def test_a_path_for_sockets_tells_a_plain_request_so(serve: Serve) -> None:
    served = await serve(ROUTES)
    answer = await served.ask(b"GET /count HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")
    answer = await served.ask(b"GET /both HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.body == b'{"plain":true}'


async def test_frames_sent_with_the_handshake_are_not_lost(serve: Serve) -> None:
    client = await (await serve(ROUTES, deck=[])).connect()
    ping = b"\x89\x81\x00\x00\x00\x00!"
    await client.send(HANDSHAKE.replace(b"/count", b"/silent") + ping)
    assert (await client.head())[0] == 101
    assert await client.reader.readexactly(3) == b"\x8a\x01!"


async def test_a_protocol_error_closes_with_its_code(serve: Serve, until: Until) -> None:
    ended: list[str] = []
    client = await (await serve(ROUTES, deck=ended)).connect()
    await client.send(HANDSHAKE.replace(b"/count", b"/silent"))
    await client.head()
    await client.send(b"\x81\x01!")  # a client's frame without a mask
    assert (await client.ended())[2:4] == (1002).to_bytes(2)
    await until(lambda: ended == ["ended"])


async def test_a_message_over_the_limit_closes_with_its_code(serve: Serve) -> None:
    served = await serve(ROUTES, deck=[], limits=ConnectionLimits(message_bytes=1000))
    async with connect(ws(served, "silent")) as socket:
        await socket.send("x" * 1001)
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009


async def test_a_handler_ends_when_the_peer_closes(serve: Serve, until: Until) -> None:
    ended: list[str] = []
    served = await serve(ROUTES, deck=ended)
    async with connect(ws(served, "forever")) as socket:
        await socket.recv()
    await until(lambda: ended == ["ended"])
    client = await served.connect()
    await client.send(HANDSHAKE.replace(b"/count", b"/silent"))
    await client.head()
    client.writer.transport.abort()
    await until(lambda: ended == ["ended", "ended"])


async def test_a_peer_that_never_reads_is_cut_off(serve: Serve, until: Until) -> None:
    ended: list[str] = []
    client = await (await serve(ROUTES, deck=ended, limits=QUICK)).connect()
    client.writer.transport.pause_reading()
    await client.send(HANDSHAKE.replace(b"/count", b"/forever"))
    await until(lambda: ended == ["ended"])


async def test_a_peer_that_does_not_answer_pings_is_cut_off(serve: Serve, until: Until) -> None:
    ended: list[str] = []
    client = await (await serve(ROUTES, deck=ended, limits=QUICK)).connect()
    await client.send(HANDSHAKE.replace(b"/count", b"/silent"))
    await client.head()
    assert await client.ended() == b"\x89\x00"
    await until(lambda: ended == ["ended"])


async def test_stopping_closes_sockets_with_1001(serve: Serve) -> None:
    ended: list[str] = []
    served = await serve(ROUTES, deck=ended)
    async with connect(ws(served, "silent")) as socket:
        await served.listener.stop()
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1001
    assert ended == ["ended"]


async def test_a_handler_hears_when_its_pings_are_answered(serve: Serve, until: Until) -> None:
    heard: list[str] = []
    served = await serve((route("pinging", pinging),), deck=heard)
    async with connect(f"ws://127.0.0.1:{served.addresses.port}/pinging"):
        await until(lambda: heard == ["first", "second"])
