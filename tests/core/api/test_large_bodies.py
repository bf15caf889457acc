"""Large bodies: taken where a model is asked, decoded beside the loop, bounded together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from threading import get_ident
from typing import Any

import msgspec
import pytest

from modeldeck.core.api.http import json_body
from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.api.http.messages import Request, Response, json_response
from modeldeck.core.api.http.router import Route
from tests.core.api.conftest import PATIENCE_S

Serve = Callable[..., Any]
MIB = 1 << 20


def told(deck: Any, request: Request) -> Response:
    return json_response(len(request.json()["text"]))


ASKING = Route(
    method="POST", template="/v1/messages", operation_id="ask", summary="", tag="", handler=told,
    asks=True, error_style="anthropic",
)  # fmt: skip
OTHER = Route(
    method="POST", template="/other", operation_id="other", summary="", tag="", handler=told
)


def post(path: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def body(size: int) -> bytes:
    return json.dumps({"text": "a" * size}).encode()


async def test_a_model_may_be_asked_with_more_than_others_take(serve: Serve) -> None:
    served = await serve((ASKING, OTHER))
    data = body(5 * MIB)
    answer = await served.ask(post("/v1/messages", len(data)) + data)
    assert (answer.status, answer.body) == (200, b"%d" % (5 * MIB))
    refused = await served.ask(post("/other", len(data)))
    assert refused.status == 413


async def test_the_limit_is_a_setting_and_told_in_the_form_of_the_api(serve: Serve) -> None:
    served = await serve((ASKING,), body_limit_bytes=MIB)
    refused = await served.ask(post("/v1/messages", MIB + 1))
    told_ = msgspec.json.decode(refused.body)
    assert (refused.status, told_["error"]["type"]) == (413, "request_too_large")
    assert "api.body_limit_bytes" in told_["error"]["message"]
    chunked = (
        b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (2 * MIB)
    )
    refused = await served.ask(chunked + b"a" * (MIB + 1))
    assert refused.status == 413


async def test_a_large_body_is_decoded_in_a_thread_and_let_go(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    known = json_body.decode

    def decode(data: bytes | bytearray) -> Any:
        threads.append(get_ident())
        return known(data)

    monkeypatch.setattr("modeldeck.core.api.http.messages.decode", decode)
    begun, gate = asyncio.Event(), asyncio.Event()
    kept: list[Request] = []

    async def wait(deck: Any, request: Request) -> Response:
        kept.append(request)
        begun.set()
        await gate.wait()
        return told(deck, request)

    route = Route(
        method="POST", template="/slow", operation_id="slow", summary="", tag="", handler=wait,
        asks=True,
    )  # fmt: skip
    served = await serve((route,))
    client = await served.connect()
    data = body(2 * MIB)
    await client.send(post("/slow", len(data)) + data)
    async with asyncio.timeout(PATIENCE_S):
        await begun.wait()
    (connection,) = served.listener._server.connections
    assert (kept[0].body, len(connection._current.body)) == (b"", 0)
    # What was made of it stays, and counts.
    assert connection.held_bytes == len(data)
    gate.set()
    assert (await client.answer()).body == b"%d" % (2 * MIB)
    assert threads
    assert get_ident() not in threads
    assert connection.held_bytes == 0


async def test_a_bad_large_body_is_refused_in_the_form_of_the_api(serve: Serve) -> None:
    served = await serve((ASKING,))
    data = b"{" + b" " * MIB
    refused = await served.ask(post("/v1/messages", len(data)) + data)
    told_ = msgspec.json.decode(refused.body)
    assert (refused.status, told_["error"]["type"]) == (400, "invalid_request_error")
    assert "not JSON" in told_["error"]["message"]


async def test_bodies_in_work_count_for_the_bound_of_all(serve: Serve) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def wait(deck: Any, request: Request) -> Response:
        begun.set()
        await gate.wait()
        return told(deck, request)

    route = Route(
        method="POST", template="/v1/messages", operation_id="slow", summary="", tag="",
        handler=wait, asks=True, error_style="anthropic",
    )  # fmt: skip
    served = await serve((route,), limits=ConnectionLimits(held_bytes=3 * MIB))
    data = body(2 * MIB)
    first = await served.connect()
    await first.send(post("/v1/messages", len(data)) + data)
    async with asyncio.timeout(PATIENCE_S):
        await begun.wait()
    refused = await served.ask(post("/v1/messages", len(data)) + data)
    kind = msgspec.json.decode(refused.body)["error"]["type"]
    assert (refused.status, kind, refused.headers["retry-after"]) == (529, "overloaded_error", "1")
    gate.set()
    assert (await first.answer()).status == 200
    assert (await served.ask(post("/v1/messages", len(data)) + data)).status == 200
