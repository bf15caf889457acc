"""Ollama's `/api/chat`, `/api/generate` and `/api/embed`; streamed answers are lines of JSON.

A request without messages or prompt loads the model, or unloads it where `keep_alive` is 0.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from modeldeck.core.api.http.messages import Request, Response, StreamResponse, json_response, line
from modeldeck.core.api.inference import OLLAMA_STREAM, asking, collected, shortened, streamed
from modeldeck.core.api.ollama import names
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
from modeldeck.core.schema import Chunk, GenerateRequest, Model, Requester, TextVector

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck


@dataclass(frozen=True, slots=True, kw_only=True)
class TextQuestion:
    """A parsed text request and its model."""

    body: TextOptionsBody
    model: Model
    requester: Requester
    is_chat: bool

    def piece(self, chunk: Chunk, **more: Any) -> GenerateResponse:
        """A piece of the answer, or the complete answer."""
        message = OllamaAnswerMessage(content=chunk.text, tool_calls=calls_of(chunk.tool_calls))
        text = {"message": message} if self.is_chat else {"response": chunk.text}
        return GenerateResponse(
            model=self.body.wanted,
            created_at=moment(),
            logprobs=logprobs_of(chunk.logprobs),
            **text,
            **more,
        )


async def chat(deck: Deck, request: Request) -> Response | StreamResponse:
    """Answer a conversation; without messages, load or unload the model."""
    body = request.parse(OllamaChatBody)
    return await _answer(deck, body, body.request(), request, is_chat=True)


async def generate(deck: Deck, request: Request) -> Response | StreamResponse:
    """Answer a prompt; without one, load or unload the model."""
    body = request.parse(GenerateBody)
    return await _answer(deck, body, body.request(), request, is_chat=False)


async def _answer(
    deck: Deck,
    body: TextOptionsBody,
    asked: GenerateRequest | None,
    request: Request,
    *,
    is_chat: bool,
) -> Response | StreamResponse:
    question = TextQuestion(
        body=body,
        model=names.find(deck, body.wanted),
        requester=request.requester("ollama", body.priority),
        is_chat=is_chat,
    )
    if asked is None:
        return json_response(await _without_question(deck, question))
    if body.stream is not False:
        return await streamed(_lines(deck, question, asked), OLLAMA_STREAM)
    return json_response(await _whole(deck, question, asked))


async def _without_question(deck: Deck, question: TextQuestion) -> GenerateResponse:
    """Load or unload the model, for a request without messages or prompt."""
    keep_s = question.body.keep_alive_s()
    if keep_s == 0:
        instance = deck.instance_of(question.model.id)
        if instance is not None:
            await deck.unload(instance.id, question.requester.origin)
        return question.piece(Chunk(), done=True, done_reason="unload")
    options = question.body.given().load()
    async with deck.using(question.model, options, question.requester, keep_s):
        return question.piece(Chunk(), done=True, done_reason="load")


async def _whole(deck: Deck, question: TextQuestion, asked: GenerateRequest) -> GenerateResponse:
    """The complete answer."""
    started = time.monotonic()
    async with asking(
        deck,
        question.model,
        asked,
        question.requester,
        options=question.body.given().load(),
        keep_alive_s=question.body.keep_alive_s(),
    ) as reply:
        whole = await collected(reply.chunks)
    total_s = time.monotonic() - started
    return question.piece(whole, **metrics(whole, load_s=reply.load_s, total_s=total_s))


async def _lines(
    deck: Deck, question: TextQuestion, asked: GenerateRequest
) -> AsyncGenerator[bytes, None]:
    """The answer as lines."""
    started = time.monotonic()
    async with asking(
        deck,
        question.model,
        asked,
        question.requester,
        options=question.body.given().load(),
        keep_alive_s=question.body.keep_alive_s(),
    ) as reply:
        async for chunk in reply.chunks:
            data = b""
            if chunk.text or chunk.logprobs or chunk.tool_calls:
                data = _line(question.piece(chunk))
            if chunk.finish_reason is not None:
                total_s = time.monotonic() - started
                counts = metrics(chunk, load_s=reply.load_s, total_s=total_s)
                data += _line(question.piece(Chunk(), **counts))
            if data:
                yield data


def _line(answer: GenerateResponse) -> bytes:
    return line(msgspec.json.encode(answer))


# Embeddings


async def embed(deck: Deck, request: Request) -> Response:
    """Turn texts into vectors of length 1, with an embedding model."""
    body = request.parse(EmbedBody)
    started = time.monotonic()
    texts = [body.input] if isinstance(body.input, str) else body.input
    vectors, load_s = await _vectors(deck, body, texts, request)
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
    deck: Deck, body: ModelRequest, texts: list[str], request: Request
) -> tuple[list[TextVector], float]:
    """The vectors, and the seconds until the model was loaded."""
    reply = await deck.embed(
        names.find(deck, body.wanted),
        texts,
        request.requester("ollama", body.priority),
        options=body.given().load(),
        keep_alive_s=body.keep_alive_s(),
    )
    return reply.vectors, reply.load_s
