"""Ollama's API under `/api`, the part that its clients use; the rest is refused with 501.

Models have Ollama's names, `hf.co/owner/repo:QUANT`, and come from the Hub, not from Ollama's
registry. Creating, copying and pushing models is not supported.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeldeck.core.api.dialect_routes import ASKING, dialect_route
from modeldeck.core.api.http.messages import NDJSON, Request, Response, json_response, text_response
from modeldeck.core.api.http.router import Handler, Route
from modeldeck.core.api.ollama import generate, models
from modeldeck.core.api.ollama.model_schema import (
    ModelDetails,
    Processes,
    PullBody,
    Status,
    Tags,
    VersionForm,
)
from modeldeck.core.api.ollama.schema import (
    EmbedBody,
    Embedded,
    EmbeddedOne,
    EmbeddingBody,
    GenerateBody,
    GenerateResponse,
    ModelNameBody,
    OllamaChatBody,
)
from modeldeck.core.errors import (
    Ambiguous,
    Cancelled,
    Corrupt,
    Gated,
    HubUnavailable,
    InUse,
    InvalidRequest,
    NotDownloaded,
    NotEnoughDisk,
    NotFound,
    NotImplementedHere,
)

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

VERSION = "0.33.0"
"""The version of Ollama whose API is served; clients require different minimum versions."""


def running(deck: Deck, request: Request) -> Response:
    """The exact text that Ollama's clients look for."""
    return text_response("Ollama is running")


def get_version(deck: Deck, request: Request) -> Response:
    """The version of Ollama whose API is served, not that of modeldeck."""
    return json_response(VersionForm(version=VERSION))


def not_served(deck: Deck, request: Request) -> Response:
    """Refuse with 501: models cannot be created, copied or pushed."""
    raise NotImplementedHere(
        f"modeldeck does not serve {request.path[:100]}: it runs models from the Hub, and neither "
        "makes, copies nor pushes them.",
        "Pull hf.co/owner/repo:QUANT instead, or add a file on this machine as a custom model.",
    )


def _route(method: str, path: str, handler: Handler, summary: str, name: str, **more: Any) -> Route:
    # Clients pull what is not found.
    given = {"tag": "ollama", "error_style": "ollama", "operation_id": f"ollama{name}", **more}
    return dialect_route(method, f"/{path}", handler, summary, **given)


_STREAMED: dict[str, Any] = {**ASKING, "streams": (NDJSON, GenerateResponse)}
_NAMING = (InvalidRequest, NotFound, NotDownloaded, Ambiguous)
_PULLING = (*_NAMING, HubUnavailable, Gated, NotEnoughDisk, Corrupt, Cancelled)
_CHANGING: dict[str, Any] = {"body_required": True, "need": "manage"}

_REFUSED = (
    ("POST", "api/create", "Create"),
    ("POST", "api/copy", "Copy"),
    ("POST", "api/push", "Push"),
    ("GET", "api/blobs/{digest}", "HasBlob"),
    ("POST", "api/blobs/{digest}", "PutBlob"),
)

ROUTES: tuple[Route, ...] = (
    _route("GET", "", running, "That the server runs, in Ollama's words", "Running",
           answer=str, content_type="text/plain"),
    _route("GET", "api/version", get_version, "The version of Ollama's API", "Version",
           answer=VersionForm),
    _route("GET", "api/tags", models.list_models, "Models that are on this machine", "Tags",
           answer=Tags),
    _route("GET", "api/ps", models.list_running, "Models that are loaded", "Ps",
           answer=Processes),
    _route("POST", "api/show", models.show, "Details of a model", "Show",
           body=ModelNameBody, body_required=True, answer=ModelDetails, raises=_NAMING),
    _route("POST", "api/pull", models.pull, "Download a model from the Hub", "Pull",
           body=PullBody, answer=Status, streams=(NDJSON, Status), raises=_PULLING, **_CHANGING),
    _route("DELETE", "api/delete", models.delete, "Delete a model's files", "Delete",
           body=ModelNameBody, raises=(*_NAMING, InUse), **_CHANGING),
    _route("POST", "api/chat", generate.chat, "Answer a conversation, streamed or whole", "Chat",
           body=OllamaChatBody, answer=GenerateResponse, **_STREAMED),
    _route("POST", "api/generate", generate.generate, "Answer a prompt, streamed or whole",
           "Generate", body=GenerateBody, answer=GenerateResponse, **_STREAMED),
    _route("POST", "api/embed", generate.embed, "Turn texts into vectors", "Embed",
           body=EmbedBody, answer=Embedded, **ASKING),
    _route("POST", "api/embeddings", generate.embed_one, "Turn one text into a vector",
           "EmbedOne", body=EmbeddingBody, answer=EmbeddedOne, **ASKING),
    *(_route(method, path, not_served, "Not served here: answers 501", name,
             raises=(NotImplementedHere,))
      for method, path, name in _REFUSED),
)  # fmt: skip
