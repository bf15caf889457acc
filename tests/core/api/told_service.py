"""A service with one model, which loads and answers as a test tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import Any

from modeldeck.core.concurrency import BackgroundTasks
from modeldeck.core.config.config import Config
from modeldeck.core.errors import DeckError
from modeldeck.core.schema import Chunk, GenerateRequest, Model, Requester
from modeldeck.core.service.answers.running import KeptAnswers
from modeldeck.core.service.inference.answers import ModelReply


class ToldService:
    """Stands in for the Deck behind routes that ask a model."""

    def __init__(self, *pieces: Chunk | DeckError | None, load: Any = None) -> None:
        """None stands for waiting for ever; `load` is an event to wait for, or an error."""
        self.config = Config()
        self.state = SimpleNamespace(models={})
        self.tokens = SimpleNamespace(find=lambda secret: None)
        self.answers = KeptAnswers(BackgroundTasks())
        self.models = SimpleNamespace(find=self.model)
        self.inference = SimpleNamespace(answer=self.answer)
        self.pieces = pieces
        self.load = load
        self.left: list[str] = []
        """The models whose answers ended."""

    def model(self, ref: str) -> Model:
        return Model(id="1", unique="a/b", name="b", format="gguf", source="custom")

    @asynccontextmanager
    async def answer(
        self, model: Model, request: GenerateRequest, requester: Requester, **more: Any
    ) -> AsyncIterator[ModelReply]:
        if isinstance(self.load, asyncio.Event):
            await self.load.wait()
        elif self.load is not None:
            raise self.load
        async with aclosing(self._chunks()) as chunks:
            try:
                yield ModelReply(chunks=chunks, load_s=0.0)
            finally:
                self.left.append(model.id)

    async def _chunks(self) -> AsyncGenerator[Chunk, None]:
        for piece in self.pieces:
            if isinstance(piece, DeckError):
                raise piece
            if piece is None:
                await asyncio.Event().wait()
            else:
                yield piece
