"""A request to an instance, from the queue to its last chunk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, Literal, TypeVar

from modeldeck.core.errors import Cancelled, DeckError
from modeldeck.core.runtime.process.messages import EngineCommand
from modeldeck.core.schema import Chunk, Requester, TextScore, TextVector, TokenizedText

T = TypeVar("T")

CHUNKS_WAITING = 64
"""Chunks buffered for a slow reader; beyond that the engine is asked to pause."""
BYTES_WAITING = 256 << 10
"""The same in bytes: with log probabilities a chunk has kilobytes."""
MOST_BYTES = 8 << 20
"""Bytes buffered for a reader that does not read, from an engine that does not pause: beyond that
the request fails."""


Need = Literal["slot", "alone", "nothing"]
"""What a request must have to be started: one of the slots of its engine, that nothing else runs,
or nothing, since the engine answers it between two turns of the others."""


def ignore(**changes: Any) -> None:
    """Take note of nothing."""


def size_of(item: object) -> int:
    """About the bytes that a part of an answer takes in memory. Pure.

    >>> size_of(Chunk(text="abc")), size_of(TextVector(values=(0.5,) * 8, tokens=1))
    (259, 512)
    """
    match item:
        case Chunk():
            calls = sum(len(call.arguments) for call in item.tool_calls)
            tokens = sum(128 * (1 + len(token.top)) for token in item.logprobs)
            return 256 + len(item.text) + len(item.thought) + calls + tokens
        case TextVector(values=values):
            return 256 + 32 * len(values)
        case TokenizedText(text=text, tokens=numbers):
            return 256 + len(text) + 128 * len(numbers)
    return 256


class RequestStream(Generic[T], AsyncIterator[T]):
    """The answer to one request, chunk by chunk, iterated by the requester.

    The iteration ends with the answer, or raises the error that the request failed with. Writing
    never waits.
    """

    needs: Need = "alone"

    def __init__(
        self,
        command: Callable[..., EngineCommand],
        requester: Requester | None = None,
        note: Callable[..., None] = ignore,
    ) -> None:
        """Make a request.

        Args:
            command: Makes the command, given as `id` the number that the dispatcher chose.
            requester: Who asks.
            note: Called with fields of `RequestInfo` that changed, by name.
        """
        self.command = command
        self.requester = requester or Requester()
        self.note = note
        self.id = 0
        """The id of its command; 0 while it waits in the queue."""
        self.arrived = 0
        """Number of its arrival in the queue."""
        self.place = 0
        """Its place in the queue that was told last: 1 is next."""
        self.again = False
        """Whether it was started before and lost its engine."""
        self.suspect = False
        """Whether it may be what its engine failed of: it runs alone until it has shown a piece."""
        self.slot: int | None = None
        """The slot that answers it, where its engine has slots and told."""
        self.pieces = 0
        """Chunks of the answer so far."""
        self.ended = False
        """Whether no chunk follows: the answer is complete, failed, or its requester has left."""
        self.on_flow: Callable[[bool], None] | None = None
        """Called with True when too much is buffered, and with False when there is room again."""
        self.on_cancel: Callable[[DeckError], None] | None = None
        """Set while it waits or runs."""
        self._begun = False
        self._paused = False
        self._items: deque[T] = deque()
        self._bytes = 0
        self._error: DeckError | None = None
        self._news = asyncio.Event()

    @property
    def needs_now(self) -> Need:
        """What it must have to be started, or has while it runs."""
        return "alone" if self.suspect else self.needs

    # Called for the engine

    def begin(self, number: int) -> None:
        """Note that it is started with this id."""
        self.id = number
        self.place = 0
        self.slot = None
        self._paused = False
        self._begun = True
        self._news.set()

    def put(self, item: T) -> bool:
        """Add a part of the answer; False when too much is buffered to go on.

        Dropped when the request has ended.
        """
        if self.ended:
            return True
        self.pieces += 1
        self._items.append(item)
        self._bytes += size_of(item)
        self._news.set()
        if self._is_above(CHUNKS_WAITING, BYTES_WAITING):
            self._set_paused(True)
        return self._bytes <= MOST_BYTES

    def finish(self, error: DeckError | None = None) -> None:
        """End the answer, with or without an error; buffered chunks are still read."""
        if not self.ended:
            self.ended, self._error = True, error
            self._news.set()

    def fail(self, error: DeckError) -> None:
        """End the answer with an error at once; chunks that were not read yet are lost."""
        if not self.ended:
            self._clear()
            self.finish(error)

    # Called for the requester

    def abandon(self) -> None:
        """Note that the requester has left: buffered chunks are dropped."""
        self.ended = True
        self._clear()
        self._news.set()

    def cancel(self, error: DeckError) -> None:
        """End the request, whether it waits or runs; the requester gets the error."""
        self.fail(error)
        if self.on_cancel is not None:
            self.on_cancel(error)

    async def begun(self) -> None:
        """Wait until it was started for the first time, or has ended."""
        while not (self._begun or self.ended):
            self._news.clear()
            await self._news.wait()

    def _clear(self) -> None:
        self._items.clear()
        self._bytes = 0

    def _is_above(self, chunks: int, size: int) -> bool:
        return len(self._items) > chunks or self._bytes > size

    def _set_paused(self, paused: bool) -> None:
        if paused is not self._paused and not self.ended:
            self._paused = paused
            if self.on_flow is not None:
                self.on_flow(paused)

    @property
    def paused(self) -> bool:
        """Whether its engine was asked to wait for the reader."""
        return self._paused and not self.ended

    def __aiter__(self) -> RequestStream[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self.ended:
                error, self._error = self._error, None
                if error is not None:
                    raise error
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        item = self._items.popleft()
        self._bytes -= size_of(item)
        if not self._is_above(CHUNKS_WAITING // 2, BYTES_WAITING // 2):
            self._set_paused(False)
        return item


class TextRequest(RequestStream[Chunk]):
    """A request for text."""

    needs = "slot"


class TokensRequest(RequestStream[TokenizedText]):
    """A request for the tokens of a text."""

    needs = "nothing"


class EmbeddingRequest(RequestStream[TextVector]):
    """A request for the embeddings of texts."""

    needs = "slot"


class RankRequest(RequestStream[TextScore]):
    """A request for how well texts answer a query."""

    needs = "slot"


def slow_reader(stream: RequestStream[Any]) -> Cancelled:
    """The error of a request whose answer is not read."""
    return Cancelled(
        f"The answer was not read: more than {MOST_BYTES >> 20} MiB of it were waiting.",
        "Read a streamed answer while it comes.",
    )
