from __future__ import annotations

from typing import Any

import pytest

from modeldeck.core.api.http.messages import Request, Response
from modeldeck.core.api.http.router import Route, Router
from modeldeck.core.api.route_table import ERROR_STYLES
from modeldeck.core.errors import (
    Ambiguous,
    Conflict,
    DeckError,
    MethodNotAllowed,
    NotEnoughMemory,
    NotFound,
)


def handler(deck: Any, request: Request) -> Response:
    return Response()


def route(method: str, template: str, **more: Any) -> Route:
    name = f"{method} {template}"
    return Route(
        method=method, template=template, operation_id=name, summary="", tag="", handler=handler,
        **more,
    )  # fmt: skip


ROUTER = Router(
    route(method, template)
    for method, template in [
        ("GET", "/model/{model}"),
        ("POST", "/model/update"),
        ("POST", "/model/{model}/load"),
        ("GET", "/models"),
        ("POST", "/models/unload"),
        ("POST", "/models/{model}/delete"),
        ("POST", "/models/{model}/delete/cache"),
        ("POST", "/instances/unload"),
        ("DELETE", "/instances/{instance}"),
        ("GET", "/{a}/{b}/end"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "template", "params"),
    [
        ("GET", "/models", "/models", {}),
        ("HEAD", "/models", "/models", {}),
        ("GET", "//models", "/models", {}),
        ("GET", "/models/", "/models", {}),
        ("GET", "/%6Dodels", "/models", {}),
        ("POST", "/model/update", "/model/update", {}),
        ("GET", "/model/update", "/model/{model}", {"model": "update"}),
        ("GET", "/model/a%2Fb%3AQ8_0", "/model/{model}", {"model": "a/b:Q8_0"}),
        ("GET", "/model/%00%0d%0a", "/model/{model}", {"model": "\x00\r\n"}),
        ("GET", "/model/%ff", "/model/{model}", {"model": "\ufffd"}),
        ("GET", "/model/..", "/model/{model}", {"model": ".."}),
        ("GET", "/model/{model}", "/model/{model}", {"model": "{model}"}),
        ("POST", "/model/update/load", "/model/{model}/load", {"model": "update"}),
        ("POST", "/models/unload", "/models/unload", {}),
        ("POST", "/models/unload/delete", "/models/{model}/delete", {"model": "unload"}),
        ("DELETE", "/instances/unload", "/instances/{instance}", {"instance": "unload"}),
        ("GET", "/model/x/end", "/{a}/{b}/end", {"a": "model", "b": "x"}),
    ],
)
def test_paths(method: str, path: str, template: str, params: dict[str, str]) -> None:
    found, values = ROUTER.match(method, path)
    assert (found.template, values) == (template, params)


@pytest.mark.parametrize(
    ("method", "path", "error"),
    [
        ("GET", "/", NotFound),
        ("GET", "/model", NotFound),
        ("GET", "/model/a/b", NotFound),
        ("GET", "/model/a/b/c/d/e", NotFound),
        ("GET", "/" + "a/" * 5000, NotFound),
        ("DELETE", "/models", MethodNotAllowed),
        ("get", "/models", MethodNotAllowed),
    ],
)
def test_paths_that_lead_nowhere(method: str, path: str, error: type[DeckError]) -> None:
    with pytest.raises(error):
        ROUTER.match(method, path)


def test_what_a_path_takes() -> None:
    assert ROUTER.allowed("/model/update") == ("GET", "HEAD", "POST")
    assert ROUTER.allowed("/nowhere") == ()


def test_two_equal_rows_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="two routes"):
        Router([route("GET", "/a/{b}"), route("GET", "/a/{c}")])


@pytest.mark.parametrize(
    ("more", "error", "status"),
    [
        ({}, NotEnoughMemory("no"), 507),
        ({"error_style": "text"}, NotEnoughMemory("no"), 500),
        ({"error_style": "text", "statuses": {NotFound: 410}}, NotFound("no"), 410),
        ({"statuses": {Conflict: 499}}, Ambiguous("no"), 499),
    ],
)
def test_the_status_of_an_error(more: dict[str, Any], error: DeckError, status: int) -> None:
    assert route("GET", "/a", **more).error_status(error) == status


def test_a_route_that_needs_a_header_wins_where_it_is_there() -> None:
    plain = [route("GET", path) for path in ("/v1/models", "/v1/models/{model}")]
    special = [
        route("GET", path, header="anthropic-version")
        for path in ("/v1/models", "/v1/models/{model}")
    ]
    for routes in ((*plain, *special), (*special, *plain)):
        router = Router(routes)
        for place, path in enumerate(("/v1/models", "/v1/models/a")):
            assert router.match("GET", path)[0] is plain[place]
            assert router.match("HEAD", path, {"anthropic-version": ""})[0] is special[place]
            assert router.match("GET", path, ["anthropic-beta"])[0] is plain[place]
    with pytest.raises(ValueError, match="two routes"):
        Router([*special, *special])


@pytest.mark.parametrize(
    ("path", "headers", "style"),
    [
        ("/v1/nothing", (), "openai"),
        ("//v1/nothing", (), "openai"),
        ("/v1/messages/batches", (), "anthropic"),
        ("/v1/messages", (), "anthropic"),
        ("/v1/files", ("anthropic-version",), "anthropic"),
        ("/v1/messagesx", (), "openai"),
        ("/api/nothing", (), "ollama"),
        ("/api/nothing", ("anthropic-version",), "ollama"),
        *((path, (), "openai") for path in ("/v2/nothing", "/rerank", "/tokenize")),
        ("/apply-template", (), "openai"),
        ("/apis", (), "json"),
        ("/", (), "json"),
    ],
)
def test_a_path_without_a_route_has_errors_of_its_api(
    path: str, headers: tuple[str, ...], style: str
) -> None:
    assert Router([], ERROR_STYLES).error_style(path, headers) == style
