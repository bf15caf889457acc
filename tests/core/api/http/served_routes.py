"""Routes for tests of the server, and requests to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.api.http.messages import Request, Response, StreamResponse, json_response
from modeldeck.core.api.http.router import Route
from modeldeck.core.errors import NotFound

Serve = Callable[..., Any]
Until = Callable[[Callable[[], bool]], Awaitable[None]]

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
QUICK = ConnectionLimits(head_s=0.2, body_s=0.2, idle_s=0.2, write_s=0.3, linger_s=0.2, grace_s=0.2)


def route(method: str, template: str, handler: Any, **more: Any) -> Route:
    return Route(
        method=method,
        template=template,
        operation_id=f"{method}{template}",
        summary="",
        tag="",
        handler=handler,
        **more,
    )


def plain(deck: Any, request: Request) -> Response:
    return json_response({"path": request.path, **request.params, **request.query})


async def echo(deck: Any, request: Request) -> Response:
    await asyncio.sleep(0)
    return json_response({"body": request.json(), "origin": request.origin})


async def failing(deck: Any, request: Request) -> Response:
    raise NotFound("No such thing.", "Ask for another.")


async def broken(deck: Any, request: Request) -> Response:
    raise RuntimeError("the secret of the core")


async def stream(deck: Any, request: Request) -> StreamResponse:
    async def pieces() -> AsyncGenerator[bytes, None]:
        for number in range(3):
            await asyncio.sleep(0)
            yield b"%d " % number

    return StreamResponse(chunks=pieces(), first=b"first ", content_type="text/plain")


ROUTES = (
    route("GET", "/plain", plain),
    route("GET", "/things/{thing}", plain),
    route("POST", "/echo", echo),
    route("GET", "/failing", failing),
    route("GET", "/failing-text", failing, error_style="text", statuses={NotFound: 410}),
    route("GET", "/failing-openai", failing, error_style="openai"),
    route("GET", "/broken", broken),
    route("GET", "/stream", stream),
)


def post(body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return (
        b"POST /echo HTTP/1.1\r\n%b%b%bContent-Length: %d\r\n\r\n" % (HOST, JSON, lines, len(body))
    ) + body
