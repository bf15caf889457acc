"""Bursts of connections: the cap holds at every moment, and short descriptors are told once."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from modeldeck.core.api.http import descriptors
from modeldeck.core.api.http.acceptor import Acceptor
from modeldeck.core.api.http.descriptors import connections_for
from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.api.http.messages import Request, Response, json_response
from modeldeck.core.api.http.router import Route

Serve = Callable[..., Any]
Until = Callable[[Callable[[], bool]], Awaitable[None]]

ASK = b"GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n"


def burst(port: int, count: int) -> list[socket.socket]:
    """Begin this many connections at once, before the loop accepts the first."""
    clients = []
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
        clients.append(client)
    return clients


def is_open(client: socket.socket) -> bool:
    """Whether the server still has the other end."""
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def route(handler: Any) -> Route:
    return Route(
        method="GET", template="/who", operation_id="who", summary="", tag="", handler=handler
    )


def who(deck: Any, request: Request) -> Response:
    return json_response("me")


async def test_a_burst_does_not_get_past_the_cap(
    serve: Serve, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = 0
    accept = Acceptor._accept

    def counted(self: Acceptor) -> None:
        nonlocal held
        accept(self)
        held = max(held, len(site.connections) + len(site.expected))

    monkeypatch.setattr(Acceptor, "_accept", counted)
    served = await serve((route(who),), limits=ConnectionLimits(connections=20))
    site = served.listener._server
    clients = burst(served.addresses.port, 200)
    try:
        await until(lambda: site.meter.refused["limit"] == 180 and not site.expected)
        assert len(site.connections) == 20
        await until(lambda: sum(map(is_open, clients)) == 20)
        assert held <= 20
        assert (await served.ask(ASK)).status == 200
    finally:
        for client in clients:
            client.close()


async def test_when_all_are_busy_the_newcomer_is_refused(serve: Serve, until: Until) -> None:
    go = asyncio.Event()

    async def slow(deck: Any, request: Request) -> Response:
        await go.wait()
        return json_response("done")

    served = await serve((route(slow),), limits=ConnectionLimits(connections=5))
    site = served.listener._server
    busy = [await served.connect() for _ in range(5)]
    for client in busy:
        await client.send(ASK)
    await until(lambda: len(site.tasks) == 5)
    clients = burst(served.addresses.port, 50)
    try:
        await until(lambda: site.meter.refused["limit"] == 50)
        await until(lambda: not any(map(is_open, clients)))
        go.set()
        assert [(await client.answer()).status for client in busy] == [200] * 5
    finally:
        for client in clients:
            client.close()


class Exhausted:
    """A listening socket whose `accept` finds no descriptor for a while."""

    def __init__(self, real: socket.socket, failures: int) -> None:
        self._real = real
        self.failures = failures

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._real.accept()


async def test_short_descriptors_pause_accepting_and_are_told_once(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("modeldeck.core.api.http.acceptor.PAUSE_S", 0.01)
    served = await serve((route(who),))
    acceptor = served.listener._acceptors[0]
    acceptor._socket = short = Exhausted(acceptor._socket, 30)
    with caplog.at_level(logging.INFO):
        assert (await served.ask(ASK)).status == 200
    assert short.failures == 0
    (record,) = caplog.records
    assert record.getMessage() == (
        "No connection can be accepted: Too many open files (1 times). "
        "Raise the limit of open files."
    )
    assert record.exc_info is None


# Descriptors


@pytest.mark.parametrize(
    ("limit", "connections"),
    [(8, 16), (64, 32), (256, 128), (1024, 800), (4096, 3872), (65_536, 4000)],
)
def test_the_cap_follows_the_limit_of_descriptors(limit: int, connections: int) -> None:
    assert connections_for(limit) == connections


def test_many_downloads_at_once_take_room_from_clients() -> None:
    assert connections_for(1024, descriptors.for_downloads(2, 16)) == 800
    assert connections_for(1024, descriptors.for_downloads(10, 16)) == 660
    assert connections_for(1024, descriptors.for_downloads(100, 100)) == 512


class Resource:
    """`resource`, on a system that takes no soft limit above `most`."""

    RLIMIT_NOFILE, RLIM_INFINITY = 7, -1

    def __init__(self, soft: int, hard: int, most: int) -> None:
        self.now, self._most = (soft, hard), most

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.now

    def setrlimit(self, _: int, wanted: tuple[int, int]) -> None:
        if wanted[0] > self._most:
            raise ValueError("not allowed to raise maximum limit")
        self.now = wanted


@pytest.mark.parametrize(
    ("soft", "hard", "most", "raised"),
    [
        (1024, 4096, 1 << 20, 4096),
        (1024, 1 << 30, 1 << 30, 1 << 16),
        (256, -1, 10_240, 10_240),  # macOS
        (256, -1, 128, 256),  # refused: it goes on with what it has
        (4096, 4096, 4096, 4096),
        (1 << 20, 1 << 20, 1 << 20, 1 << 16),
    ],
)
def test_the_soft_limit_is_raised_to_the_hard_one(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, most: int, raised: int
) -> None:
    system = Resource(soft, hard, most)
    monkeypatch.setattr(descriptors, "resource", system)
    assert descriptors.raise_limit() == raised
    assert system.now[1] == hard
    assert system.now[0] >= min(soft, raised)
