"""A request to an instance, from the queue to its last chunk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from modeldeck.core.errors import DeckError
from modeldeck.core.runtime.process.messages import EngineCommand
from modeldeck.core.schema import Chunk, TextVector

T = TypeVar("T")

CHUNKS_WAITING = 64
"""Chunks that may wait for a slow reader; then the engine waits as well."""


class RequestStream(Generic[T], AsyncIterator[T]):
    """What one request is answered, in the order it comes. Iterated by the one who asked.

    It ends like an iterator, or raises the error the request came to.
    """

    def __init__(self, command: Callable[[int], EngineCommand]) -> None:
        self.command = command
        """Makes the command, given the id that the owner chose."""
        self.id = 0
        """The id of its command; 0 while it waits."""
        self.abandoned = False
        """Whether nobody wants the answer any more."""
        self._queue: asyncio.Queue[T | DeckError | None] = asyncio.Queue(CHUNKS_WAITING)
        self._over = False

    async def put(self, item: T) -> None:
        """Hand over a part of the answer, waiting for room. Dropped when nobody wants it."""
        if not self.abandoned:
            await self._queue.put(item)

    async def finish(self, error: DeckError | None = None) -> None:
        """End the answer, well or with an error, waiting for room."""
        if not self.abandoned:
            await self._queue.put(error)

    def fail(self, error: DeckError) -> None:
        """End the answer with an error now; what the reader did not take yet is lost."""
        self._clear()
        self._queue.put_nowait(error)

    def abandon(self) -> None:
        """Nobody reads any more: what waits is dropped, and whoever waits for room goes on."""
        self.abandoned = True
        self._clear()

    def _clear(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()

    def __aiter__(self) -> RequestStream[T]:
        return self

    async def __anext__(self) -> T:
        if self._over:
            raise StopAsyncIteration
        item = await self._queue.get()
        if item is None or isinstance(item, DeckError):
            self._over = True
            if item is not None:
                raise item
            raise StopAsyncIteration
        return item


class TextRequest(RequestStream[Chunk]):
    """A request for text."""


class EmbeddingRequest(RequestStream[TextVector]):
    """A request for the vector of one text."""
