"""The OpenAI API under `/v1`: models, chat, completions and embeddings.

A downloaded model that is not loaded is loaded on demand. `model` is an id, a unique name or a
short name. Unsupported fields are refused with an error, never silently ignored.

Source: https://platform.openai.com/docs/api-reference
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from modeldeck.core.api.capabilities import capabilities
from modeldeck.core.api.dialect_routes import ASKING, LOOKING, dialect_route
from modeldeck.core.api.http.messages import EVENTS_TYPE, Request, Response, json_response
from modeldeck.core.api.http.router import Handler, Route
from modeldeck.core.api.names import public_name
from modeldeck.core.api.openai.chat import chat
from modeldeck.core.api.openai.chat_answer import Completion, CompletionChunk
from modeldeck.core.api.openai.chat_request import ChatBody
from modeldeck.core.api.openai.completions import CompletionBody, TextCompletion, complete
from modeldeck.core.api.openai.embeddings import EmbeddingList, EmbeddingsBody, embed
from modeldeck.core.api.openai.model_schema import ModelList, OpenModel, meta_of
from modeldeck.core.errors import NotFound
from modeldeck.core.schema import Model
from modeldeck.core.schema.state import State
from modeldeck.core.schema.summary import LOADED

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


def _listed(state: State, model: Model) -> OpenModel:
    try:
        created = int(datetime.fromisoformat(model.created_at).timestamp())
    except ValueError:
        created = 0
    owner = (model.repo or "local").partition("/")[0]
    loaded = next(
        (
            instance
            for instance in state.instances.values()
            if instance.model_id == model.id and instance.state in LOADED
        ),
        None,
    )
    length = (loaded and loaded.context_length) or model.context_length or UNSET
    return OpenModel(
        id=public_name(model, state.models),
        created=created,
        owned_by=owner,
        context_length=length,
        max_model_len=length,
        capabilities=capabilities(model, loaded),
        meta=meta_of(model, loaded),
    )


def list_models(deck: Deck, request: Request) -> Response:
    """The downloaded models."""
    state = deck.state
    here = [_listed(state, model) for model in state.models.values() if model.downloaded]
    return json_response(ModelList(data=here))


def get_model(deck: Deck, request: Request) -> Response:
    """One model; a slash in its name need not be percent-encoded."""
    model = deck.models.find("/".join(request.params.values()))
    if not model.downloaded:
        raise NotFound(f"{model.name} is not on this machine.", "Download it first.")
    return json_response(_listed(deck.state, model))


def _route(method: str, path: str, handler: Handler, summary: str, **more: Any) -> Route:
    given = {"tag": "openai", "error_style": "openai", **more}
    return dialect_route(method, f"/v1/{path}", handler, summary, **given)


ROUTES: tuple[Route, ...] = (
    _route("GET", "models", list_models, "Models that are on this machine",
           operation_id="openaiListModels", answer=ModelList),
    _route("GET", "models/{model}", get_model, "One model",
           operation_id="openaiGetModel", answer=OpenModel, **LOOKING),
    _route("GET", "models/{owner}/{model}", get_model, "One model, by its name as it is",
           operation_id="openaiGetModelByName", answer=OpenModel, **LOOKING),
    _route("GET", "models/{host}/{owner}/{model}", get_model, "One model, by its name on the Hub",
           operation_id="openaiGetModelByHubName", answer=OpenModel, **LOOKING),
    _route("POST", "chat/completions", chat, "Answer a conversation, complete or streamed",
           operation_id="openaiChat", body=ChatBody, answer=Completion,
           streams=(EVENTS_TYPE, CompletionChunk), **ASKING),
    _route("POST", "completions", complete, "Continue a prompt, complete or streamed",
           operation_id="openaiComplete", body=CompletionBody, answer=TextCompletion,
           streams=(EVENTS_TYPE, TextCompletion), **ASKING),
    _route("POST", "embeddings", embed, "Turn texts into vectors",
           operation_id="openaiEmbed", body=EmbeddingsBody, answer=EmbeddingList, **ASKING),
)  # fmt: skip
