"""A client that polls: each request is parsed, checked and handled, with ETags and gzip."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modeldeck.core.api.http.messages import (
    CachedEncoding,
    Request,
    Response,
    SharedBody,
    json_response,
)
from modeldeck.core.api.http.router import Route
from modeldeck.core.errors import Forbidden, NotFound

Serve = Callable[..., Any]

HOST = b"Host: localhost\r\n"
_encoded = CachedEncoding(lambda state: SharedBody(msgspec.json.encode([state] * 500)))


class Service:
    """A State that changes when a test says so, and a count of handler calls."""

    def __init__(self) -> None:
        self.state = {"number": 0}
        self.asked = 0

    def change(self) -> None:
        self.state = {"number": self.state["number"] + 1}


def listed(deck: Service, request: Request) -> Response:
    deck.asked += 1
    return _encoded.of(deck.state).response


def counted(deck: Service, request: Request) -> Response:
    deck.asked += 1
    return json_response([deck.asked, request.query])


def missing(deck: Service, request: Request) -> Response:
    raise NotFound("Not here.")


async def waiting(deck: Service, request: Request) -> Response:
    await asyncio.sleep(0)
    return json_response(len(request.body))


def route(method: str, template: str, handler: Any, **more: Any) -> Route:
    return Route(
        method=method, template=template, operation_id=method + template, summary="", tag="",
        handler=handler, **more,
    )  # fmt: skip


ROUTES = (
    route("GET", "/listed", listed),
    route("GET", "/counted", counted),
    route("GET", "/missing", missing),
    route("GET", "/waiting", waiting),
    route("POST", "/waiting", waiting),
)


def get(path: str, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (path.encode(), HOST, lines)


async def test_a_body_changes_with_the_state_and_each_request_reaches_the_handler(
    serve: Serve,
) -> None:
    service = Service()
    client = await (await serve(ROUTES, deck=service)).connect()
    seen = []
    for _ in range(3):
        for _ in range(4):
            await client.send(get("/listed"))
            seen.append((await client.answer()).body)
        service.change()
    assert len(set(seen)) == 3
    assert seen[0] == seen[3] != seen[4]
    assert service.asked == 12


async def test_a_repeated_request_gets_an_answer_of_its_own(serve: Serve) -> None:
    service = Service()
    client = await (await serve(ROUTES, deck=service)).connect()
    for number in range(1, 5):
        await client.send(get("/counted?a=b"))
        answer = await client.answer()
        assert msgspec.json.decode(answer.body) == [number, {"a": "b"}]


async def test_a_repeated_request_is_checked_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await serve(ROUTES, deck=Service())
    access, checked = served.listener._server.access, []

    def caller(*given: Any) -> Any:
        checked.append(given)
        if len(checked) == 4:
            raise Forbidden("No longer.")
        return type(access).caller(access, *given)

    monkeypatch.setattr(access, "caller", caller)
    client = await served.connect()
    for status in (200, 200, 200, 403, 200):
        await client.send(get("/listed"))
        assert (await client.answer()).status == status
    assert len(checked) == 5


async def test_what_has_not_changed_is_not_sent_and_what_is_sent_may_be_shorter(
    serve: Serve,
) -> None:
    service = Service()
    client = await (await serve(ROUTES, deck=service)).connect()

    async def ask(*headers: bytes, method: bytes = b"GET") -> Any:
        await client.send(get("/listed", *headers).replace(b"GET", method, 1))
        return await client.answer(head_only=method == b"HEAD")

    whole = await ask()
    assert whole.headers["cache-control"] == "no-cache"
    known = b"If-None-Match: " + whole.headers["etag"].encode()
    for _ in range(3):
        unchanged = await ask(known)
        assert (unchanged.status, unchanged.body) == (304, b"")
        assert "content-length" not in unchanged.headers
        short = await ask(b"Accept-Encoding: gzip")
        assert gzip.decompress(short.body) == whole.body
        assert len(short.body) < len(whole.body) / 4
        head = await ask(b"Accept-Encoding: gzip", method=b"HEAD")
        assert head.headers["content-length"] == str(len(short.body))
    service.change()
    changed = await ask(known)
    assert changed.status == 200
    assert changed.headers["etag"] != whole.headers["etag"]


REQUESTS = (
    get("/listed"),
    get("/listed", b"Accept-Encoding: gzip"),
    get("/listed", b'If-None-Match: "x"', b"Origin: http://localhost"),
    get("/counted"),
    get("/counted?a=1"),
    get("/missing"),
    get("/nothing"),
    get("/waiting"),
    get("/listed").replace(b"GET", b"HEAD", 1),
    get("/listed").replace(b"GET", b"DELETE", 1),
    get("/listed").replace(b"GET", b"OPTIONS", 1),
    get("/counted") + get("/listed"),
    get("/counted") * 3,
    b"POST /waiting HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    b"Content-Length: 2\r\n\r\n[]",
)


def summary(answers: list[Any]) -> list[tuple[int, int, str | None]]:
    """The parts of the answers that do not change from one request to the next."""
    return [
        (answer.status, len(answer.headers), answer.headers.get("content-type"))
        for answer in answers
    ]


@given(
    parts=st.lists(st.sampled_from(REQUESTS), min_size=2, max_size=7),
    twice=st.booleans(),
    change=st.booleans(),
)
@settings(
    max_examples=12, deadline=None, database=None, derandomize=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
async def test_an_answer_does_not_depend_on_earlier_requests(
    serve: Serve, parts: list[bytes], twice: bool, change: bool
) -> None:
    service = Service()
    served = await serve(ROUTES, deck=service)

    async def answers(client: Any, part: bytes) -> list[Any]:
        await client.send(part)
        lines = part.split(b"\r\n\r\n")
        wanted = [line for line in lines if b" HTTP/1.1\r\n" in line]
        return [await client.answer(head_only=line.startswith(b"HEAD")) for line in wanted]

    one = await served.connect()
    for part in [part for part in parts for _ in range(2 if twice else 1)]:
        fresh = await served.connect()
        assert summary(await answers(one, part)) == summary(await answers(fresh, part))
        await fresh.close()
        if change:
            service.change()


@pytest.mark.parametrize("cut", [1, 20, -1])
async def test_one_that_comes_in_pieces_is_put_together(serve: Serve, cut: int) -> None:
    service = Service()
    client = await (await serve(ROUTES, deck=service)).connect()
    for _ in range(3):
        await client.send(get("/counted"))
        await client.answer()
    whole = get("/counted")
    await client.send(whole[:cut])
    await asyncio.sleep(0.05)
    await client.send(whole[cut:])
    assert msgspec.json.decode((await client.answer()).body)[0] == 4
