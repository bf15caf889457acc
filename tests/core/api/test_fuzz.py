"""Requests that the OpenAPI document allows or forbids are answered, never with a traceback."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import content_type_conformance, load_all_checks
from schemathesis.specs.openapi.checks import response_schema_conformance

from tests.support.process import CoreProcess

load_all_checks()

LEFT_OUT = {"deckStop", "deckFeed"}
"""One ends the core, the other is a socket."""

CALM = settings(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def operations(core: CoreProcess) -> list[Any]:
    schema = schemathesis.openapi.from_url(f"{core.url}/openapi.json")
    results: list[Any] = list(schema.get_all_operations())
    found = [result.ok() for result in results]
    return [one for one in found if one.definition.raw["operationId"] not in LEFT_OUT]


def told(core: CoreProcess) -> str:
    """Everything the core logged, tracebacks included."""
    return core.stderr + httpx.get(f"{core.url}/deck/log?limit=5000", timeout=60).text


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_operation_answers_as_the_document_says(
    core: CoreProcess, mode: GenerationMode
) -> None:
    found = operations(core)
    assert len(found) > 30
    cases = st.one_of([one.as_strategy(generation_mode=mode) for one in found])

    @given(case=cases)
    @settings(CALM, max_examples=200)
    def ask(case: Any) -> None:
        response = case.call(timeout=60)
        assert b"inside modeldeck" not in response.content
        if response.status_code < 300:
            case.validate_response(
                response, checks=[response_schema_conformance, content_type_conformance]
            )

    ask()
    assert "Traceback" not in told(core)


PIECES = (
    *(b"GET /models HTTP/1.1\r\n", b"POST /deck/cache/plan HTTP/1.1\r\n", b"Host: localhost"),
    *(b"\r\n", b"\r\n\r\n", b"\n", b"\x00", b" ", b":", b"Content-Length: 5\r\n", b"{}"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Type: application/json\r\n", b"0\r\n"),
    *(b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"Expect: 100-continue\r\n"),
    *(b"GET /deck/feed HTTP/1.1\r\n", b"Sec-WebSocket-Version: 13\r\n", b"ffffffff\r\n"),
    *(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"\x81\x85abcdhello", b"a" * 5000),
)
HOSTILE = st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(PIECES)), max_size=12).map(
    b"".join
)


def test_bytes_of_every_kind_leave_the_listener_standing(core: CoreProcess) -> None:
    address = "127.0.0.1", int(core.url.rsplit(":", 1)[1])

    @given(data=HOSTILE)
    @settings(CALM, max_examples=300)
    def throw(data: bytes) -> None:
        with socket.create_connection(address, timeout=60) as wire:
            try:
                wire.sendall(data)
                wire.shutdown(socket.SHUT_WR)
                answer = b""
                while piece := wire.recv(1 << 16):
                    answer += piece
            except ConnectionError:
                return
        assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
        assert b"inside modeldeck" not in answer

    throw()
    with socket.create_connection(address, timeout=60) as wire:
        wire.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert wire.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert "Traceback" not in told(core)
