"""Ollama's `/api/chat`, `/api/generate` and `/api/embed`; streamed answers are lines of JSON.

A request without messages or prompt loads the model, or unloads it where `keep_alive` is 0.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from modeldeck.core.api.capabilities import thinking_notice
from modeldeck.core.api.http.messages import Request, Response, StreamResponse, json_response, line
from modeldeck.core.api.inference import (
    OLLAMA_STREAM,
    asking,
    collected,
    shortened,
    streamed,
)
from modeldeck.core.api.media_input import with_media
from modeldeck.core.api.ollama import field_table, names
from modeldeck.core.api.ollama.options import with_options_inside
from modeldeck.core.api.ollama.schema import (
    EmbedBody,
    Embedded,
    EmbeddedOne,
    EmbeddingBody,
    GenerateBody,
    GenerateResponse,
    ModelRequest,
    OllamaAnswerMessage,
    OllamaChatBody,
    TextOptionsBody,
    calls_of,
    logprobs_of,
    metrics,
    moment,
    nanoseconds,
)
from modeldeck.core.api.openai.field_table import parsed, read
from modeldeck.core.api.truncation import shorter
from modeldeck.core.errors import ContextExceeded, InvalidRequest
from modeldeck.core.schema import Chunk, GenerateRequest, Model, Requester, TextVector

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck
    from modeldeck.core.service.inference.answers import ModelReply


@dataclass(frozen=True, slots=True, kw_only=True)
class TextQuestion:
    """A parsed text request and its model."""

    body: TextOptionsBody
    model: Model
    requester: Requester
    is_chat: bool

    def asking(self, deck: Deck, asked: GenerateRequest) -> AbstractAsyncContextManager[ModelReply]:
        """Load the model with the options of the request, and generate."""
        return asking(
            deck,
            self.model,
            asked,
            self.requester,
            options=self.body.given().load(),
            keep_alive_s=self.body.keep_alive_s(),
        )

    def shorter(self, asked: GenerateRequest, error: ContextExceeded) -> GenerateRequest:
        """The request without its oldest messages. Raises the error where it must stay whole."""
        less = shorter(asked, error) if self.body.truncate is not False else None
        if less is None:
            raise error
        return less

    def lines(self, chunk: Chunk, *, started: float, load_s: float) -> bytes:
        """The lines for a piece of the answer; the last piece has the counts."""
        data = b""
        if chunk.text or chunk.thought or chunk.logprobs or chunk.tool_calls:
            data = _line(self.piece(chunk))
        if chunk.finish_reason is not None:
            counts = metrics(chunk, load_s=load_s, total_s=time.monotonic() - started)
            data += _line(self.piece(Chunk(), **counts))
        return data

    def piece(self, chunk: Chunk, **more: Any) -> GenerateResponse:
        """A piece of the answer, or the complete answer."""
        thought = chunk.thought or UNSET
        if self.is_chat:
            calls = calls_of(chunk.tool_calls)
            message = OllamaAnswerMessage(content=chunk.text, thinking=thought, tool_calls=calls)
            text: dict[str, Any] = {"message": message}
        else:
            text = {"response": chunk.text, "thinking": thought}
        return GenerateResponse(
            model=self.body.wanted,
            created_at=moment(),
            logprobs=logprobs_of(chunk.logprobs),
            **text,
            **more,
        )


async def chat(deck: Deck, request: Request) -> Response | StreamResponse:
    """Answer a conversation; without messages, load or unload the model."""
    body = read(with_options_inside(request.json()), OllamaChatBody, field_table.CHAT)
    return await _answer(deck, body, body.request(), request, is_chat=True)


async def generate(deck: Deck, request: Request) -> Response | StreamResponse:
    """Answer a prompt; without one, load or unload the model."""
    body = read(with_options_inside(request.json()), GenerateBody, field_table.GENERATE)
    return await _answer(deck, body, body.request(), request, is_chat=False)


async def _answer(
    deck: Deck,
    body: TextOptionsBody,
    asked: GenerateRequest | None,
    request: Request,
    *,
    is_chat: bool,
) -> Response | StreamResponse:
    model = names.find(deck, body.wanted)
    if body.wants_thought and model.downloaded and "thinking" not in model.capabilities:
        raise InvalidRequest(f'"{body.wanted}" does not support thinking.', "Leave think out.")
    question = TextQuestion(
        body=body,
        model=model,
        requester=request.requester("ollama", body.priority),
        is_chat=is_chat,
    )
    if asked is None:
        return json_response(await _without_question(deck, question))
    asked = await with_media(deck, model, asked, question.requester)
    headers = thinking_notice(model, asked.thinking)
    if body.stream is not False:
        answer = await streamed(_lines(deck, question, asked), OLLAMA_STREAM)
        return replace(answer, headers=headers)
    return json_response(await _whole(deck, question, asked), headers=headers)


async def _without_question(deck: Deck, question: TextQuestion) -> GenerateResponse:
    """Load or unload the model, for a request without messages or prompt."""
    keep_s = question.body.keep_alive_s()
    if keep_s == 0:
        instance = deck.instances.of(question.model.id)
        if instance is not None:
            await deck.instances.unload(instance.id, question.requester.origin)
        return question.piece(Chunk(), done=True, done_reason="unload")
    options = question.body.given().load()
    async with deck.instances.using(question.model, options, question.requester, keep_s):
        return question.piece(Chunk(), done=True, done_reason="load")


async def _whole(deck: Deck, question: TextQuestion, asked: GenerateRequest) -> GenerateResponse:
    """The complete answer."""
    started = time.monotonic()
    while True:
        try:
            async with question.asking(deck, asked) as reply:
                whole = await collected(reply.chunks)
            break
        except ContextExceeded as error:
            asked = question.shorter(asked, error)
    total_s = time.monotonic() - started
    return question.piece(whole, **metrics(whole, load_s=reply.load_s, total_s=total_s))


async def _lines(
    deck: Deck, question: TextQuestion, asked: GenerateRequest
) -> AsyncGenerator[bytes, None]:
    """The answer as lines."""
    started = time.monotonic()
    ended = False
    while not ended:
        try:
            async with question.asking(deck, asked) as reply:
                async for chunk in reply.chunks:
                    ended = chunk.finish_reason is not None
                    data = question.lines(chunk, started=started, load_s=reply.load_s)
                    if data:
                        yield data
        except ContextExceeded as error:  # before the first piece
            asked = question.shorter(asked, error)


def _line(answer: GenerateResponse) -> bytes:
    return line(msgspec.json.encode(answer))


# Embeddings


async def embed(deck: Deck, request: Request) -> Response:
    """Turn texts into vectors of length 1, with an embedding model."""
    body = parsed(request, EmbedBody, field_table.EMBED)
    started = time.monotonic()
    texts = [body.input] if isinstance(body.input, str) else body.input
    truncate = body.truncate is not False
    vectors, load_s = await _vectors(deck, body, texts, request, truncate=truncate)
    return json_response(
        Embedded(
            model=body.wanted,
            embeddings=[shortened(vector.values, body.dimensions) for vector in vectors],
            total_duration=nanoseconds(time.monotonic() - started),
            load_duration=nanoseconds(load_s),
            prompt_eval_count=sum(vector.tokens for vector in vectors),
        )
    )


async def embed_one(deck: Deck, request: Request) -> Response:
    """Turn one text into a vector; the older form of `/api/embed`."""
    body = request.parse(EmbeddingBody)
    texts = [body.prompt] if body.prompt else []
    vectors, _ = await _vectors(deck, body, texts, request)
    return json_response(EmbeddedOne(embedding=list(vectors[0].values) if vectors else []))


async def _vectors(
    deck: Deck, body: ModelRequest, texts: list[str], request: Request, *, truncate: bool = True
) -> tuple[list[TextVector], float]:
    """The vectors, and the seconds until the model was loaded."""
    reply = await deck.inference.embed(
        names.find(deck, body.wanted),
        texts,
        request.requester("ollama", body.priority),
        options=body.given().load(),
        keep_alive_s=body.keep_alive_s(),
        truncate=truncate,
    )
    return reply.vectors, reply.load_s
