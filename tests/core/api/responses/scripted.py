"""A service whose one model answers as a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import Any

from modeldeck.core.concurrency import BackgroundTasks
from modeldeck.core.config.config import Config
from modeldeck.core.errors import DeckError
from modeldeck.core.schema import (
    Chunk,
    GenerateRequest,
    Instance,
    InstanceState,
    LoadOptions,
    Model,
    Requester,
    Token,
    TokenizedText,
    TokenQuery,
)
from modeldeck.core.service.answers.running import KeptAnswers
from modeldeck.core.service.inference.answers import ModelReply

Piece = Chunk | DeckError | asyncio.Event
"""A piece of an answer, an error that ends it, or what it waits for."""
Answerer = Callable[[GenerateRequest], Sequence[Piece]]

HELLO = (
    Chunk(text="Hel"),
    Chunk(text="lo"),
    Chunk(finish_reason="stop", prompt_tokens=3, completion_tokens=2),
)


class ScriptedDeck:
    """The part of a `Deck` that answers use."""

    def __init__(self, *answers: Sequence[Piece], answerer: Answerer | None = None) -> None:
        """`answers` in their order, the last one again and again; or what `answerer` gives."""
        self.config = Config()
        self.background = BackgroundTasks()
        self.answers = KeptAnswers(self.background)
        self.tokens = SimpleNamespace(find=self._token, on_revoked=lambda told: None)
        self.state = SimpleNamespace(models={})
        self.models = SimpleNamespace(find=self.model)
        self.instances = SimpleNamespace(using=self.using)
        self.inference = SimpleNamespace(answer=self.answer, tokenize=self.tokenize)
        self.asked: list[GenerateRequest] = []
        self.loads = 0
        self.left = asyncio.Event()
        """Set when an answer is left."""
        self.turn_came: asyncio.Event | None = None
        """What a request waits for before it is its turn; None for nothing."""
        self._answers = list(answers) or [HELLO]
        self._answerer = answerer

    def _token(self, secret: str) -> Token | None:
        scopes: Any = ("read", "infer")
        return Token(id=f"id-{secret}", name=secret, scopes=scopes, created_at="")

    def model(self, ref: str) -> Model:
        return Model(id="1", unique="owner/b", name="b", format="gguf", source="custom")

    @asynccontextmanager
    async def using(
        self,
        model: Model,
        options: LoadOptions,
        requester: Requester,
        keep_alive_s: float | None = None,
    ) -> AsyncIterator[Instance]:
        self.loads += 1
        yield Instance(
            id="i", model_id="1", unique="owner/b", state=InstanceState.READY, engine="llama.cpp"
        )

    @asynccontextmanager
    async def answer(
        self,
        model: Model,
        request: GenerateRequest,
        requester: Requester,
        *,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
    ) -> AsyncIterator[ModelReply]:
        self.asked.append(request)
        if self._answerer is not None:
            answer = self._answerer(request)
        else:
            answer = self._answers[min(len(self.asked), len(self._answers)) - 1]
        async with aclosing(self._chunks(answer)) as chunks:
            try:
                yield ModelReply(chunks=chunks, load_s=0, begun=self._begun)
            finally:
                self.left.set()

    async def _begun(self) -> None:
        if self.turn_came is not None:
            await self.turn_came.wait()

    async def tokenize(
        self,
        model: Model,
        query: TokenQuery,
        requester: Requester,
        *,
        keep_alive_s: float | None = None,
    ) -> TokenizedText:
        assert query.request is not None
        return TokenizedText(count=len(query.request.messages))

    async def _chunks(self, answer: Sequence[Piece]) -> AsyncGenerator[Chunk, None]:
        for piece in answer:
            if isinstance(piece, DeckError):
                raise piece
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            else:
                yield piece

    async def close(self) -> None:
        self.background.cancel()
        await self.background.close()
        assert not self.background.failures


def events_of(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream."""
    blocks = data.split(b"\n\n")[:-1]
    return [json.loads(block.partition(b"\n")[2].removeprefix(b"data: ")) for block in blocks]
