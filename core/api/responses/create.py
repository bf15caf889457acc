"""`POST /v1/responses`: an answer, complete or streamed, that can be named afterwards."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
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
from modeldeck.core.api.inference import (
    StreamForm,
    asking,
    collected,
    streamed,
    with_signs_of_life,
)
from modeldeck.core.api.media_input import with_media
from modeldeck.core.api.names import public_name
from modeldeck.core.api.openai.field_table import RESPONSE, parsed
from modeldeck.core.api.responses.answer import AnswerObject, new_id
from modeldeck.core.api.responses.events import AnswerEvents
from modeldeck.core.api.responses.generate_request import (
    question,
    with_sampling,
)
from modeldeck.core.api.responses.history import (
    StoredItem,
    conversation_so_far,
    encoded,
    listed,
    size_of,
    stored,
)
from modeldeck.core.api.responses.request import ENCRYPTED, AnswerBody, ConversationBody
from modeldeck.core.api.responses.tools import ToolOffer
from modeldeck.core.api.truncation import shorter
from modeldeck.core.concurrency import report_failure
from modeldeck.core.errors import ContextExceeded, DeckError
from modeldeck.core.schema import Chunk, GenerateRequest, LoadOptions, Model, Requester, TokenQuery
from modeldeck.core.service.answers.conversations import KeptConversation
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
    inputs: list[StoredItem]
    """The items of the request itself, where they are kept."""
    previous: StoredAnswer | None
    conversation: KeptConversation | None
    held_bytes: int
    """Bytes of the whole conversation, about, with those of its images once they are read."""
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
                streamed=bool(self.body.stream or self.body.background),
            )
            self.deck.answers.store.keep(answer)

    def finish(self) -> None:
        """Store the answer, which is at its end, and add it to its conversation."""
        self.keep()
        if self.conversation is not None:
            output = self.events.answer.output
            outputs = [(item.id, msgspec.json.encode(item)) for item in output]
            self.deck.answers.conversations.add(self.conversation, [*self.inputs, *outputs])


async def create(deck: Deck, request: Request) -> Response | StreamResponse:
    """Answer a conversation, and keep the answer unless `store` is false.

    A downloaded model that is not loaded is loaded first; an empty input does nothing else. The
    answer ends when its client goes away; a stored one that is streamed goes on for a short while,
    unless the client asks the model again, so that it can come back for the rest: `GET` with
    `stream` and `starting_after`. One with `background` goes on in any case, and is told at once.
    """
    asked = await prepared(deck, parsed(request, AnswerBody, RESPONSE), request)
    if asked.request is not None:
        read = await with_media(deck, asked.model, asked.request, asked.requester)
        asked = replace(asked, request=read, held_bytes=asked.held_bytes + _media_bytes(read))
    deck.answers.cancel_abandoned(asked.owner, asked.model.id)
    thinking = asked.request.thinking if asked.request is not None else None
    headers = thinking_notice(asked.model, thinking)
    if asked.body.background:
        running = _in_background(asked)
        if not asked.body.stream:
            return Response(body=running.snapshot(), headers=headers)
        return StreamResponse(chunks=running.read(-1), headers=headers)
    if asked.body.stream:
        return replace(await _stream(asked), headers=headers)
    async with aclosing(_chunks(asked)) as chunks:
        asked.events.add(await collected(chunks))
    asked.finish()
    return json_response(asked.events.answer, headers=headers)


def _media_bytes(request: GenerateRequest) -> int:
    return sum(len(media.data) for message in request.messages for media in message.media)


async def count_tokens(deck: Deck, request: Request) -> Response:
    """Count the tokens of an input, as the model's template writes it; loads the model."""
    body = request.parse(ConversationBody)
    model = deck.models.find(body.model)
    body.check()
    items = await conversation_so_far(deck.answers, body, request.owner)
    requester = request.requester("openai", body.priority)
    asked = await with_media(deck, model, question(body, items.all).request, requester)
    query = TokenQuery(request=asked, count_only=True)
    found = await deck.inference.tokenize(model, query, requester, keep_alive_s=body.keep_alive_s())
    return json_response(InputTokenCount(input_tokens=found.count))


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTokenCount:
    """How many tokens an input has."""

    input_tokens: int
    object: str = "response.input_tokens"


async def prepared(deck: Deck, body: AnswerBody, request: Request) -> Asked:
    """Everything about a request that can be known before its model is asked. Raises DeckError."""
    model = deck.models.find(body.model)
    body.check()
    body.keep_alive_s()
    items = await conversation_so_far(deck.answers, body, request.owner)
    asked, offer = None, ToolOffer()
    if not body.loads_only:
        made = question(body, items.all)
        asked, offer = with_sampling(made.request, body), made.offer
    is_kept = body.is_stored or items.conversation is not None
    inputs = await encoded(listed(items.own)) if is_kept and not body.loads_only else []
    if items.conversation is not None:
        deck.answers.conversations.check(items.conversation, inputs)
    begun = AnswerObject.begun(
        body, public_name(model, deck.state.models), id=new_id("resp"), created_at=int(time.time())
    )
    return Asked(
        deck=deck,
        body=body,
        model=model,
        request=asked,
        events=AnswerEvents(begun, offer, encrypted=ENCRYPTED in (body.include or ())),
        inputs=inputs,
        previous=items.previous,
        conversation=items.conversation,
        held_bytes=size_of(items.all),
        owner=request.owner,
        requester=request.requester("openai", body.priority),
        cuts=body.truncation == "auto",
    )


async def _stream(asked: Asked) -> StreamResponse:
    """The answer as server-sent events."""
    response = await streamed(_pieces(asked), _form(asked, asked.events.ping))
    if not asked.body.is_stored:
        return response
    running = _running(asked)
    asked.deck.answers.start(running, response.chunks, response.first)
    return StreamResponse(chunks=running.read(running.log.count - 1), first=response.first)


def _in_background(asked: Asked) -> RunningAnswer:
    """The answer, which is made from now on and can be named at once. Raises Busy."""
    running = _running(asked)
    # Signs of life are for readers: without them they would only fill the log.
    form = _form(asked, lambda: asked.events.ping() if running.log.is_read else None)
    asked.deck.answers.start(running, with_signs_of_life(_ending(_pieces(asked)), form), b"")
    asked.keep()
    return running


async def _ending(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The events; a bug ends them as other errors do: they have no line that could break off.

    The answer would else be kept as queued, and be asked for until it is forgotten.
    """
    try:
        async with aclosing(pieces):
            async for data in pieces:
                yield data
    except DeckError:
        raise
    except Exception as error:
        report_failure("An answer in the background", error)
        raise DeckError(
            "Something went wrong inside modeldeck.", "The log of the core has it."
        ) from error


def _running(asked: Asked) -> RunningAnswer:
    return RunningAnswer(
        asked.events.answer.id,
        asked.owner,
        model_id=asked.model.id,
        snapshot=lambda: msgspec.json.encode(asked.events.answer),
        called_off=lambda: _ended(asked, asked.events.cancelled()),
        in_background=bool(asked.body.background),
        held_bytes=asked.held_bytes,
    )


def _form(asked: Asked, ping: Callable[[], bytes | None]) -> StreamForm:
    return StreamForm(
        content_type=EVENTS,
        error=lambda error: _ended(asked, asked.events.failed(error)),
        ping=ping,
    )


def _ended(asked: Asked, last: bytes) -> bytes:
    asked.keep()
    return last


async def _pieces(asked: Asked) -> AsyncGenerator[bytes, None]:
    """The events. The answer is kept before the client sees its end, and may name it."""
    if asked.body.background:
        yield asked.events.opening()
    async with aclosing(_chunks(asked)) as chunks:
        async for chunk in chunks:
            data = asked.events.add(chunk)
            if chunk.finish_reason is not None:
                asked.finish()
            if data:
                yield data


async def _chunks(asked: Asked) -> AsyncGenerator[Chunk, None]:
    """The pieces of the answer; closing it ends the answer. A load without a question has one."""
    keep = asked.body.keep_alive_s()
    if asked.request is None:
        async with asked.deck.instances.using(asked.model, LoadOptions(), asked.requester, keep):
            pass
        yield Chunk(finish_reason="stop", prompt_tokens=0, completion_tokens=0)
        return
    async with aclosing(_answered(asked, asked.request, keep)) as chunks:
        async for chunk in chunks:
            yield chunk


async def _answered(
    asked: Asked, request: GenerateRequest, keep: float | None
) -> AsyncGenerator[Chunk, None]:
    """The pieces of an answer, to a shorter conversation where that is needed and wanted.

    In the background an empty piece comes first, when the request's turn has come: until then the
    answer is queued. The stream of another one may not begin with it, as it begins with the first
    text, so that errors until then have a status.
    """
    shown = False
    while True:
        try:
            async with asking(
                asked.deck, asked.model, request, asked.requester, keep_alive_s=keep
            ) as reply:
                if asked.body.background:
                    await reply.begun()
                    yield Chunk()
                async for chunk in reply.chunks:
                    shown = True
                    yield chunk
            return
        except ContextExceeded as error:
            less = None if shown or not asked.cuts else shorter(request, error)
            if less is None:
                raise
            request = less
