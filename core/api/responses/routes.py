"""OpenAI's Responses API under `/v1/responses`.

Source: https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

from typing import Any

from modeldeck.core.api.dialect_routes import ASKING, dialect_route
from modeldeck.core.api.http.messages import EVENTS_TYPE
from modeldeck.core.api.http.router import Handler, Query, Route
from modeldeck.core.api.inference import RAISES
from modeldeck.core.api.responses.answer import AnswerEvent, AnswerObject
from modeldeck.core.api.responses.create import InputTokenCount, count_tokens, create
from modeldeck.core.api.responses.kept import (
    ForgottenAnswer,
    ItemList,
    cancel,
    compact,
    forget,
    list_input,
    retrieve,
)
from modeldeck.core.api.responses.request import AnswerBody, ConversationBody
from modeldeck.core.errors import (
    AnswerNotFound,
    ConversationNotFound,
    InvalidRequest,
    NotFound,
    PreviousAnswerNotFound,
)


def _route(method: str, path: str, handler: Handler, summary: str, **more: Any) -> Route:
    given = {"tag": "openai", "error_style": "openai", **more}
    return dialect_route(method, f"/v1/responses{path}", handler, summary, **given)


_ASKING: dict[str, Any] = {
    **ASKING,
    "raises": (*RAISES, PreviousAnswerNotFound, ConversationNotFound),
}
_KEPT: dict[str, Any] = {"raises": (InvalidRequest, AnswerNotFound)}

_STREAM = (
    Query(name="stream", type=bool, description="Send its events once more."),
    Query(name="starting_after", type=int, description="Number of the last event that came."),
    Query(name="include_obfuscation", type=bool, description="No effect."),
)
PAGE = (
    Query(name="after", type=str, description="Id of the last item that came."),
    Query(name="limit", type=int, description="Number of items, 1 to 100; 20 by default."),
    Query(name="order", type=str, description="`asc` or `desc`, the default."),
)

ROUTES: tuple[Route, ...] = (
    _route("POST", "", create, "Answer a conversation, complete or streamed, and keep the answer",
           operation_id="responsesCreate", body=AnswerBody, answer=AnswerObject,
           streams=(EVENTS_TYPE, AnswerEvent), **_ASKING),
    _route("GET", "/{response}", retrieve, "A kept answer; for a while its events once more",
           operation_id="responsesRetrieve", query=_STREAM, answer=AnswerObject,
           streams=(EVENTS_TYPE, AnswerEvent), **_KEPT),
    _route("DELETE", "/{response}", forget, "Forget a kept answer",
           operation_id="responsesDelete", need="infer", answer=ForgottenAnswer, **_KEPT),
    _route("GET", "/{response}/input_items", list_input, "What an answer was asked with",
           operation_id="responsesInputItems", query=PAGE, answer=ItemList, **_KEPT),
    _route("POST", "/{response}/cancel", cancel, "Cancel an answer that is being made",
           operation_id="responsesCancel", need="infer", answer=AnswerObject, **_KEPT),
    _route("POST", "/input_tokens", count_tokens, "Count the tokens of an input",
           operation_id="responsesInputTokens", body=ConversationBody, answer=InputTokenCount,
           **_ASKING),
    _route("POST", "/compact", compact, "Not offered: answers 404",
           operation_id="responsesCompact", raises=(NotFound,)),
)  # fmt: skip
