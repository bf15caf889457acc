"""`POST /v1/completions`: continues a prompt (OpenAI's older API).

Source: https://platform.openai.com/docs/api-reference/completions
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from modeldeck.core.api.http.messages import Request, Response, StreamResponse, event, json_response
from modeldeck.core.api.inference import OPENAI_STREAM, streamed
from modeldeck.core.api.names import public_name
from modeldeck.core.api.openai.field_table import COMPLETION, parsed
from modeldeck.core.api.openai.shared_fields import (
    DONE,
    Alternatives,
    Ended,
    Sampling,
    Timings,
    Usage,
    answers,
    ended,
    refuse,
    stop_reason,
)
from modeldeck.core.api.side_by_side import answers_to, collected_answers
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Chunk, GenerateRequest, Model, Requester, TokenLogprob

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

MOST_PROMPTS = 64
"""Prompts in one request at most; as many are answered at once as the model
has slots."""

DEFAULT_TOKENS = 16
"""Default of `max_tokens`: OpenAI's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionBody(Sampling):
    """A request to continue a prompt."""

    prompt: str | list[Any]
    """A text or several; token numbers are refused."""
    echo: bool | None = None
    """Begin the answer with the prompt."""
    logprobs: Alternatives | None = None
    suffix: str | None = None
    """Text after the answer: a model for code fills the gap between the prompt and it."""
    best_of: int | None = None
    """Refused unless it is 1 or `n`: no answer is thrown away."""

    def requests(self) -> list[GenerateRequest]:
        """The requests to an engine, `n` for each prompt. Raises InvalidRequest."""
        refuse(
            {
                "best_of other than n": self.best_of not in (None, 1, self.n),
                "echo together with logprobs": bool(self.echo) and self.logprobs is not None,
            }
        )
        sampling = {**self.sampling(), "logprobs": self.logprobs, "suffix": self.suffix or None}
        if self.max_tokens is None:
            sampling["max_tokens"] = DEFAULT_TOKENS
        return [
            one
            for text in self.prompts()
            for one in answers(GenerateRequest(prompt=text, **sampling), self.n)
        ]

    def usage(self, ends: list[Chunk]) -> Usage:
        """The usage of all answers; several answers to one prompt count it once."""
        return Usage.of(*ends, each=self.n or 1)

    def prompts(self) -> list[str]:
        """The prompts. Raises InvalidRequest."""
        given = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if not 1 <= len(given) <= MOST_PROMPTS:
            raise InvalidRequest(f"prompt must be 1 to {MOST_PROMPTS} texts.")
        if not all(isinstance(text, str) for text in given):
            raise InvalidRequest(
                "A prompt of token numbers is not supported.", "Send the prompt as text."
            )
        return given


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLogprobs:
    """Log probabilities of the tokens of a text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]
    """Start of each token in the text, in characters."""

    @classmethod
    def of(cls, tokens: tuple[TokenLogprob, ...], offset: int = 0) -> TextLogprobs | None:
        """Convert our records, the first token at `offset`; None for none."""
        if not tokens:
            return None
        offsets = [offset]
        for token in tokens:
            offsets.append(offsets[-1] + len(token.token))
        return cls(
            tokens=[token.token for token in tokens],
            token_logprobs=[token.logprob for token in tokens],
            top_logprobs=[dict(token.top) for token in tokens],
            text_offset=offsets[:-1],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextChoice:
    """The answer to one prompt, or a piece of it."""

    text: str
    index: int = 0
    logprobs: TextLogprobs | None = None
    finish_reason: Ended | None = None
    """None in all pieces of a stream except the last."""
    stop_reason: str | UnsetType = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCompletion:
    """The answers, or a piece of one in a stream."""

    id: str
    created: int
    """Seconds since the epoch."""
    model: str
    choices: list[TextChoice] = field(default_factory=list)
    usage: Usage | None = None
    timings: Timings | None = None
    object: Literal["text_completion"] = "text_completion"


async def complete(deck: Deck, request: Request) -> Response | StreamResponse:
    """Continue a prompt, or each of several.

    The prompt is used as it is, without a chat template.
    """
    body = parsed(request, CompletionBody, COMPLETION)
    asked, model = body.requests(), deck.models.find(body.model)
    blank = TextCompletion(
        id=f"cmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=public_name(model, deck.state.models),
    )
    requester = request.requester("openai", body.priority)
    if body.stream:
        pieces = _events(deck, model, asked, body, blank, requester)
        return await streamed(pieces, OPENAI_STREAM)
    return json_response(await _whole(deck, model, asked, body, blank, requester))


async def _whole(
    deck: Deck,
    model: Model,
    asked: list[GenerateRequest],
    body: CompletionBody,
    blank: TextCompletion,
    requester: Requester,
) -> TextCompletion:
    """The complete answers."""
    keep = body.keep_alive_s()
    found = await collected_answers(deck, model, asked, requester, keep)
    choices = [
        TextChoice(
            text=((asked[index].prompt or "") if body.echo else "") + answer.text,
            index=index,
            logprobs=TextLogprobs.of(answer.logprobs),
            finish_reason=ended(answer),
            stop_reason=stop_reason(answer),
        )
        for index, answer in enumerate(found)
    ]
    timings = Timings.of(found[-1])
    return replace(blank, choices=choices, usage=body.usage(found), timings=timings)


async def _events(
    deck: Deck,
    model: Model,
    asked: list[GenerateRequest],
    body: CompletionBody,
    blank: TextCompletion,
    requester: Requester,
) -> AsyncGenerator[bytes, None]:
    """The answers as server-sent events, as they come."""
    echoes = [(one.prompt or "") if body.echo else "" for one in asked]
    offsets, ends = [0] * len(asked), [Chunk()] * len(asked)
    pieces = answers_to(deck, model, asked, requester, body.keep_alive_s())
    async with aclosing(pieces):
        async for piece in pieces:
            at, chunk = piece.index, piece.chunk
            choice = TextChoice(
                text=echoes[at] + chunk.text,
                index=at,
                logprobs=TextLogprobs.of(chunk.logprobs, offsets[at]),
                finish_reason=ended(chunk) if chunk.finish_reason else None,
                stop_reason=stop_reason(chunk),
            )
            echoes[at], ends[at] = "", chunk
            offsets[at] += len(chunk.text)
            yield _event(replace(blank, choices=[choice]))
    if body.with_usage:
        yield _event(replace(blank, usage=body.usage(ends), timings=Timings.of(ends[-1])))
    yield DONE


def _event(part: TextCompletion) -> bytes:
    return event(msgspec.json.encode(part))
