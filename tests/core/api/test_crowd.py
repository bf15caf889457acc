"""Many clients at once, slow and silent ones too: what they hold is bounded, others go on."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from modeldeck.core.api.http.connection import HttpConnection
from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.api.http.messages import Request, Response, json_response
from modeldeck.core.api.http.router import Route
from modeldeck.core.api.native import health, routes
from modeldeck.core.schema import Host, Model
from modeldeck.core.schema.state import ModelChanged, State
from modeldeck.core.service.feed import LIMIT, Feed

Serve = Callable[..., Any]
Until = Callable[[Callable[[], bool]], Awaitable[None]]

FILES = 4096
"""Open at once, both ends in this process."""

FEED = (
    b"GET /deck/feed HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
)
FEED += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
HEALTH = b"GET /.well-known/health HTTP/1.1\r\nHost: localhost\r\n\r\n"

ROUTES = (
    *health.ROUTES,
    next(route for route in routes.ROUTES if route.template == "/deck/feed"),
)


@pytest.fixture(autouse=True)
def _files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(FILES, hard)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Core:
    """A core's feed, and nothing behind it."""

    ping_s = None

    def __init__(self) -> None:
        self.feed = Feed(State(host=Host(name="box", version="1", started_at="", id="uuid")))
        self.config = SimpleNamespace()

    @property
    def state(self) -> State:
        return self.feed.state

    @contextmanager
    def listening(self) -> Iterator[Any]:
        yield SimpleNamespace(waits=True)

    def change(self, size: int) -> None:
        """One event of about that many bytes."""
        name = f"{self.state.seq:06}".ljust(size, "x")
        model = Model(id="1", unique="a/b:Q", name=name, format="gguf", source="builtin")
        self.feed.commit(ModelChanged, model=model)


class Reader(asyncio.Protocol):
    """A client that reads all, or nothing."""

    def __init__(self, first: bytes, *, reads: bool = True) -> None:
        self._first = first
        self._reads = reads
        self.tail = b""
        self.count = 0
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._first)
        if not self._reads:
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.count += len(data)
        self.tail = (self.tail + data)[-20_000:]

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True

    def leave(self) -> None:
        """Go, unless the connection is over already."""
        if not self.ended:
            self.transport.abort()


class Crowd:
    """Clients that are gone when the test is over."""

    def __init__(self) -> None:
        self.readers: list[Reader] = []

    async def unix(
        self, served: Any, count: int, first: bytes = b"", *, reads: bool = True
    ) -> list[Reader]:
        """Connect this many clients to the Unix socket, whose buffers are small."""
        loop = asyncio.get_running_loop()
        made = [Reader(first, reads=reads) for _ in range(count)]
        self.readers += made
        for reader in made:
            await loop.create_unix_connection(partial(_same, reader), served.addresses.socket)
        return made

    async def tcp(self, served: Any, count: int) -> None:
        """Connect this many silent clients over TCP."""
        loop = asyncio.get_running_loop()
        made = [Reader(b"") for _ in range(count)]
        self.readers += made
        for reader in made:
            await loop.create_connection(partial(_same, reader), "127.0.0.1", served.addresses.port)


def _same(reader: Reader) -> Reader:
    return reader


@pytest.fixture
async def crowd(until: Until) -> AsyncIterator[Crowd]:
    crowd = Crowd()
    yield crowd
    for reader in crowd.readers:
        reader.leave()
    await until(lambda: all(reader.ended for reader in crowd.readers))


async def test_subscribers_that_never_read_hold_little_and_stop_nobody(
    serve: Serve, until: Until, crowd: Crowd
) -> None:
    asyncio.get_running_loop().set_debug(False)  # it makes each of 75,000 frames four times as slow
    core = Core()
    served = await serve(ROUTES, deck=core, socket=True)
    site = served.listener._server
    await crowd.tcp(served, 500)
    deaf = await crowd.unix(served, 50, FEED, reads=False)
    readers = await crowd.unix(served, 150, FEED)
    await until(lambda: core.feed.subscribers == 200)
    await until(lambda: all(b'"seq":0' in reader.tail for reader in readers))
    for _ in range(LIMIT + 250):
        core.change(3000)
        if core.state.seq % 50 == 0:
            await until(lambda: all(b"%06d" % (core.state.seq - 1) in r.tail for r in readers))
    await until(lambda: all(b"%06d" % (core.state.seq - 1) in r.tail for r in readers))

    unsent = [
        connection._transport.get_write_buffer_size()
        for connection in site.connections
        if isinstance(connection, HttpConnection)
    ]
    assert sum(size > 0 for size in unsent) == 50
    assert max(unsent) < 80_000
    waiting = [len(one._pending) for one in core.feed._subscriptions]
    assert max(waiting) <= LIMIT
    assert site.meter.sockets == 200
    assert (await served.ask(HEALTH)).body == b"ok:uuid"

    # One that reads at last is right again at once: a State, and not what it missed.
    deaf[0].transport.resume_reading()
    last = b"%06d" % (core.state.seq - 1)
    await until(lambda: last in deaf[0].tail)
    assert deaf[0].count < (LIMIT + 250) * 3000
    for reader in crowd.readers:
        reader.leave()
    await until(lambda: len(site.connections) == len(served.clients) and not site.tasks)
    assert core.feed.subscribers == 0


async def test_heads_that_come_byte_by_byte_are_not_waited_for(
    serve: Serve, until: Until, crowd: Crowd
) -> None:
    served = await serve(ROUTES, deck=Core(), socket=True, limits=ConnectionLimits(head_s=0.5))
    slow = await crowd.unix(served, 100, b"GET /.well-known/health HTTP/1.1\r\nHost: localhost\r\n")
    more = 0
    while not all(b"HTTP/1.1 408 " in reader.tail for reader in slow):
        more += 1
        for reader in slow:
            if not reader.transport.is_closing():
                reader.transport.write(b"X-%d: a\r\n" % more)
        assert (await served.ask(HEALTH)).status == 200
        await asyncio.sleep(0.02)
    await until(lambda: all(reader.ended for reader in slow))


def echo(deck: Any, request: Request) -> Response:
    return json_response(len(request.json()))


BODY = Route(
    method="POST", template="/body", operation_id="body", summary="", tag="", handler=echo,
    max_body_bytes=1 << 20,
)  # fmt: skip


async def test_bodies_together_are_bounded(serve: Serve, until: Until, crowd: Crowd) -> None:
    limits = ConnectionLimits(held_bytes=1 << 20)
    served = await serve((*ROUTES, BODY), deck=Core(), socket=True, limits=limits)
    head = (
        b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000000\r\n\r\n"
    )
    greedy = await crowd.unix(served, 6, head + b" " * 400_000)
    await until(lambda: sum(b" 503 " in reader.tail for reader in greedy) >= 3)
    assert all(b"Retry-After: 1" in reader.tail for reader in greedy if b" 503 " in reader.tail)
    held = sum(connection.held_bytes for connection in served.listener._server.connections)
    assert held < (2 << 20)
    assert (await served.ask(HEALTH)).status == 200
    for reader in greedy:
        reader.leave()
    connections = served.listener._server.connections
    await until(lambda: not any(connection.held_bytes for connection in connections))
    whole = await served.ask(head + b'"' + b"a" * 999_998 + b'"')
    assert (whole.status, whole.body) == (200, b"999998")


async def test_what_is_read_ahead_is_bounded(serve: Serve, until: Until, crowd: Crowd) -> None:
    gate = asyncio.Event()

    async def wait(deck: Any, request: Request) -> Response:
        await gate.wait()
        return json_response(1)

    slow = Route(
        method="POST", template="/slow", operation_id="slow", summary="", tag="", handler=wait,
        max_body_bytes=1 << 20,
    )  # fmt: skip
    served = await serve((slow,), deck=Core(), limits=ConnectionLimits(ahead_bytes=100_000))
    client = await served.connect()
    one = (
        b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 90000\r\n\r\n" + b" " * 90_000
    )
    await until(lambda: bool(served.listener._server.connections))
    sending = asyncio.create_task(client.send(one * 100))
    (connection,) = served.listener._server.connections
    await until(lambda: not connection._transport.is_reading())
    assert connection.held_bytes < 1_000_000
    gate.set()
    for _ in range(100):
        assert (await client.answer()).body == b"1"
    await sending


async def test_pings_of_a_peer_that_does_not_read_fill_nothing(
    serve: Serve, until: Until, crowd: Crowd
) -> None:
    served = await serve(ROUTES, deck=Core(), socket=True)
    (deaf,) = await crowd.unix(served, 1, FEED, reads=False)
    await until(lambda: served.listener._server.meter.sockets == 1)
    ping = b"\x89\xfd\0\0\0\0" + b"p" * 125
    (connection,) = served.listener._server.connections
    while connection._transport.is_reading():
        deaf.transport.write(ping * 1000)
        await asyncio.sleep(0)
    assert connection._transport.get_write_buffer_size() < 1 << 20
    deaf.transport.resume_reading()
    await until(lambda: connection._transport.is_reading())
    deaf.transport.abort()
