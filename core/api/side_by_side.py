"""Several answers to one request (`n`, several prompts), made at once where the model has slots."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldeck.core.api.inference import asking, joined
from modeldeck.core.schema import Chunk, GenerateRequest, Model, Requester

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

AHEAD = 16
"""Pieces that are made before they are sent, of all answers together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPiece:
    """A piece of one of the answers."""

    index: int
    """The place of its request."""
    chunk: Chunk


async def answers_to(
    deck: Deck,
    model: Model,
    requests: Sequence[GenerateRequest],
    requester: Requester,
    keep_alive_s: float | None,
) -> AsyncGenerator[AnswerPiece, None]:
    """The pieces of the answers to all requests, as they come.

    The first answer begins alone: it loads the model and reads the prompt, which the others find in
    the cache. Then as many are made at once as the instance answers at the same time. An error of
    one, and leaving the iteration, end all of them. Raises as `asking`.
    """
    if len(requests) == 1:
        async with asking(deck, model, requests[0], requester, keep_alive_s=keep_alive_s) as reply:
            async for chunk in reply.chunks:
                yield AnswerPiece(index=0, chunk=chunk)
        return
    making = _Making(deck, model, requests, requester, keep_alive_s)
    try:
        making.widen(1)
        left = len(requests)
        while left:
            piece = await making.pieces.get()
            if isinstance(piece, BaseException):
                raise piece
            left -= piece.chunk.finish_reason is not None
            yield piece
    finally:
        await making.end()


async def collected_answers(
    deck: Deck,
    model: Model,
    requests: Sequence[GenerateRequest],
    requester: Requester,
    keep_alive_s: float | None,
) -> list[Chunk]:
    """The whole answers, in the order of the requests. Raises as `asking`."""
    found: list[list[Chunk]] = [[] for _ in requests]
    pieces = answers_to(deck, model, requests, requester, keep_alive_s)
    async with aclosing(pieces):
        async for piece in pieces:
            found[piece.index].append(piece.chunk)
    return [joined(chunks) for chunks in found]


class _Making:
    """The tasks that make the answers."""

    def __init__(
        self,
        deck: Deck,
        model: Model,
        requests: Sequence[GenerateRequest],
        requester: Requester,
        keep_alive_s: float | None,
    ) -> None:
        self.pieces: asyncio.Queue[AnswerPiece | BaseException] = asyncio.Queue(AHEAD)
        self._deck = deck
        self._model = model
        self._requester = requester
        self._keep_alive_s = keep_alive_s
        self._waiting = deque(enumerate(requests))
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False

    def widen(self, parallel: int) -> None:
        """Make this many answers at once, while there are requests."""
        for _ in range(min(parallel - len(self._tasks), len(self._waiting))):
            self._tasks.add(asyncio.create_task(self._make(), name="one of several answers"))

    async def end(self) -> None:
        """End what is still being made."""
        self._ended = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _make(self) -> None:
        """Answer the requests that wait, one after the other."""
        try:
            while self._waiting:
                await self._answer(*self._waiting.popleft())
        except Exception as error:  # raised to the caller, a bug as well
            if not self._ended:  # else nothing takes it any more, and the queue may be full
                await self.pieces.put(error)

    async def _answer(self, index: int, request: GenerateRequest) -> None:
        async with asking(
            self._deck, self._model, request, self._requester, keep_alive_s=self._keep_alive_s
        ) as reply:
            async for chunk in reply.chunks:
                await self.pieces.put(AnswerPiece(index=index, chunk=chunk))
                self.widen(reply.parallel)
