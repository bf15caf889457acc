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
from modeldeck.core.concurrency.deadline import Deadline
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
    """Load the model and generate; leaving the block ends both. As `Deck.inference.answer`."""
    async with (
        deck.inference.answer(
            model, request, requester, options=options, keep_alive_s=keep_alive_s
        ) as reply,
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
    """The answer as one piece."""
    return joined([chunk async for chunk in chunks])


def joined(pieces: Sequence[Chunk]) -> Chunk:
    """Pieces of an answer as one: joined text and logprobs, the rest from the last. Pure."""
    last = pieces[-1]
    return Chunk(
        text="".join(piece.text for piece in pieces),
        thought="".join(piece.thought for piece in pieces),
        logprobs=tuple(token for piece in pieces for token in piece.logprobs),
        tool_calls=last.tool_calls,
        finish_reason=last.finish_reason,
        stop_text=last.stop_text,
        looped=last.looped,
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
PIECES_AHEAD = 16
"""Pieces that are made before the first of them is sent."""


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
    chunks = with_signs_of_life(pieces, form)
    try:
        first = await anext(chunks)
    except StopAsyncIteration:
        first = b""
    return StreamResponse(chunks=chunks, first=first, content_type=form.content_type)


async def with_signs_of_life(
    pieces: AsyncGenerator[bytes, None], form: StreamForm
) -> AsyncGenerator[bytes, None]:
    """The pieces, a ping wherever none comes for `PING_S`, and an error as the last piece.

    The pieces are made in one task of their own, so that waiting for one can be given up without
    ending it; those that are made meanwhile come in one. Raises the error of the first piece.
    """
    made = _MadePieces()
    maker = asyncio.create_task(made.fill(pieces), name="streaming an answer")
    begun = False
    try:
        while True:
            if not await made.wait(PING_S if begun else HEAD_S):
                sign = form.ping() if form.ping is not None else None
                if begun and sign is None:
                    continue
                item = sign or b""
            elif made.is_over:
                break
            else:
                item = made.take()
            begun = True
            yield item
        if made.error is not None:
            if not begun:
                raise made.error
            yield form.error(made.error)
        await maker  # raises a bug
    finally:
        made.close()
        maker.cancel()
        await asyncio.wait({maker})


class _MadePieces:
    """The pieces of a stream that are made and not sent yet."""

    def __init__(self) -> None:
        self.error: DeckError | None = None
        """Why no more are made, where that is an error."""
        self._pieces: list[bytes] = []
        self._ended = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._deadline = Deadline(self._news.set)

    def close(self) -> None:
        """Cancel the timer."""
        self._deadline.close()

    async def fill(self, pieces: AsyncGenerator[bytes, None]) -> None:
        """Take all pieces, as long as there is room for them."""
        try:
            async with aclosing(pieces):
                async for data in pieces:
                    self._pieces.append(data)
                    self._news.set()
                    if len(self._pieces) >= PIECES_AHEAD:
                        self._room.clear()
                        await self._room.wait()
        except DeckError as error:
            self.error = error
        finally:
            self._ended = True
            self._news.set()

    async def wait(self, limit_s: float) -> bool:
        """Wait until there are pieces, or no more come; False where that takes too long."""
        self._deadline.set(limit_s)
        await self._news.wait()
        self._deadline.clear()
        if self._pieces or self._ended:
            return True
        self._news.clear()
        return False

    @property
    def is_over(self) -> bool:
        """Whether all are taken, and no more come."""
        return self._ended and not self._pieces

    def take(self) -> bytes:
        """The pieces that are there, joined."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._room.set()
        if not self._ended:
            self._news.clear()
        return data


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
