"""The OpenAPI document is made from the table, and says all of it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate

from modeldeck.core.api.native import health, routes
from modeldeck.core.api.openai import routes as openai
from modeldeck.core.api.openapi import document
from modeldeck.core.api.pieces import routes as pieces
from modeldeck.core.api.pieces.schema import DOCUMENT
from modeldeck.core.api.route_table import ROUTES
from modeldeck.core.config.config import Config
from modeldeck.core.service.health import Health


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    encoded = msgspec.json.encode(document(ROUTES, "1.2.3"))
    decoded: dict[str, Any] = msgspec.json.decode(encoded)
    return decoded


def test_it_is_valid(made: dict[str, Any]) -> None:
    validate(made)
    assert (made["openapi"], made["info"]["version"]) == ("3.1.0", "1.2.3")


def test_it_has_every_route_and_no_other(made: dict[str, Any]) -> None:
    told = {(method.upper(), path) for path, methods in made["paths"].items() for method in methods}
    assert told == {(route.method, route.template) for route in ROUTES}


def test_the_table_has_every_module_s_routes() -> None:
    parts = (*pieces.ROUTES, *routes.ROUTES, *openai.ROUTES, *health.ROUTES)
    assert set(map(id, parts)) < set(map(id, ROUTES))


def test_operation_ids_are_unique(made: dict[str, Any]) -> None:
    names = [
        operation["operationId"]
        for methods in made["paths"].values()
        for operation in methods.values()
    ]
    told = [route for route in ROUTES if route.header is None]
    assert len(names) == len(set(names)) == len(told)


def test_the_documented_operations_are_told_as_they_are_documented(made: dict[str, Any]) -> None:
    for path, operations in DOCUMENT["paths"].items():
        assert made["paths"][path] == operations
    schemas = made["components"]["schemas"]
    assert schemas["Model"] == DOCUMENT["components"]["schemas"]["Model"]
    assert "unique" in schemas["DeckModel"]["properties"]


def test_every_reference_leads_somewhere(made: dict[str, Any]) -> None:
    def references(part: Any) -> Any:
        if isinstance(part, dict):
            if isinstance(part.get("$ref"), str):
                yield part["$ref"]
            for value in part.values():
                yield from references(value)
        elif isinstance(part, list):
            for value in part:
                yield from references(value)

    for reference in set(references(made)):
        place: Any = made
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_names_of_schemas_are_names_of_classes(made: dict[str, Any]) -> None:
    assert all(name.isidentifier() for name in made["components"]["schemas"])


def test_every_tag_is_described(made: dict[str, Any]) -> None:
    described = {tag["name"] for tag in made["tags"]}
    assert {route.tag for route in ROUTES} <= described


def test_asking_a_model_is_told_with_examples_streams_and_errors(made: dict[str, Any]) -> None:
    for path, kind in (
        ("/v1/chat/completions", "text/event-stream"),
        ("/v1/completions", "text/event-stream"),
        ("/api/chat", "application/x-ndjson"),
        ("/api/generate", "application/x-ndjson"),
    ):
        operation = made["paths"][path]["post"]
        body = operation["requestBody"]["content"]["application/json"]
        assert body["example" if "example" in body else "examples"]
        whole = operation["responses"]["200"]["content"]
        assert whole["application/json"]["example"]["model"]
        assert whole[kind]["x-item-schema"]["$ref"]
        assert {"400", "404", "409", "507", "501", "503", "default"} <= set(operation["responses"])


async def test_it_is_served(serve: Callable[..., Any]) -> None:
    host = SimpleNamespace(version="7.8.9+local", id="an-id")
    deck = SimpleNamespace(state=SimpleNamespace(host=host), config=Config(), health=Health)
    served = await serve(deck=deck)
    ask = "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = await served.ask(ask.format("/openapi.json").encode())
    assert msgspec.json.decode(answer.body)["info"]["version"] == "7.8.9+local"
    answer = await served.ask(ask.format("/.well-known/version").encode())
    assert (answer.body, answer.headers["content-type"]) == (b"7.8.9", "text/plain; charset=utf-8")
    answer = await served.ask(ask.format("/.well-known/health").encode())
    assert answer.body == b"ok:an-id"
    answer = await served.ask(ask.format("/.well-known/health").replace("GET", "HEAD").encode())
    assert (answer.status, answer.headers["content-length"]) == (200, "8")
    answer = await served.ask(ask.format("/health").encode())
    assert msgspec.json.decode(answer.body) == {"status": "ok", "version": "7.8.9+local"}
