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
from modeldeck.core.api.anthropic.request_schema import CountTokensBody, MessagesBody
from modeldeck.core.api.http.messages import EVENTS_TYPE
from modeldeck.core.api.http.router import ANTHROPIC, Handler, Route
from modeldeck.core.api.inference import RAISES
from modeldeck.core.errors import Ambiguous, InvalidRequest, NotDownloaded, NotFound


def _route(method: str, path: str, handler: Handler, summary: str, **more: Any) -> Route:
    return Route(
        method=method,
        template=f"/v1/{path}",
        summary=summary,
        tag="anthropic",
        handler=handler,
        error_style="anthropic",
        # Clients only see downloaded models: for them the others do not exist.
        statuses={NotDownloaded: 404},
        **more,
    )


_ASKING: dict[str, Any] = {
    "body_required": True,
    "cancel_when_gone": True,
    "asks": True,
    "raises": RAISES,
}
_LOOKING: dict[str, Any] = {
    "header": ANTHROPIC,
    "raises": (InvalidRequest, NotFound, Ambiguous),
}

ROUTES: tuple[Route, ...] = (
    _route("POST", "messages", create, "Answer a conversation, complete or streamed",
           operation_id="anthropicCreate", body=MessagesBody, answer=AnthropicMessage,
           streams=(EVENTS_TYPE, MessageEvent), **_ASKING),
    _route("POST", "messages/count_tokens", count_tokens, "Count the tokens of a conversation",
           operation_id="anthropicCountTokens", body=CountTokensBody, answer=TokenCount,
           **_ASKING),
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
