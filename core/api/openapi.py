"""The OpenAPI 3.1 document, made from the route table. Pure.

Operations of the documented API are shown as its own document has them (`pieces.json`); the others
are described from their rows: types become schemas, whose names get a prefix, because both have a
`Model`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec

from modeldeck.core.api.examples import ANSWERS, BODIES, IMAGE_BODIES
from modeldeck.core.api.http.error_forms import ErrorStyle
from modeldeck.core.api.http.router import Route, split
from modeldeck.core.api.pieces.schema import DOCUMENT
from modeldeck.core.schema import ErrorInfo, Priority

PREFIX = "Deck"
REFERENCE = "#/components/schemas/"

TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "description": "Required from other machines; not needed on this machine.",
}

PRIORITY = {
    "name": "X-Modeldeck-Priority",
    "in": "header",
    "required": False,
    "description": "Batch requests are answered after interactive ones, which is the default.",
    "schema": {"type": "string", "enum": list(get_args(Priority))},
}
"""The header of requests to models; `core.api.http.messages.Request.requester` reads it."""

TAGS = {
    "state": "The state of this machine: models, downloads, instances, memory.",
    "feed": "The state as it changes.",
    "models": "The catalog.",
    "fits": "Whether models fit this machine.",
    "hub": "Search and repositories of the Hub.",
    "downloads": "Downloads of model files.",
    "instances": "Models that are loaded.",
    "cache": "Files on disk, and their deletion.",
    "openai": "The OpenAI API.",
    "anthropic": "Anthropic's Messages API.",
    "llama-server": "Tokens of texts and conversations, as llama-server tells them.",
    "ollama": "The part of Ollama's API that its clients use.",
    "pieces clients": "Routes for the documented API's own programs, if turned on.",
    "machines": "Copies between machines.",
    "core": "The core itself.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """An error of the native API."""

    error: ErrorInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAiError:
    """The error object of the OpenAI API."""

    message: str
    type: str
    code: str
    param: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAiErrorBody:
    """An error of the OpenAI API."""

    error: OpenAiError


@dataclass(frozen=True, slots=True, kw_only=True)
class AnthropicError:
    """The error object of Anthropic's API."""

    type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnthropicErrorBody:
    """An error of Anthropic's API."""

    error: AnthropicError
    request_id: str | None
    type: Literal["error"] = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaErrorBody:
    """An error of Ollama's API."""

    error: str


ERRORS: Mapping[ErrorStyle, Any] = {
    "json": ErrorBody,
    "openai": OpenAiErrorBody,
    "anthropic": AnthropicErrorBody,
    "ollama": OllamaErrorBody,
}
"""Type of an error response, by the route's style; `text` is plain text."""


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The document of a route table."""
    # The document can describe one route for a path and method: the one without a header.
    rows = [route for route in routes if not _is_documented(route) and route.header is None]
    types = [*ERRORS.values()]
    for route in rows:
        kinds = (route.body, route.answer, route.streams and route.streams[1])
        types += [kind for kind in kinds if _is_described(kind)]
    schemas, components = _schemas(types)
    paths: dict[str, dict[str, Any]] = {
        path: dict(operations) for path, operations in DOCUMENT["paths"].items()
    }
    for route in rows:
        operation = _operation(route, schemas)
        paths.setdefault(route.template, {})[route.method.lower()] = operation
    parts = {**DOCUMENT["components"]}
    parts["schemas"] = {**parts["schemas"], **components}
    parts["securitySchemes"] = {"token": TOKEN}
    tags = [{"name": name, "description": text} for name, text in TAGS.items()]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "modeldeck",
            "version": version,
            "summary": "Local language models: find, download, load, ask, unload, delete.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [*DOCUMENT.get("tags", ()), *tags],
        "paths": paths,
        "components": parts,
        "security": [{}, {"token": []}],
    }


def _is_documented(route: Route) -> bool:
    return route.method.lower() in DOCUMENT["paths"].get(route.template, {})


def _is_described(kind: Any) -> bool:
    """Whether a body or answer is a type, rather than a schema's name or None."""
    return kind is not None and not isinstance(kind, str)


def _schemas(types: list[Any]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """The schema of each type, and the components that they refer to."""
    made, components = msgspec.json.schema_components(
        types, ref_template=f"{REFERENCE}{PREFIX}{{name}}"
    )
    named = {f"{PREFIX}{name}": schema for name, schema in components.items()}
    return {_key(kind): schema for kind, schema in zip(types, made, strict=True)}, named


def _key(kind: Any) -> str:
    return repr(kind)


def _operation(route: Route, schemas: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "summary": route.summary,
        "tags": [route.tag],
        "responses": _responses(route, schemas),
    }
    source = route.handler or route.socket
    if source is not None and source.__doc__:
        operation["description"] = source.__doc__.strip()
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": route.body_required,
            "content": {"application/json": _body(route.body, schemas, route)},
        }
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    path = [
        {"name": part.strip("{}"), "in": "path", "required": True, "schema": {"type": "string"}}
        for part in split(route.template)
        if part.startswith("{")
    ]
    query = [
        {
            "name": field.name,
            "in": "query",
            "required": field.required,
            "description": field.description,
            "schema": msgspec.json.schema(field.type),
        }
        for field in route.query
    ]
    return path + query + ([PRIORITY] if route.cancel_when_gone else [])


def _responses(route: Route, schemas: Mapping[str, Any]) -> dict[str, Any]:
    failures = _failures(route, schemas)
    if route.handler is None:
        upgraded = {"description": "The connection is a WebSocket from here on."}
        return {"101": upgraded, **failures}
    success: dict[str, Any] = {"description": "Done."}
    if route.answer is not None:
        content = {route.content_type: _content(route.answer, schemas, ANSWERS, route)}
        success = {"description": "The answer.", "content": content}
    if route.streams is not None:
        kind, piece = route.streams
        # OpenAPI 3.1 cannot describe the items of a stream; 3.2 has itemSchema.
        item = {"schema": {"type": "string"}, "x-item-schema": schemas[_key(piece)]}
        success["content"][kind] = item
    return {str(route.status): success, **failures}


def _failures(route: Route, schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Error responses by status; `default` covers errors that any route may have."""
    if route.error_style == "text":
        content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": schemas[_key(ERRORS[route.error_style])]}}
    words: dict[str, list[str]] = {}
    for error in route.raises:
        status = str(route.error_status(error("")))
        words.setdefault(status, []).append((error.__doc__ or "").partition("\n")[0])
    descriptions = {status: " ".join(texts) for status, texts in sorted(words.items())}
    descriptions["default"] = "What went wrong, and what to do about it."
    return {
        status: {"description": text, "content": content} for status, text in descriptions.items()
    }


def _body(kind: Any, schemas: Mapping[str, Any], route: Route) -> dict[str, Any]:
    """The schema of a body, with its example, and another one with an image where it takes some."""
    content = _content(kind, schemas, BODIES, route)
    if (image := IMAGE_BODIES.get(route.operation_id)) is not None:
        content["examples"] = {"text": {"value": content.pop("example")}, "image": {"value": image}}
    return content


def _content(
    kind: Any, schemas: Mapping[str, Any], examples: Mapping[str, Any], route: Route
) -> dict[str, Any]:
    """The schema of a body or response, with its example if any."""
    content: dict[str, Any] = {"schema": _schema(kind, schemas)}
    if route.operation_id in examples:
        content["example"] = examples[route.operation_id]
    return content


def _schema(kind: Any, schemas: Mapping[str, Any]) -> Any:
    return {"$ref": REFERENCE + kind} if isinstance(kind, str) else schemas[_key(kind)]
