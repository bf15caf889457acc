"""Anthropic's Messages API under `/v1/messages`, and its form of `/v1/models`.

A downloaded model that is not loaded is loaded on demand. `model` is an id, a unique name or a
short name. The header `anthropic-version` tells its clients apart from those of OpenAI's API.

Source: https://docs.claude.com/en/api/messages
"""

from __future__ import annotations

from typing import Any

from modeldeck.core.api.anthropic import models
from modeldeck.core.api.anthropic.answer import AnthropicMessage
from modeldeck.core.api.anthropic.events import MessageEvent
from modeldeck.core.api.anthropic.messages import TokenCount, count_tokens, create
from modeldeck.core.api.anthropic.models import AnthropicModel, AnthropicModels
from modeldeck.core.api.anthropic.request import CountTokensBody, MessagesBody
from modeldeck.core.api.dialect_routes import ASKING, LOOKING, dialect_route
from modeldeck.core.api.http.messages import EVENTS_TYPE
from modeldeck.core.api.http.router import ANTHROPIC, Handler, Route


def _route(method: str, path: str, handler: Handler, summary: str, **more: Any) -> Route:
    given = {"tag": "anthropic", "error_style": "anthropic", **more}
    return dialect_route(method, f"/v1/{path}", handler, summary, **given)


_LOOKING: dict[str, Any] = {"header": ANTHROPIC, **LOOKING}

ROUTES: tuple[Route, ...] = (
    _route("POST", "messages", create, "Answer a conversation, complete or streamed",
           operation_id="anthropicCreate", body=MessagesBody, answer=AnthropicMessage,
           streams=(EVENTS_TYPE, MessageEvent), **ASKING),
    _route("POST", "messages/count_tokens", count_tokens, "Count the tokens of a conversation",
           operation_id="anthropicCountTokens", body=CountTokensBody, answer=TokenCount,
           **ASKING),
    _route("GET", "models", models.list_models, "Models that are on this machine",
           operation_id="anthropicListModels", answer=AnthropicModels, header=ANTHROPIC),
    _route("GET", "models/{model}", models.get_model, "One model",
           operation_id="anthropicGetModel", answer=AnthropicModel, **_LOOKING),
    _route("GET", "models/{owner}/{model}", models.get_model, "One model, by its name as it is",
           operation_id="anthropicGetModelByName", answer=AnthropicModel, **_LOOKING),
    _route("GET", "models/{host}/{owner}/{model}", models.get_model,
           "One model, by its name on the Hub",
           operation_id="anthropicGetModelByHubName", answer=AnthropicModel, **_LOOKING),
)  # fmt: skip
