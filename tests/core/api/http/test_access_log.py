"""Request ids, the access log, and metrics, over the wire."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from modeldeck.core.api.http.access_log import quoted
from modeldeck.core.api.http.messages import Request, Response, StreamResponse, json_response
from modeldeck.core.api.http.meter import METHODS, RequestMetrics
from modeldeck.core.api.http.router import Route
from modeldeck.core.api.metrics import MetricsText, exposition, get_metrics
from modeldeck.core.concurrency import BackgroundTasks
from modeldeck.core.errors import Conflict
from modeldeck.core.schema import Disk, Download, Host, Instance, InstanceState, Memory, Model
from modeldeck.core.schema.state import State
from modeldeck.core.service.answers.running import KeptAnswers
from modeldeck.core.service.counters import Counters

Serve = Callable[..., Any]


def plain(deck: Any, request: Request) -> Response:
    return json_response({"id": request.id})


async def failing(deck: Any, request: Request) -> Response:
    raise Conflict("No.", "Wait.")


def broken(deck: Any, request: Request) -> Response:
    raise RuntimeError("the secret of the core")


async def stream(deck: Any, request: Request) -> StreamResponse:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"one"
        yield b"two"

    return StreamResponse(chunks=chunks())


def route(template: str, handler: Any, **more: Any) -> Route:
    return Route(
        method="GET", template=template, operation_id=template, summary="", tag="",
        handler=handler, **more,
    )  # fmt: skip


ROUTES = (
    route("/plain/{name}", plain),
    route("/failing", failing),
    route("/broken", broken),
    route("/stream", stream),
    route("/metrics", get_metrics),
)


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


async def test_a_request_keeps_the_id_it_came_with(serve: Serve) -> None:
    served = await serve(ROUTES)
    answer = await served.ask(get("/plain/a", "X-Request-Id: my-id.1:2_3"))
    assert answer.headers["x-request-id"] == "my-id.1:2_3"
    assert msgspec.json.decode(answer.body)["id"] == "my-id.1:2_3"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "-a", "a,b", '"', "é", "a;b\x7f"])
async def test_one_unfit_for_a_log_is_replaced(serve: Serve, given: str) -> None:
    client = await (await serve(ROUTES)).connect()
    await client.send(get("/plain/a", f"X-Request-Id: {given}"))
    answer = await client.answer()
    assert answer.headers.get("x-request-id", "") != given or answer.status == 400


async def test_every_answer_has_an_id_of_its_own(serve: Serve) -> None:
    client = await (await serve(ROUTES)).connect()
    seen = set()
    for path in ("/plain/a", "/plain/a", "/plain/a", "/nothing", "/failing", "/stream"):
        await client.send(get(path))
        seen.add((await client.answer()).headers["x-request-id"])
    assert len(seen) == 6


async def test_an_error_tells_the_id_under_which_the_log_has_it(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve(ROUTES)
    for path in ("/failing", "/broken", "/nothing"):
        answer = await served.ask(get(path))
        told = msgspec.json.decode(answer.body)["error"]
        assert told["request_id"] == answer.headers["x-request-id"]
        assert (path == "/broken") == (told["request_id"] in caplog.text)
    refused = await served.ask(b"NONSENSE\r\n\r\n")
    assert msgspec.json.decode(refused.body)["error"]["request_id"]


async def test_the_access_log_has_a_line_for_each_when_it_is_wanted(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    quiet = await serve(ROUTES)
    await quiet.ask(get("/plain/quiet"))
    assert "/plain/quiet" not in caplog.text
    served = await serve(ROUTES, access_log=True)
    await served.ask(get("/plain/a?b=c", "X-Request-Id: id-1"))
    await served.ask(get("/stream", "X-Request-Id: id-2"))
    await served.ask(get("/nothing", "X-Request-Id: id-3"))
    lines = [r.getMessage() for r in caplog.records if r.name == "modeldeck.access"]
    for line, (path, status, size, key) in zip(
        lines, [("/plain/a", 200, 13, "1"), ("/stream", 200, 6, "2"), ("/nothing", 404, None, "3")],
        strict=True,
    ):  # fmt: skip
        assert line.startswith(f"method=GET path={path} status={status} seconds=")
        assert " who=127.0.0.1:" in line
        assert line.endswith(f" id=id-{key}")
        assert size is None or f" bytes={size} " in line


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("/models", "/models"),
        ("/a%0Ab", "/a%0Ab"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('a" status=200', '"a\\" status=200"'),
        ("a\r\nb\x1b[31m", '"a\\r\\nb\\x1b[31m"'),
        ("\xe9\u2028", '"\\xe9\\u2028"'),
    ],
)
def test_no_value_can_break_its_line(text: str, written: str) -> None:
    assert quoted(text) == written


async def test_a_line_cannot_be_forged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    served = await serve(ROUTES, access_log=True)
    await served.ask(get('/plain/a"x=1'))
    await served.ask("GET /plain/é HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1"))
    lines = [r.getMessage() for r in caplog.records if r.name == "modeldeck.access"]
    assert len(lines) == 2
    assert all(line.isascii() and line.isprintable() for line in lines)


# Metrics


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What Prometheus's own parser reads."""
    return {
        (sample.name.removeprefix("modeldeck_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def deck(**state: Any) -> Any:
    host = Host(name="box", version="1.2", started_at="")
    answers = KeptAnswers(BackgroundTasks())
    return SimpleNamespace(state=State(host=host, **state), counters=Counters(), answers=answers)


async def test_requests_are_counted_by_route_and_class(serve: Serve) -> None:
    served = await serve(ROUTES, deck=deck())
    client = await served.connect()
    for path in ("/plain/a", "/plain/b", "/plain/b", "/failing", "/nothing/1", "/nothing/2"):
        await client.send(get(path))
        await client.answer()
    found = samples((await served.ask(get("/metrics"))).body)

    def total(template: str, status: str) -> float:
        labels = frozenset({("route", template), ("method", "GET"), ("status", status)})
        return found["http_requests_total", labels]

    assert total("/plain/{name}", "2xx") == 3
    assert total("/failing", "4xx") == 1
    assert total("none", "4xx") == 2
    plain = frozenset({("route", "/plain/{name}"), ("method", "GET")})
    assert found["http_request_seconds_count", plain] == 3
    assert found["http_request_seconds_bucket", plain | {("le", "+Inf")}] == 3
    assert found["http_response_bytes_total", plain] > 30
    assert found["http_connections", frozenset()] == 2


def test_the_page_tells_of_the_machine_and_the_work() -> None:
    model = Model(id="m", unique='a/"b":Q\\', name="x", format="gguf", source="builtin")
    job = Download(
        id="1", model_id="m", unique="a/b:Q", repo="a/b", revision="main", state="queued"
    )
    loaded = Instance(
        id="i", model_id="m", unique=model.unique, state=InstanceState.READY, engine="llama.cpp",
        measured_bytes=5, requests=2,
    )  # fmt: skip
    service = deck(
        models={"m": model}, downloads={"1": job}, instances={"i": loaded},
        memory=Memory(total_bytes=10), disk=Disk(free_bytes=20),
    )  # fmt: skip
    service.counters.completion_tokens = 9
    service.counters.received_bytes = 11
    found = samples(exposition(service, RequestMetrics(), 3))
    assert found["info", frozenset({("version", "1.2")})] == 1
    assert found["downloads", frozenset({("state", "queued")})] == 1
    assert found["downloads", frozenset({("state", "failed")})] == 0
    assert found["download_received_bytes_total", frozenset()] == 11
    assert found["instances", frozenset({("state", "ready")})] == 1
    assert found["instance_memory_bytes", frozenset({("model", model.unique)})] == 5
    assert found["requests_waiting", frozenset()] == 2
    assert found["tokens_total", frozenset({("kind", "completion")})] == 9
    assert found["memory_total_bytes", frozenset()] == 10
    assert ("memory_available_bytes", frozenset()) not in found
    assert found["disk_free_bytes", frozenset()] == 20
    assert found["process_resident_memory_bytes", frozenset()] > 1 << 20


def test_methods_that_somebody_made_up_are_one() -> None:
    meter = RequestMetrics()
    for number in range(100):
        meter.count("/a", f"M{number}", 405, 0.1, 0)
    for method in METHODS:
        meter.count("/a", method, 200, 0.1, 0)
    assert len(meter.tallies) == len(METHODS) + 1
    assert meter.tallies["/a", "other"].classes[4] == 100


def test_labels_are_escaped() -> None:
    page = MetricsText()
    page.by("things", "gauge", "Things.", "name", {'a"b\\c\nd': 1})
    assert samples(page.text()) == {("things", frozenset({("name", 'a"b\\c\nd')})): 1}
