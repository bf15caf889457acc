"""`POST /v1/responses`: an answer, complete or streamed, that can be named afterwards."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from modeldeck.core.api.capabilities import thinking_notice
from modeldeck.core.api.http.messages import (
    EVENTS,
    Request,
    Response,
    StreamResponse,
    json_response,
)
from modeldeck.core.api.inference import StreamForm, asking, collected, streamed
from modeldeck.core.api.names import public_name
from modeldeck.core.api.openai.field_table import RESPONSE, parsed
from modeldeck.core.api.responses.answer import AnswerObject, new_id
from modeldeck.core.api.responses.conversation import (
    question,
    with_sampling,
)
from modeldeck.core.api.responses.events import AnswerEvents
from modeldeck.core.api.responses.history import conversation_so_far, listed, stored
from modeldeck.core.api.responses.request_schema import ENCRYPTED, AnswerBody, QuestionBody
from modeldeck.core.api.responses.tools import ToolOffer
from modeldeck.core.api.truncation import shorter
from modeldeck.core.errors import ContextExceeded
from modeldeck.core.schema import Chunk, GenerateRequest, LoadOptions, Model, Requester, TokenQuery
from modeldeck.core.service.answers.running import RunningAnswer
from modeldeck.core.service.answers.store import StoredAnswer

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request for an answer, as far as it is prepared."""

    deck: Deck
    body: AnswerBody
    model: Model
    request: GenerateRequest | None
    """None for a request that only loads its model."""
    events: AnswerEvents
    inputs: list[dict[str, object]]
    """The items of the request itself, each with an id."""
    previous: StoredAnswer | None
    owner: str
    requester: Requester
    cuts: bool
    """Whether a conversation that is too long is shortened."""

    def keep(self) -> None:
        """Store the answer as it is now, where that is wanted."""
        if self.body.is_stored:
            answer = stored(
                self.events.answer,
                self.inputs,
                self.owner,
                self.previous,
                streamed=bool(self.body.stream),
            )
            self.deck.answers.store.keep(answer)


async def create(deck: Deck, request: Request) -> Response | StreamResponse:
    """Answer a conversation, and keep the answer unless `store` is false.

    A downloaded model that is not loaded is loaded first; an empty input does nothing else. The
    answer ends when its client goes away; a stored one that is streamed goes on for a short while,
    unless the client asks the model again, so that it can come back for the rest: `GET` with
    `stream` and `starting_after`.
    """
    asked = prepared(deck, parsed(request, AnswerBody, RESPONSE), request)
    deck.answers.cancel_abandoned(asked.owner, asked.model.id)
    thinking = asked.request.thinking if asked.request is not None else None
    headers = thinking_notice(asked.model, thinking)
    if asked.body.stream:
        return replace(await _stream(asked), headers=headers)
    async with _chunks(asked) as chunks:
        asked.events.add(await collected(chunks))
    asked.keep()
    return json_response(asked.events.answer, headers=headers)


async def count_tokens(deck: Deck, request: Request) -> Response:
    """Count the tokens of an input, as the model's template writes it; loads the model."""
    body = request.parse(QuestionBody)
    model = deck.model(body.model)
    earlier, items, _ = conversation_so_far(deck.answers.store, body, request.owner)
    query = TokenQuery(request=question(body, earlier + items).request, count_only=True)
    requester = request.requester("openai", body.priority)
    found = await deck.tokenize(model, query, requester, keep_alive_s=body.keep_alive_s())
    return json_response(InputTokenCount(input_tokens=found.count))


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTokenCount:
    """How many tokens an input has."""

    input_tokens: int
    object: str = "response.input_tokens"


def prepared(deck: Deck, body: AnswerBody, request: Request) -> Asked:
    """Everything about a request that can be known before its model is asked. Raises DeckError."""
    model = deck.model(body.model)
    earlier, items, previous = conversation_so_far(deck.answers.store, body, request.owner)
    asked, offer = None, ToolOffer()
    body.check()
    body.keep_alive_s()
    if not body.loads_only:
        made = question(body, earlier + items)
        asked, offer = with_sampling(made.request, body), made.offer
    begun = AnswerObject.begun(
        body, public_name(model, deck.state.models), id=new_id("resp"), created_at=int(time.time())
    )
    return Asked(
        deck=deck,
        body=body,
        model=model,
        request=asked,
        events=AnswerEvents(begun, offer, encrypted=ENCRYPTED in (body.include or ())),
        inputs=[] if body.loads_only else listed(items),
        previous=previous,
        owner=request.owner,
        requester=request.requester("openai", body.priority),
        cuts=body.truncation == "auto",
    )


async def _stream(asked: Asked) -> StreamResponse:
    """The answer as server-sent events."""
    form = StreamForm(
        content_type=EVENTS,
        error=lambda error: _ended(asked, asked.events.failed(error)),
        ping=asked.events.ping,
    )
    response = await streamed(_pieces(asked), form)
    if not asked.body.is_stored:
        return response
    running = RunningAnswer(
        asked.events.answer.id,
        asked.owner,
        model_id=asked.model.id,
        snapshot=lambda: msgspec.json.encode(asked.events.answer),
        called_off=lambda: _ended(asked, asked.events.cancelled()),
    )
    asked.deck.answers.start(running, response.chunks, response.first)
    return StreamResponse(chunks=running.read(running.log.count - 1), first=response.first)


def _ended(asked: Asked, last: bytes) -> bytes:
    asked.keep()
    return last


async def _pieces(asked: Asked) -> AsyncGenerator[bytes, None]:
    """The events. The answer is kept before the client sees its end, and may name it."""
    async with _chunks(asked) as chunks:
        async for chunk in chunks:
            data = asked.events.add(chunk)
            if chunk.finish_reason is not None:
                asked.keep()
            if data:
                yield data


@asynccontextmanager
async def _chunks(asked: Asked) -> AsyncIterator[AsyncIterator[Chunk]]:
    """The pieces of the answer; leaving the block ends it. A load without a question has one."""
    keep = asked.body.keep_alive_s()
    if asked.request is None:
        async with asked.deck.using(asked.model, LoadOptions(), asked.requester, keep):
            pass
        yield _only(Chunk(finish_reason="stop", prompt_tokens=0, completion_tokens=0))
        return
    async with AsyncExitStack() as stack:
        yield await _opened(asked, asked.request, keep, stack)


async def _opened(
    asked: Asked, request: GenerateRequest, keep: float | None, stack: AsyncExitStack
) -> AsyncIterator[Chunk]:
    """The pieces of an answer, to a shorter conversation where that is needed and wanted."""
    while True:
        reply = await stack.enter_async_context(
            asking(asked.deck, asked.model, request, asked.requester, keep_alive_s=keep)
        )
        if not asked.cuts:
            return reply.chunks
        try:
            return _only(await anext(reply.chunks), reply.chunks)
        except ContextExceeded as error:
            less = shorter(request, error)
            if less is None:
                raise
            request = less
            await stack.aclose()


async def _only(
    first: Chunk, rest: AsyncIterator[Chunk] | None = None
) -> AsyncGenerator[Chunk, None]:
    """A piece, and those that follow it."""
    yield first
    if rest is not None:
        async for chunk in rest:
            yield chunk
