"""`POST /v1/messages` and `/v1/messages/count_tokens`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from modeldeck.core.api.anthropic.answer import AnswerRules, message_of
from modeldeck.core.api.anthropic.events import EventWriter
from modeldeck.core.api.anthropic.request import (
    CountTokensBody,
    MessagesBody,
    generate_request,
)
from modeldeck.core.api.capabilities import thinking_notice
from modeldeck.core.api.http.messages import (
    EVENTS,
    Request,
    Response,
    StreamResponse,
    error_response,
    event,
    json_response,
)
from modeldeck.core.api.inference import StreamForm, asking, collected, streamed
from modeldeck.core.api.media_input import with_media
from modeldeck.core.api.names import public_name
from modeldeck.core.schema import GenerateRequest, Model, Requester, TokenQuery

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount:
    """The tokens of a conversation."""

    input_tokens: int


async def create(deck: Deck, request: Request) -> Response | StreamResponse:
    """Answer a conversation.

    A downloaded model that is not loaded is loaded first. The answer ends when its client goes
    away.
    """
    body = request.parse(MessagesBody)
    model = deck.models.find(body.model)
    requester = request.requester("anthropic", body.priority)
    asked = await with_media(deck, model, generate_request(body), requester)
    key, name = f"msg_{uuid.uuid4().hex}", public_name(model, deck.state.models)
    rules = AnswerRules(
        max_tokens=body.max_tokens,
        stop_sequences=asked.stop,
        one_call=body.one_call,
        hides_thought=body.hides_thought,
    )
    headers = thinking_notice(model, asked.thinking)
    if body.stream:
        writer = EventWriter(id=key, model=name, rules=rules)
        events = _events(deck, model, asked, body, writer, requester)
        return replace(await streamed(events, _form(writer, request.id)), headers=headers)
    keep = body.keep_alive_s()
    async with asking(deck, model, asked, requester, keep_alive_s=keep) as reply:
        whole = await collected(reply.chunks)
    context = reply.context_length
    message = message_of(whole, rules, id=key, model=name, context=context)
    return json_response(message, headers=headers)


def _form(writer: EventWriter, request_id: str) -> StreamForm:
    return StreamForm(
        content_type=EVENTS,
        error=lambda error: event(
            error_response(error, "anthropic", request_id=request_id).body, "error"
        ),
        ping=writer.alive,
    )


async def _events(
    deck: Deck,
    model: Model,
    asked: GenerateRequest,
    body: MessagesBody,
    writer: EventWriter,
    requester: Requester,
) -> AsyncGenerator[bytes, None]:
    """The answer as server-sent events."""
    async with asking(deck, model, asked, requester, keep_alive_s=body.keep_alive_s()) as reply:
        writer.context = reply.context_length
        async for chunk in reply.chunks:
            if data := writer.feed(chunk):
                yield data


async def count_tokens(deck: Deck, request: Request) -> Response:
    """Count the tokens of a conversation, tools included, as the model would read it.

    A downloaded model that is not loaded is loaded first.
    """
    body = request.parse(CountTokensBody)
    model = deck.models.find(body.model)
    requester = request.requester("anthropic", body.priority)
    asked = await with_media(deck, model, generate_request(body), requester)
    query, keep = TokenQuery(request=asked, count_only=True), body.keep_alive_s()
    found = await deck.inference.tokenize(model, query, requester, keep_alive_s=keep)
    return json_response(TokenCount(input_tokens=found.count))
