"""`POST /v1/chat/completions`: the next message of a conversation, complete or streamed."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from modeldeck.core.api.capabilities import thinking_notice
from modeldeck.core.api.http.messages import Request, Response, StreamResponse, event, json_response
from modeldeck.core.api.inference import OPENAI_STREAM, asking, collected, streamed
from modeldeck.core.api.names import public_name
from modeldeck.core.api.openai.chat_answer import (
    ChatStream,
    Completion,
    CompletionChunk,
    choice_of,
)
from modeldeck.core.api.openai.chat_schema import ChatBody, generate_request
from modeldeck.core.api.openai.field_table import CHAT, parsed
from modeldeck.core.api.openai.request_schema import DONE, Timings, Usage, answers
from modeldeck.core.schema import Chunk, GenerateRequest, Model, Requester

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


async def chat(deck: Deck, request: Request) -> Response | StreamResponse:
    """Answer a conversation.

    A downloaded model that is not loaded is loaded first. The answer ends when its client goes
    away.
    """
    body = parsed(request, ChatBody, CHAT)
    asked, model = generate_request(body), deck.model(body.model)
    requester = request.requester("openai", body.priority)
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
    keep = body.keep_alive_s()
    found: list[Chunk] = []
    for one in answers(asked, body.n):
        async with asking(deck, model, one, requester, keep_alive_s=keep) as reply:
            found.append(await collected(reply.chunks))
    return Completion(
        id=_key(),
        created=created,
        model=public_name(model, deck.state.models),
        choices=[choice_of(whole, body, index) for index, whole in enumerate(found)],
        usage=Usage.of(*found, prompts=1),
        timings=Timings.of(found[-1]),
    )


async def _events(
    deck: Deck, model: Model, asked: GenerateRequest, body: ChatBody, requester: Requester
) -> AsyncGenerator[bytes, None]:
    """The answers as server-sent events, one after the other."""
    name = public_name(model, deck.state.models)
    blank = CompletionChunk(id=_key(), created=int(time.time()), model=name)
    keep = body.keep_alive_s()
    ends: list[Chunk] = []
    for index, one in enumerate(answers(asked, body.n)):
        stream = ChatStream(blank, body, index)
        begin = _event(stream.opening())
        async with asking(deck, model, one, requester, keep_alive_s=keep) as reply:
            async for chunk in reply.chunks:
                data = begin + b"".join(_event(part) for part in stream.pieces(chunk))
                begin = b""
                if data:
                    yield data
        ends.append(chunk)
    if body.with_usage:
        usage = Usage.of(*ends, prompts=1)
        yield _event(replace(blank, usage=usage, timings=Timings.of(ends[-1])))
    yield DONE


def _event(part: CompletionChunk) -> bytes:
    return event(msgspec.json.encode(part))
