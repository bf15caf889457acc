"""`POST /v1/chat/completions`: the next message of a conversation, complete or streamed."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from modeldeck.core.api.capabilities import thinking_notice
from modeldeck.core.api.http.messages import Request, Response, StreamResponse, event, json_response
from modeldeck.core.api.inference import OPENAI_STREAM, streamed
from modeldeck.core.api.media_input import with_media
from modeldeck.core.api.names import public_name
from modeldeck.core.api.openai.chat_answer import (
    ChatStream,
    Completion,
    CompletionChunk,
    choice_of,
)
from modeldeck.core.api.openai.chat_request import ChatBody, generate_request
from modeldeck.core.api.openai.field_table import CHAT, parsed
from modeldeck.core.api.openai.shared_fields import DONE, Timings, Usage, answers
from modeldeck.core.api.side_by_side import answers_to, collected_answers
from modeldeck.core.schema import Chunk, GenerateRequest, Model, Requester

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


async def chat(deck: Deck, request: Request) -> Response | StreamResponse:
    """Answer a conversation.

    A downloaded model that is not loaded is loaded first. The answer ends when its client goes
    away.
    """
    body = parsed(request, ChatBody, CHAT)
    model = deck.models.find(body.model)
    requester = request.requester("openai", body.priority)
    asked = await with_media(deck, model, generate_request(body), requester)
    headers = thinking_notice(model, asked.thinking)
    if body.stream:
        events = _events(deck, model, asked, body, requester)
        return replace(await streamed(events, OPENAI_STREAM), headers=headers)
    whole = await _whole(deck, model, asked, body, requester)
    return json_response(whole, headers=headers)


def _key() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


async def _whole(
    deck: Deck, model: Model, asked: GenerateRequest, body: ChatBody, requester: Requester
) -> Completion:
    """The complete answers."""
    created = int(time.time())
    several = answers(asked, body.n)
    found = await collected_answers(deck, model, several, requester, body.keep_alive_s())
    return Completion(
        id=_key(),
        created=created,
        model=public_name(model, deck.state.models),
        choices=[choice_of(whole, body, index) for index, whole in enumerate(found)],
        usage=Usage.of(*found, each=len(found)),
        timings=Timings.of(found[-1]),
    )


async def _events(
    deck: Deck, model: Model, asked: GenerateRequest, body: ChatBody, requester: Requester
) -> AsyncGenerator[bytes, None]:
    """The answers as server-sent events, as they come."""
    name = public_name(model, deck.state.models)
    blank = CompletionChunk(id=_key(), created=int(time.time()), model=name)
    several = answers(asked, body.n)
    streams = [ChatStream(blank, body, index) for index in range(len(several))]
    ends: dict[int, Chunk] = {}
    pieces = answers_to(deck, model, several, requester, body.keep_alive_s())
    async with aclosing(pieces):
        async for piece in pieces:
            stream = streams[piece.index]
            parts = stream.pieces(piece.chunk)
            if piece.index not in ends:
                parts.insert(0, stream.opening())
            ends[piece.index] = piece.chunk
            if data := b"".join(_event(part) for part in parts):
                yield data
    if body.with_usage:
        last = [ends[index] for index in sorted(ends)]
        usage = Usage.of(*last, each=len(last))
        yield _event(replace(blank, usage=usage, timings=Timings.of(last[-1])))
    yield DONE


def _event(part: CompletionChunk) -> bytes:
    return event(msgspec.json.encode(part))
