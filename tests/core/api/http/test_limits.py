"""The times that clients get, and what is left of those that go or never read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.api.http.messages import Request, Response, StreamResponse, json_response
from tests.core.api.conftest import PATIENCE_S
from tests.core.api.http.served_routes import HOST, JSON, QUICK, ROUTES, Serve, Until, post, route


async def test_the_rest_of_a_pipelined_head_has_a_time_limit(serve: Serve) -> None:
    begun = b"GET /plain HTTP/1.1\r\n" + HOST + b"\r\nGET /plain HT"
    client = await (await serve(ROUTES, limits=QUICK)).connect(begun)
    assert (await client.answer()).status == 200
    assert (await client.answer()).status == 408
    assert await client.ended() == b""


BEGUN = b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 4\r\n\r\nnu"


class Held:
    """A server with a request that is answered late, on a connection of its own."""

    def __init__(self, serve: Serve, **limits: Any) -> None:
        self._serve = serve
        self._limits = replace(QUICK, **limits)
        self._begun, self._go = asyncio.Event(), asyncio.Event()

    async def _slow(self, deck: Any, request: Request) -> Response:
        self._begun.set()
        await self._go.wait()
        return json_response({})

    async def client(self, more: bytes) -> Any:
        """A client whose request is being answered; `more` came with it."""
        routes = (*ROUTES, route("GET", "/slow", self._slow))
        self._served = await self._serve(routes, limits=self._limits)
        asked = b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n" + more
        client = await self._served.connect(asked)
        await self._begun.wait()
        return client

    async def release(self) -> None:
        """Let it be answered, after the time for a body has passed for a later client."""
        other = await self._served.connect(BEGUN)
        assert (await other.answer()).status == 408
        self._go.set()


async def test_a_body_has_no_time_limit_until_its_client_is_told_to_send_it(serve: Serve) -> None:
    held = Held(serve)
    head = post(b"null", b"Expect: 100-continue").removesuffix(b"null")
    client = await held.client(head)
    await held.release()
    assert [(await client.answer()).status for _ in range(3)] == [200, 100, 408]
    assert await client.ended() == b""


async def test_a_body_that_comes_unasked_has_its_time_limit(serve: Serve) -> None:
    held = Held(serve)
    client = await held.client(post(b"null", b"Expect: 100-continue").removesuffix(b"ll"))
    await held.release()
    assert [(await client.answer()).status for _ in range(2)] == [200, 408]
    assert await client.ended() == b""


async def test_no_time_passes_while_nothing_is_read(serve: Serve) -> None:
    held = Held(serve, pipelined=2)
    client = await held.client(b"GET /plain HTTP/1.1\r\n" + HOST + b"\r\n" + BEGUN)
    await client.send(b"ll")
    await held.release()
    assert [(await client.answer()).status for _ in range(3)] == [200, 200, 200]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 408),
        (b"GET /plain HT", 408),
        (b"GET /plain HTTP/1.1\r\n" + HOST, 408),
        (b"POST /echo HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 4\r\n\r\nnu", 408),
    ],
)
async def test_a_slow_client_is_told_and_left(serve: Serve, data: bytes, status: int) -> None:
    client = await (await serve(ROUTES, limits=QUICK)).connect(data)
    assert (await client.answer()).status == status
    assert await client.ended() == b""


async def test_an_idle_connection_ends_without_a_word(serve: Serve) -> None:
    asked = b"GET /plain HTTP/1.1\r\n" + HOST + b"\r\n"
    client = await (await serve(ROUTES, limits=QUICK)).connect(asked)
    assert (await client.answer()).status == 200
    assert await client.ended() == b""


async def test_a_stream_ends_its_generator_when_the_client_goes(serve: Serve, until: Until) -> None:
    ended: list[str] = []

    async def endless(deck: Any, request: Request) -> StreamResponse:
        async def pieces() -> AsyncGenerator[bytes, None]:
            try:
                while True:
                    yield b"more "
                    await asyncio.sleep(0.01)
            finally:
                ended.append("closed")

        return StreamResponse(chunks=pieces())

    client = await (await serve((route("GET", "/endless", endless),))).connect()
    await client.send(b"GET /endless HTTP/1.1\r\n" + HOST + b"\r\n")
    await client.head()
    await client.close()
    await until(lambda: ended == ["closed"])


async def test_a_client_that_never_reads_costs_a_bounded_amount(serve: Serve, until: Until) -> None:
    sent = [0]
    ended: list[str] = []

    async def flood(deck: Any, request: Request) -> StreamResponse:
        async def pieces() -> AsyncGenerator[bytes, None]:
            try:
                while True:
                    sent[0] += 1 << 16
                    yield b"x" * (1 << 16)
            finally:
                ended.append("closed")

        return StreamResponse(chunks=pieces())

    asked = b"GET /flood HTTP/1.1\r\n" + HOST + b"\r\n"
    client = await (await serve((route("GET", "/flood", flood),), limits=QUICK)).connect(asked)
    client.writer.transport.pause_reading()
    await until(lambda: ended == ["closed"])
    assert sent[0] < 64 << 20


async def test_an_action_runs_to_its_end_when_the_client_goes(serve: Serve, until: Until) -> None:
    begun, go, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def action(deck: Any, request: Request) -> Response:
        begun.set()
        await go.wait()
        done.set()
        return json_response({})

    client = await (await serve((route("POST", "/action", action),))).connect()
    await client.send(b"POST /action HTTP/1.1\r\n" + HOST + b"\r\n")
    await begun.wait()
    await client.close()
    go.set()
    async with asyncio.timeout(PATIENCE_S):
        await done.wait()


async def test_work_for_a_client_that_went_is_cancelled_where_the_route_says_so(
    serve: Serve, until: Until
) -> None:
    begun, ended = asyncio.Event(), list[str]()

    async def action(deck: Any, request: Request) -> Response:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        return json_response({})

    served = await serve((route("POST", "/action", action, cancel_when_gone=True),))
    client = await served.connect()
    await client.send(b"POST /action HTTP/1.1\r\n" + HOST + b"\r\n")
    await begun.wait()
    await client.close()
    await until(lambda: ended == ["cancelled"])


async def test_at_the_limit_an_idle_connection_makes_room(serve: Serve) -> None:
    served = await serve(ROUTES, limits=ConnectionLimits(connections=2))
    first, second = await served.connect(), await served.connect()
    for client in (first, second):
        await client.send(b"GET /plain HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await client.answer()).status == 200
    third = await served.connect()
    await third.send(b"GET /plain HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (await third.answer()).status == 200
    assert await first.ended() == b""
    await second.send(b"GET /plain HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (await second.answer()).status == 200
