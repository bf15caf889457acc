"""The OpenAI API under `/v1`: models and chat completions, whole or streamed.

A downloaded model that is not loaded is loaded on demand. `model` takes an id, a unique name or a
short name. What is not done is refused in words, never passed over in silence.

Source of the forms: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from core.api.openai_forms import (
    ChatBody,
    Completion,
    CompletionChunk,
    ModelList,
    OpenModel,
    answer_of,
    ending,
    generate_request,
    opening,
    piece,
    usage,
)
from core.api.router import Route
from core.api.wire import Request, Response, StreamResponse, error_response, event, json_response
from core.errors import Cancelled, DeckError, EngineFailed
from core.schema import Chunk, GenerateRequest, Instance, InstanceState, LoadOptions, Model

if TYPE_CHECKING:
    from core.deck import Deck

DONE = b"data: [DONE]\n\n"
READY = (InstanceState.READY, InstanceState.BUSY)


# Models


def _listed(model: Model) -> OpenModel:
    try:
        created = int(datetime.fromisoformat(model.created_at).timestamp())
    except ValueError:
        created = 0
    owner = (model.repo or "local").partition("/")[0]
    return OpenModel(id=model.unique, created=created, owned_by=owner)


def list_models(deck: Deck, request: Request) -> Response:
    """The models that can be asked: those that are on this machine."""
    here = [_listed(model) for model in deck.state.models.values() if model.downloaded]
    return json_response(ModelList(data=here))


def get_model(deck: Deck, request: Request) -> Response:
    """One model."""
    return json_response(_listed(deck.model(request.params["model"])))


# Chat


async def _ready_instance(deck: Deck, model: Model, origin: str) -> Instance:
    """The model's instance, loaded now if it was not."""
    instance = deck.instance_of(model.id)
    if instance is not None and instance.state in READY:
        return instance
    return await deck.loaded(model.id, LoadOptions(), origin)


async def chat(deck: Deck, request: Request) -> Response | StreamResponse:
    """Answer a conversation."""
    body = request.parse(ChatBody)
    asked = generate_request(body)
    model = deck.model(body.model)
    instance = await _ready_instance(deck, model, request.origin)
    key, created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())
    if not body.stream:
        return json_response(await _whole(deck, instance.id, asked, model.unique, key, created))
    with_usage = body.stream_options is not None and body.stream_options.include_usage
    blank = CompletionChunk(id=key, created=created, model=model.unique)
    events = _events(deck, instance.id, asked, blank, with_usage=with_usage)
    first = await anext(events)  # so that what fails before the first word fails with a status
    return StreamResponse(chunks=events, first=first)


async def _whole(
    deck: Deck, instance_id: str, asked: GenerateRequest, model: str, key: str, created: int
) -> Completion:
    """The answer, once it is complete."""
    parts: list[str] = []
    last = Chunk()
    async with deck.generate(instance_id, asked) as chunks:
        async for chunk in chunks:
            parts.append(chunk.text)
            last = chunk
    _check_end(last)
    return answer_of("".join(parts), last, id=key, created=created, model=model)


def _check_end(last: Chunk) -> None:
    """Raise when the answer did not come to an end of its own."""
    if last.finish_reason == "cancelled":
        raise Cancelled("The answer was cut short: its model was unloaded.", "Ask again.")
    if last.finish_reason is None:
        raise EngineFailed("The engine stopped in mid-answer.", "Its log tells more.")


async def _events(
    deck: Deck,
    instance_id: str,
    asked: GenerateRequest,
    blank: CompletionChunk,
    *,
    with_usage: bool,
) -> AsyncGenerator[bytes, None]:
    """The answer as server-sent events. A failure after the first one is an event as well."""
    begun = False
    try:
        async with deck.generate(instance_id, asked) as chunks:
            async for chunk in chunks:
                data = _event(piece(blank, chunk.text)) if chunk.text else b""
                if not begun:
                    data = _event(opening(blank)) + data
                    begun = True
                if chunk.finish_reason is not None:
                    _check_end(chunk)
                    data += _event(ending(blank, chunk))
                    data += _event(usage(blank, chunk)) if with_usage else b""
                    data += DONE
                if data:
                    yield data
    except DeckError as error:
        if not begun:
            raise
        yield event(error_response(error, "openai").body)


def _event(part: CompletionChunk) -> bytes:
    return event(msgspec.json.encode(part))


ROUTES = (
    Route(
        method="GET",
        template="/v1/models",
        operation_id="openaiListModels",
        summary="Models that are on this machine",
        tag="openai",
        handler=list_models,
        answer=ModelList,
        error_style="openai",
    ),
    Route(
        method="GET",
        template="/v1/models/{model}",
        operation_id="openaiGetModel",
        summary="One model",
        tag="openai",
        handler=get_model,
        answer=OpenModel,
        error_style="openai",
    ),
    Route(
        method="POST",
        template="/v1/chat/completions",
        operation_id="openaiChat",
        summary="Answer a conversation, whole or streamed",
        tag="openai",
        handler=chat,
        body=ChatBody,
        body_required=True,
        answer=Completion,
        error_style="openai",
        cancel_when_gone=True,
    ),
)
