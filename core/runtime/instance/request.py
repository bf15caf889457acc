"""A request to an instance, from the queue to its last chunk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from modeldeck.core.errors import DeckError
from modeldeck.core.runtime.process.messages import EngineCommand
from modeldeck.core.schema import Chunk, TextScore, TextVector

T = TypeVar("T")

CHUNKS_WAITING = 64
"""Chunks buffered for a slow reader; beyond that the engine waits."""


class RequestStream(Generic[T], AsyncIterator[T]):
    """The answer to one request, chunk by chunk, iterated by the requester.

    The iteration ends with the answer, or raises the error that the request failed with.
    """

    def __init__(self, command: Callable[[int], EngineCommand]) -> None:
        self.command = command
        """Makes the command, given the id that the supervisor chose."""
        self.id = 0
        """The id of its command; 0 while it waits in the queue."""
        self.abandoned = False
        """Whether the requester has left."""
        self._queue: asyncio.Queue[T | DeckError | None] = asyncio.Queue(CHUNKS_WAITING)
        self._exhausted = False

    async def put(self, item: T) -> None:
        """Add a part of the answer, waiting for room. Dropped when the requester has left."""
        if not self.abandoned:
            await self._queue.put(item)

    async def finish(self, error: DeckError | None = None) -> None:
        """End the answer, with or without an error, waiting for room."""
        if not self.abandoned:
            await self._queue.put(error)

    def fail(self, error: DeckError) -> None:
        """End the answer with an error at once; chunks that were not read yet are lost."""
        self._clear()
        self._queue.put_nowait(error)

    def abandon(self) -> None:
        """Note that the requester has left: buffered chunks are dropped, waiting writers go on."""
        self.abandoned = True
        self._clear()

    def _clear(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()

    def __aiter__(self) -> RequestStream[T]:
        return self

    async def __anext__(self) -> T:
        if self._exhausted:
            raise StopAsyncIteration
        item = await self._queue.get()
        if item is None or isinstance(item, DeckError):
            self._exhausted = True
            if item is not None:
                raise item
            raise StopAsyncIteration
        return item


class TextRequest(RequestStream[Chunk]):
    """A request for text."""


class EmbeddingRequest(RequestStream[TextVector]):
    """A request for the embedding of one text."""


class RankRequest(RequestStream[TextScore]):
    """A request for how well one text answers a query."""
