"""`POST /v1/chat/completions`: the next message of a conversation, complete or streamed."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from modeldeck.core.api.http.messages import Request, Response, StreamResponse, event, json_response
from modeldeck.core.api.inference import OPENAI_STREAM, asking, collected, streamed
from modeldeck.core.api.names import public_name
from modeldeck.core.api.openai.chat_schema import (
    ChatBody,
    Completion,
    CompletionChunk,
    answer_of,
    calling,
    calls_of,
    ending,
    generate_request,
    opening,
    piece,
    usage,
)
from modeldeck.core.api.openai.request_schema import DONE
from modeldeck.core.schema import Chunk, GenerateRequest, Model, Requester

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


async def chat(deck: Deck, request: Request) -> Response | StreamResponse:
    """Answer a conversation.

    A downloaded model that is not loaded is loaded first. The answer ends when its client goes
    away.
    """
    body = request.parse(ChatBody)
    asked, model = generate_request(body), deck.model(body.model)
    requester = request.requester("openai", body.priority)
    if body.stream:
        return await streamed(_events(deck, model, asked, body, requester), OPENAI_STREAM)
    return json_response(await _whole(deck, model, asked, body, requester))


def _key() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


async def _whole(
    deck: Deck, model: Model, asked: GenerateRequest, body: ChatBody, requester: Requester
) -> Completion:
    """The complete answer."""
    created = int(time.time())
    keep = body.keep_alive_s()
    async with asking(deck, model, asked, requester, keep_alive_s=keep) as reply:
        whole = await collected(reply.chunks)
    whole = replace(whole, tool_calls=calls_of(body, whole))
    return answer_of(whole, id=_key(), created=created, model=public_name(model, deck.state.models))


async def _events(
    deck: Deck, model: Model, asked: GenerateRequest, body: ChatBody, requester: Requester
) -> AsyncGenerator[bytes, None]:
    """The answer as server-sent events."""
    blank = CompletionChunk(
        id=_key(), created=int(time.time()), model=public_name(model, deck.state.models)
    )
    keep = body.keep_alive_s()
    begin = _event(opening(blank))
    async with asking(deck, model, asked, requester, keep_alive_s=keep) as reply:
        async for chunk in reply.chunks:
            data, begin = begin, b""
            if chunk.text or chunk.logprobs:
                data += _event(piece(blank, chunk))
            if chunk.finish_reason is not None:
                data += _end(blank, chunk, body)
            if data:
                yield data


def _end(blank: CompletionChunk, last: Chunk, body: ChatBody) -> bytes:
    calls = calls_of(body, last)
    data = _event(calling(blank, calls)) if calls else b""
    data += _event(ending(blank, last))
    return data + (_event(usage(blank, last)) if body.with_usage else b"") + DONE


def _event(part: CompletionChunk) -> bytes:
    return event(msgspec.json.encode(part))
