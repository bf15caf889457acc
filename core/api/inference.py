"""Generation for the compatible APIs: load the model on demand, and relay its answer.

Leaving an `asking` block ends the generation, and a load that no other request waits for.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modeldeck.core.api.http.messages import (
    EVENTS,
    NDJSON,
    StreamResponse,
    error_response,
    event,
    line,
)
from modeldeck.core.errors import (
    Ambiguous,
    Busy,
    Cancelled,
    Conflict,
    DeckError,
    EngineFailed,
    EngineMissing,
    InvalidRequest,
    NotDownloaded,
    NotEnoughMemory,
    NotFound,
)
from modeldeck.core.schema import Chunk, GenerateRequest, LoadOptions, Model

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

RAISES = (
    *(InvalidRequest, NotFound, NotDownloaded, Ambiguous, Conflict),
    *(NotEnoughMemory, EngineMissing, EngineFailed, Busy, Cancelled),
)
"""Errors that a request to a model may raise."""

LONGEST_S = 365 * 86400.0
"""Longest keep-alive in seconds; a negative one means for ever."""

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]*\.?[0-9]+)(ns|us|µs|ms|s|m|h)")


def seconds(value: float | str | None) -> float | None:
    """Seconds of a keep-alive value: a number of seconds, or a duration in Go's notation.

    Source: https://pkg.go.dev/time#ParseDuration. Negative means for ever. Raises InvalidRequest.

    >>> seconds(300), seconds("5m"), seconds("1h30m"), seconds("-1"), seconds("-1m"), seconds(None)
    (300.0, 300.0, 5400.0, -1.0, -60.0, None)
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = _duration(value.strip())
    return min(float(value), LONGEST_S)


def _duration(text: str) -> float:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    if re.fullmatch(r"[0-9]{1,12}", digits):
        return float(sign * int(digits))
    if len(text) > 40 or not re.fullmatch(f"({_DURATION.pattern})+", digits):
        raise InvalidRequest(
            f"keep_alive is not a duration: {text[:40]!r}.", 'Write seconds, or such as "5m".'
        )
    return sign * sum(float(count) * _UNITS[unit] for count, unit in _DURATION.findall(digits))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """The answer of a model."""

    chunks: AsyncIterator[Chunk]
    """Pieces of the answer; iterating raises its error, and ends after the last piece."""
    load_s: float
    """Seconds until the model was loaded and ready."""


@asynccontextmanager
async def asking(
    deck: Deck,
    model: Model,
    request: GenerateRequest,
    origin: str,
    *,
    options: LoadOptions | None = None,
    keep_alive_s: float | None = None,
) -> AsyncIterator[ModelReply]:
    """Load the model and generate. Arguments are those of `Deck.using` and `Deck.generate`."""
    started = time.monotonic()
    async with deck.using(model, options or LoadOptions(), origin, keep_alive_s) as instance:
        load_s = time.monotonic() - started
        async with (
            deck.generate(instance.id, request) as chunks,
            aclosing(_checked(chunks)) as checked,
        ):
            yield ModelReply(chunks=checked, load_s=load_s)


async def _checked(chunks: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk, None]:
    """The pieces. Raises Cancelled or EngineFailed where the answer does not finish."""
    async for chunk in chunks:
        if chunk.finish_reason == "cancelled":
            raise Cancelled("The answer was cut short: its model was unloaded.", "Ask again.")
        yield chunk
        if chunk.finish_reason is not None:
            return
    raise EngineFailed("The engine stopped in mid-answer.", "Its log tells more.")


async def collected(chunks: AsyncIterator[Chunk]) -> Chunk:
    """The answer as one piece: joined text and logprobs, the rest from its last piece."""
    pieces = [chunk async for chunk in chunks]
    last = pieces[-1]
    return Chunk(
        text="".join(piece.text for piece in pieces),
        logprobs=tuple(token for piece in pieces for token in piece.logprobs),
        tool_calls=last.tool_calls,
        finish_reason=last.finish_reason,
        prompt_tokens=last.prompt_tokens,
        completion_tokens=last.completion_tokens,
        tokens_per_s=last.tokens_per_s,
        time_to_first_token_s=last.time_to_first_token_s,
    )


async def streamed(
    pieces: AsyncGenerator[bytes, None], style: Literal["openai", "ollama"]
) -> StreamResponse:
    """A streamed response: server-sent events for OpenAI, lines for Ollama.

    Waits for the first piece: an error before it is raised, a later one is sent as a piece.
    """
    chunks = _with_errors(pieces, style)
    kind = EVENTS if style == "openai" else NDJSON
    return StreamResponse(chunks=chunks, first=await anext(chunks), content_type=kind)


async def _with_errors(
    pieces: AsyncGenerator[bytes, None], style: Literal["openai", "ollama"]
) -> AsyncGenerator[bytes, None]:
    begun = False
    try:
        async with aclosing(pieces):
            async for data in pieces:
                begun = True
                yield data
    except DeckError as error:
        if not begun:
            raise
        failure = error_response(error, style).body
        yield event(failure) if style == "openai" else line(failure)


def shortened(values: Sequence[float], dimensions: int | None) -> list[float]:
    """The first `dimensions` numbers of a vector, scaled to length 1; all of them for None.

    Raises InvalidRequest for more dimensions than the vector has.

    >>> shortened([0.6, 0.8, 0.0], 1), shortened([0.6, 0.8], None)
    ([1.0], [0.6, 0.8])
    """
    if dimensions is None:
        return list(values)
    if dimensions > len(values):
        raise InvalidRequest(f"dimensions is {dimensions}, but the model has {len(values)}.")
    length = math.hypot(*values[:dimensions]) or 1.0
    return [value / length for value in values[:dimensions]]
