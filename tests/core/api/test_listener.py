"""Where the API answers, and how it stops."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import modeldeck.core.api.listener as module
from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.api.http.messages import Request, Response, json_response
from modeldeck.core.api.http.router import Route
from modeldeck.core.config.paths import Paths
from modeldeck.core.errors import Conflict, StorageFailed

Serve = Callable[..., Any]

ASK = b"GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n"


def who(deck: Any, request: Request) -> Response:
    return json_response(request.origin)


def route(handler: Any) -> Route:
    return Route(
        method="GET", template="/who", operation_id="who", summary="", tag="", handler=handler
    )


ROUTES = (route(who),)


def mode(path: Path) -> int | None:
    """Who may do what with a file; None where there is none."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


def taken() -> socket.socket:
    """A socket of another program that listens on a loopback port."""
    other = socket.socket()
    other.bind(("127.0.0.1", 0))
    other.listen()
    return other


async def test_both_addresses_answer_and_tell_who_asked(serve: Serve) -> None:
    served = await serve(ROUTES, socket=True)
    assert served.addresses.url == f"http://127.0.0.1:{served.addresses.port}"
    assert msgspec.json.decode((await served.ask(ASK)).body).startswith("127.0.0.1:")
    unix = await served.ask(ASK.replace(b"localhost", b"any.name"), unix=True)
    assert msgspec.json.decode(unix.body) == f"unix uid={os.getuid()} pid={os.getpid()}"


@pytest.fixture
def v6() -> None:
    """Skips where this machine has no IPv6 on loopback."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")


@pytest.mark.usefixtures("v6")
async def test_both_addresses_of_loopback_answer_at_one_port(serve: Serve) -> None:
    served = await serve(ROUTES)
    port = served.addresses.port
    assert served.addresses.url_v6 == f"http://[::1]:{port}"
    assert served.addresses.urls == (f"http://127.0.0.1:{port}", f"http://[::1]:{port}")
    for host, name in (("::1", "[::1]"), ("::1", "localhost"), ("localhost", "localhost")):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            b"GET /who HTTP/1.1\r\nHost: %s:%d\r\nOrigin: http://%s:%d\r\n"
            b"Connection: close\r\n\r\n" % (name.encode(), port, name.encode(), port)
        )
        answer = (await reader.read()).decode()
        writer.close()
        assert answer.startswith("HTTP/1.1 200 ")
        if host == "::1":
            assert '"[::1]:' in answer  # who asked
    await served.listener.stop()
    with pytest.raises(OSError, match="onnect"):
        await asyncio.open_connection("::1", port)


@pytest.mark.usefixtures("v6")
async def test_a_rebound_name_gets_nothing_over_v6_either(serve: Serve) -> None:
    served = await serve(ROUTES)
    reader, writer = await asyncio.open_connection("::1", served.addresses.port)
    writer.write(b"GET /who HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 403 ")
    writer.close()


@pytest.mark.usefixtures("v6")
async def test_a_port_that_is_taken_on_v6_alone_is_not_used(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_INET6) as other, taken() as free:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::1", 0))
        other.listen()
        port, next_port = other.getsockname()[1], free.getsockname()[1]
        free.close()
        with pytest.raises(Conflict, match=f"Port {port}"):
            await serve(ROUTES, port=port)
        monkeypatch.setattr(module, "DOCUMENTED_PORTS", (port, next_port))
        assert (await serve(ROUTES, port=None)).addresses.port == next_port


async def test_any_free_port_is_one_that_is_free_on_both(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    bind, refused = module._bind_loopback, list[int]()

    def busy_twice(family: socket.AddressFamily, port: int) -> socket.socket:
        if family == socket.AF_INET6 and len(refused) < 2:
            refused.append(port)
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return bind(family, port)

    monkeypatch.setattr(module, "_bind_loopback", busy_twice)
    served = await serve(ROUTES)
    assert len(refused) == 2
    assert served.addresses.port not in refused
    assert (await served.ask(ASK)).status == 200


@pytest.mark.parametrize("code", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
async def test_without_v6_it_answers_on_v4(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    bind = module._bind_loopback

    def no_v6(family: socket.AddressFamily, port: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(code, os.strerror(code))
        return bind(family, port)

    monkeypatch.setattr(module, "_bind_loopback", no_v6)
    served = await serve(ROUTES)
    assert served.addresses.url_v6 is None
    assert len(served.addresses.urls) == 1
    assert (await served.ask(ASK)).status == 200


async def test_what_is_sent_in_pieces_does_not_wait_for_the_client(serve: Serve) -> None:
    served = await serve(ROUTES)
    client = await served.connect()
    await client.send(ASK)
    await client.answer()
    (connection,) = served.listener._server.connections
    at = connection._transport.get_extra_info("socket")
    assert at.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_the_socket_is_the_owner_s_alone_and_goes_with_the_listener(serve: Serve) -> None:
    served = await serve(ROUTES, socket=True)
    path = Path(served.addresses.socket)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    await served.listener.stop()
    assert mode(path) is None


async def test_a_socket_left_by_a_killed_core_is_replaced(serve: Serve, paths: Paths) -> None:
    paths.socket.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(paths.socket))
    served = await serve(ROUTES, socket=True)
    assert (await served.ask(ASK, unix=True)).status == 200


async def test_a_file_in_the_socket_s_place_is_not_removed(serve: Serve, paths: Paths) -> None:
    paths.socket.parent.mkdir(parents=True)
    paths.socket.write_text("mine")
    with pytest.raises(StorageFailed, match=r"core\.sock"):
        await serve(ROUTES, socket=True)
    assert paths.socket.read_text() == "mine"


async def test_a_port_that_is_taken_is_said(serve: Serve) -> None:
    with taken() as other:
        port = other.getsockname()[1]
        with pytest.raises(Conflict, match=f"Port {port}"):
            await serve(ROUTES, port=port)


async def test_without_a_port_the_first_free_documented_one(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    with taken() as first, taken() as second, taken() as third:
        ports = [s.getsockname()[1] for s in (first, second, third)]
        third.close()
        monkeypatch.setattr(module, "DOCUMENTED_PORTS", tuple(ports))
        assert (await serve(ROUTES, port=None)).addresses.port == ports[2]
        with pytest.raises(Conflict, match="no port") as caught:
            await serve(ROUTES, port=None)
    assert [detail.split(":")[0] for detail in caught.value.details] == [str(p) for p in ports]


async def test_stopping_lets_a_running_request_finish(serve: Serve) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(deck: Any, request: Request) -> Response:
        begun.set()
        await go.wait()
        return json_response("done")

    served = await serve((route(slow),), limits=ConnectionLimits(grace_s=60))
    busy, idle = await served.connect(), await served.connect()
    await busy.send(ASK)
    await begun.wait()
    stopping = asyncio.create_task(served.listener.stop())
    assert await idle.ended() == b""
    go.set()
    answer = await busy.answer()
    assert (answer.body, answer.headers["connection"]) == (b'"done"', "close")
    await stopping
    with pytest.raises(OSError, match="onnect"):
        await served.connect()


async def test_stopping_cancels_what_takes_longer_than_the_grace(serve: Serve) -> None:
    begun, ended = asyncio.Event(), list[str]()

    async def endless(deck: Any, request: Request) -> Response:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        return json_response("never")

    served = await serve((route(endless),), limits=ConnectionLimits(grace_s=0.05))
    client = await served.connect()
    await client.send(ASK)
    await begun.wait()
    await served.listener.stop()
    assert ended == ["cancelled"]
    assert await client.ended() == b""
