"""Generation for the compatible APIs: load the model on demand, and relay its answer.

Leaving an `asking` block ends the generation, and a load that no other request waits for.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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
from modeldeck.core.schema import Chunk, GenerateRequest, LoadOptions, Model, Requester

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck
    from modeldeck.core.service.inference.answers import ModelReply

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


@asynccontextmanager
async def asking(
    deck: Deck,
    model: Model,
    request: GenerateRequest,
    requester: Requester,
    *,
    options: LoadOptions | None = None,
    keep_alive_s: float | None = None,
) -> AsyncIterator[ModelReply]:
    """Load the model and generate; leaving the block ends both. Arguments as of `Deck.answer`."""
    async with (
        deck.answer(model, request, requester, options=options, keep_alive_s=keep_alive_s) as reply,
        aclosing(_checked(reply.chunks)) as checked,
    ):
        yield replace(reply, chunks=checked)


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
        thought="".join(piece.thought for piece in pieces),
        logprobs=tuple(token for piece in pieces for token in piece.logprobs),
        tool_calls=last.tool_calls,
        finish_reason=last.finish_reason,
        stop_text=last.stop_text,
        prompt_tokens=last.prompt_tokens,
        completion_tokens=last.completion_tokens,
        cached_tokens=last.cached_tokens,
        thought_tokens=last.thought_tokens,
        tokens_per_s=last.tokens_per_s,
        time_to_first_token_s=last.time_to_first_token_s,
    )


HEAD_S = 1.0
"""Seconds that a streamed answer may fail in with a status; then its head is sent, and a later
error is part of the stream. Node's fetch gives up after 300 s without a head."""
PING_S = 10.0
"""Seconds without a piece after which a sign of life is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamForm:
    """How a dialect streams."""

    content_type: str
    error: Callable[[DeckError], bytes]
    """An error after the head was sent."""
    ping: Callable[[], bytes | None] | None = None
    """A sign of life while nothing else can be said; None where clients take none, at all or at
    that place of the stream."""


OPENAI_STREAM = StreamForm(
    content_type=EVENTS,
    error=lambda error: event(error_response(error, "openai").body),
    ping=lambda: b": waiting\n\n",
)
OLLAMA_STREAM = StreamForm(
    content_type=NDJSON, error=lambda error: line(error_response(error, "ollama").body)
)


async def streamed(pieces: AsyncGenerator[bytes, None], form: StreamForm) -> StreamResponse:
    """A streamed response.

    Waits `HEAD_S` for the first piece: an error until then is raised, a later one is a piece.
    """
    chunks = _with_signs_of_life(pieces, form)
    try:
        first = await anext(chunks)
    except StopAsyncIteration:
        first = b""
    return StreamResponse(chunks=chunks, first=first, content_type=form.content_type)


async def _with_signs_of_life(
    pieces: AsyncGenerator[bytes, None], form: StreamForm
) -> AsyncGenerator[bytes, None]:
    """The pieces, a ping wherever none comes for `PING_S`, and an error as the last piece.

    The pieces are made in one task of their own, so that waiting for one can be given up without
    ending it. Raises the error of the first piece.
    """
    queue: asyncio.Queue[bytes | DeckError | None] = asyncio.Queue(1)
    maker = asyncio.create_task(_fill(queue, pieces), name="streaming an answer")
    begun = False
    try:
        while True:
            try:
                async with asyncio.timeout(PING_S if begun else HEAD_S):
                    item = await queue.get()
            except TimeoutError:
                if not queue.empty():
                    continue  # It came just now, and a sign of life must not overtake it.
                sign = form.ping() if form.ping is not None else None
                if begun and sign is None:
                    continue
                item = sign or b""
            if item is None:
                break
            if isinstance(item, DeckError):
                if not begun:
                    raise item
                yield form.error(item)
                break
            begun = True
            yield item
        await maker  # raises a bug
    finally:
        maker.cancel()
        await asyncio.wait({maker})


async def _fill(
    queue: asyncio.Queue[bytes | DeckError | None], pieces: AsyncGenerator[bytes, None]
) -> None:
    """Put the pieces into a queue, then None or the error that ended them."""
    end: DeckError | None = None
    try:
        async with aclosing(pieces):
            async for data in pieces:
                await queue.put(data)
    except DeckError as error:
        end = error
    except Exception:
        await queue.put(None)
        raise
    await queue.put(end)


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
