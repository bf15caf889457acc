"""The address beyond this machine: tokens, scopes, allowances, TLS. All of it on loopback."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from modeldeck.core.api.http import connection
from modeldeck.core.api.http.access import remaining_s
from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.api.http.messages import Request, Response, WebSocket, json_response
from modeldeck.core.api.http.router import Route
from modeldeck.core.errors import Conflict, DeckError, Forbidden, StorageFailed
from modeldeck.core.storage.api_tokens import ApiTokens
from modeldeck.core.storage.database import Database
from tests.core.api.conftest import PATIENCE_S

Serve = Callable[..., Any]
Until = Callable[[Callable[[], bool]], Awaitable[None]]

BEYOND = {"outside": "127.0.0.1:0"}


def who(deck: Any, request: Request) -> Response:
    return json_response(request.origin)


async def slow(deck: Any, request: Request) -> Response:
    await deck.gate.wait()
    return json_response(1)


async def feed(deck: Any, request: Request, socket: WebSocket) -> None:
    await socket.accept()
    await asyncio.Event().wait()


def route(method: str, template: str, handler: Any = who, **more: Any) -> Route:
    name = f"{method}{template}"
    return Route(
        method=method, template=template, operation_id=name, summary="", tag="", handler=handler,
        **more,
    )  # fmt: skip


ROUTES = (
    route("GET", "/who"),
    route("POST", "/who"),
    route("GET", "/slow", slow),
    route("GET", "/health", need="open"),
    route("POST", "/ask", need="infer"),
    route("POST", "/owner", need="owner"),
    route("GET", "/feed", None, socket=feed),
)


@pytest.fixture
async def deck(tmp_path: Path) -> AsyncIterator[Any]:
    store = Database(tmp_path / "db.sqlite3")
    await store.open()
    tokens = ApiTokens(store)
    await tokens.open()
    yield SimpleNamespace(tokens=tokens, gate=asyncio.Event())
    await store.close()


@pytest.fixture
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, path = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=deck"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", str(key), "-out", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    return path, key


def outside(served: Any) -> int:
    return int(served.addresses.outside.rsplit(":", 1)[1])


async def ask(
    port: int, line: str, *headers: str, tls: ssl.SSLContext | None = None
) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    lines = [f"{line} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *headers]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    async with asyncio.timeout(PATIENCE_S):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    first, *rest = head.decode().split("\r\n")
    fields = dict(field.lower().split(": ", 1) for field in rest)
    return int(first.split()[1]), fields, body


def bearer(secret: str) -> str:
    return f"Authorization: Bearer {secret}"


async def test_without_any_token_nothing_beyond_this_machine_is_answered(
    serve: Serve, deck: Any
) -> None:
    with pytest.raises(Forbidden, match="modeldeck token create"):
        await serve(ROUTES, deck=deck, **BEYOND)


@pytest.mark.parametrize("address", ["203.0.113.1:0", "127.0.0.1:70000", "no.such.host.invalid:1"])
async def test_an_address_that_cannot_be_had_is_named(
    serve: Serve, deck: Any, address: str
) -> None:
    await deck.tokens.create("a", [])
    with pytest.raises(Conflict, match=r"api\.outside"):
        await serve(ROUTES, deck=deck, outside=address)


async def test_the_token_decides_and_names_the_caller(serve: Serve, deck: Any) -> None:
    reading = (await deck.tokens.create("reading", ["read"])).secret
    asking = (await deck.tokens.create("asking", ["infer"])).secret
    managing = (await deck.tokens.create("managing", ["manage"])).secret
    served = await serve(ROUTES, deck=deck, **BEYOND)
    port = outside(served)
    asked = [
        ("GET /who", None, 401),
        ("GET /nothing", None, 401),
        ("GET /health", None, 200),
        ("OPTIONS /who", None, 204),
        ("GET /who", reading, 200),
        ("GET /nothing", reading, 404),
        ("POST /who", reading, 403),
        ("POST /ask", reading, 403),
        ("POST /ask", asking, 200),
        ("GET /who", asking, 403),
        ("POST /who", managing, 200),
        ("POST /owner", managing, 403),
    ]
    for line, secret, status in asked:
        answer = await ask(port, line, *([bearer(secret)] if secret else []))
        assert answer[0] == status, (line, answer)
    status, headers, body = await ask(port, "GET /who", bearer(reading))
    assert msgspec.json.decode(body).endswith(" token=reading")
    status, headers, body = await ask(port, "GET /who")
    assert headers["www-authenticate"].startswith("bearer")
    # Within this machine nothing is needed.
    status, headers, body = await ask(served.addresses.port, "GET /who")
    assert status == 200


async def test_on_a_shared_machine_loopback_asks_for_one_too(serve: Serve, deck: Any) -> None:
    secret = (await deck.tokens.create("mine", ["read"])).secret
    served = await serve(ROUTES, deck=deck, require_token=True, socket=True)
    assert (await ask(served.addresses.port, "GET /who"))[0] == 401
    assert (await ask(served.addresses.port, "GET /who", bearer(secret)))[0] == 200
    plain = b"GET /who HTTP/1.1\r\nHost: any\r\n\r\n"
    assert (await served.ask(plain, unix=True)).status == 200


async def test_a_socket_ends_with_its_token(
    serve: Serve, deck: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = (await deck.tokens.create("kept", ["read"])).secret
    gone = (await deck.tokens.create("gone", ["read"])).secret
    url = f"ws://127.0.0.1:{outside(await serve(ROUTES, deck=deck, **BEYOND))}/feed"

    def opened(secret: str) -> Any:
        return connect(url, additional_headers={"Authorization": f"Bearer {secret}"})

    with pytest.raises(InvalidStatus) as refused:
        await connect(url)
    assert refused.value.response.status_code == 401
    async with opened(kept) as kept_socket, opened(gone) as socket:
        await deck.tokens.revoke("gone")
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        # Valid for an hour, so that it opens a socket however slow this machine is.
        short = (await deck.tokens.create("short", ["read"], 3600)).secret
        monkeypatch.setattr(connection, "remaining_s", lambda token: soon(remaining_s(token)))
        async with opened(short) as short_socket:
            with pytest.raises(ConnectionClosed) as ended:
                await short_socket.recv()
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1008
        await (await kept_socket.ping())


def soon(left_s: float | None) -> float | None:
    """What is left of an hour, half a second after its beginning."""
    return None if left_s is None else left_s - 3599.5


async def test_who_asks_too_often_is_told_when_to_come_back(serve: Serve, deck: Any) -> None:
    secret = (await deck.tokens.create("a", ["read"])).secret
    served = await serve(ROUTES, deck=deck, requests_burst=3, requests_per_s=0.01, **BEYOND)
    answers = [await ask(outside(served), "GET /who", bearer(secret)) for _ in range(5)]
    assert [answer[0] for answer in answers][:3] == [200, 200, 200]
    refused = [answer for answer in answers if answer[0] == 429]
    assert refused
    assert int(refused[0][1]["retry-after"]) >= 1
    assert msgspec.json.decode(refused[0][2])["error"]["code"] == "too_many_requests"
    for _ in range(20):
        assert (await ask(served.addresses.port, "GET /who"))[0] == 200


async def test_so_much_is_under_way_for_a_token_and_no_more(
    serve: Serve, deck: Any, until: Until
) -> None:
    secret = (await deck.tokens.create("a", ["read"])).secret
    served = await serve(ROUTES, deck=deck, requests_at_once=2, **BEYOND)
    port = outside(served)
    url = f"ws://127.0.0.1:{port}/feed"
    with_token = {"Authorization": f"Bearer {secret}"}
    async with connect(url, additional_headers=with_token):
        running = asyncio.create_task(ask(port, "GET /slow", bearer(secret)))
        await until(lambda: len(served.listener._server.tasks) == 2)
        assert (await ask(port, "GET /slow", bearer(secret)))[0] == 429
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, additional_headers=with_token)
        assert refused.value.response.status_code == 429
        assert (await ask(port, "GET /who", bearer(secret)))[0] == 200
        deck.gate.set()
        assert (await running)[0] == 200
    assert (await ask(port, "GET /slow", bearer(secret)))[0] == 200


async def test_one_address_cannot_take_every_connection(serve: Serve, deck: Any) -> None:
    secret = (await deck.tokens.create("a", ["read"])).secret
    served = await serve(ROUTES, deck=deck, connections_per_address=3, **BEYOND)
    idle = [await asyncio.open_connection("127.0.0.1", outside(served)) for _ in range(6)]
    assert (await ask(outside(served), "GET /who", bearer(secret)))[0] == 200
    ended = [await reader.read() for reader, _ in idle[:3]]
    assert ended == [b"", b"", b""]
    for _, writer in idle:
        writer.close()
    assert served.listener._server.meter.refused["address"] >= 3


async def test_tls(
    serve: Serve, deck: Any, certificate: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    secret = (await deck.tokens.create("a", ["read"])).secret
    path, key = certificate
    served = await serve(ROUTES, deck=deck, tls_certificate=str(path), tls_key=str(key), **BEYOND)
    assert served.addresses.outside.startswith("https://127.0.0.1:")
    assert "in the clear" not in caplog.text
    trusting = ssl.create_default_context(cafile=str(path))
    port = outside(served)
    status, _, body = await ask(port, "GET /who", bearer(secret), tls=trusting)
    assert status == 200
    assert b"token=a" in body
    assert (await ask(port, "GET /who", tls=trusting))[0] == 401
    origin = f"Origin: https://127.0.0.1:{port}"
    host = f"Host: 127.0.0.1:{port}"
    assert (await ask(port, "GET /health", tls=trusting))[0] == 200
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    writer.write(f"GET /who HTTP/1.1\r\n{host}\r\n{origin}\r\n{bearer(secret)}\r\n\r\n".encode())
    assert (await reader.readline()).endswith(b" 200 OK\r\n")
    writer.close()
    async with connect(
        f"wss://127.0.0.1:{port}/feed",
        ssl=trusting,
        additional_headers={"Authorization": f"Bearer {secret}"},
    ) as socket:
        await (await socket.ping())
    # Within this machine it is as it was.
    assert (await ask(served.addresses.port, "GET /who"))[0] == 200


async def test_whoever_does_not_speak_tls_is_let_go(
    serve: Serve, deck: Any, certificate: tuple[Path, Path], until: Until
) -> None:
    await deck.tokens.create("a", ["read"])
    path, key = certificate
    served = await serve(
        ROUTES,
        deck=deck,
        limits=ConnectionLimits(head_s=0.5),
        tls_certificate=str(path),
        tls_key=str(key),
        **BEYOND,
    )
    meter = served.listener._server.meter
    plain = await asyncio.open_connection("127.0.0.1", outside(served))
    plain[1].write(b"GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n")
    silent = await asyncio.open_connection("127.0.0.1", outside(served))
    await until(lambda: meter.refused["tls"] == 2)
    assert not served.listener._server.connections
    for _, writer in (plain, silent):
        writer.close()


async def test_files_that_are_no_good_for_tls_are_named(
    serve: Serve, deck: Any, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    await deck.tokens.create("a", ["read"])
    path, key = certificate
    locked = tmp_path / "locked.pem"
    words = ["openssl", "pkey", "-in", str(key), "-aes128", "-passout", "pass:x"]
    await asyncio.to_thread(subprocess.run, [*words, "-out", str(locked)], check=True)
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    for cert, with_key, part in (
        (tmp_path / "none.pem", key, "none.pem cannot be read"),
        (path, tmp_path / "none.pem", "none.pem cannot be read"),
        (junk, key, "junk.pem"),
        (path, junk, "junk.pem"),
        (path, locked, "password"),
        (path, None, "the key in it"),
    ):
        with pytest.raises(DeckError, match=part) as caught:
            await serve(
                ROUTES,
                deck=deck,
                tls_certificate=str(cert),
                tls_key=str(with_key) if with_key else None,
                **BEYOND,
            )
        assert isinstance(caught.value, StorageFailed)
        assert "api.tls_certificate" in caught.value.remedy


async def test_in_the_clear_is_warned_of(
    serve: Serve, deck: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await deck.tokens.create("a", ["read"])
    await serve(ROUTES, deck=deck, **BEYOND)
    assert "in the clear" in caplog.text
