"""Engines on real models, with everything they tell: what the tests of engines watch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.memory import probe
from modeldeck.core.runtime.engines.llama.loader import EMBEDDING_BATCH
from modeldeck.core.runtime.engines_manager import Engines
from modeldeck.core.runtime.process.engine_log import LogLevel
from modeldeck.core.schema import (
    Chunk,
    GenerateRequest,
    Instance,
    InstanceState,
    LoadOptions,
    Message,
    Model,
    model_id,
)

ANSWER = 4
"""Tokens that are generated after a prompt that fills a context."""
PATIENCE_S = 60.0
"""For what must happen, however slow the machine is: nothing waits so long unless it is broken."""


class Bench:
    """Engines with everything they tell."""

    def __init__(self, settings: Settings) -> None:
        self.changes: list[Instance] = []
        """Every record, in the order they were told."""
        self.lines: list[tuple[str, LogLevel, str]] = []
        """Every log line: source, level, text."""
        self._news = asyncio.Event()
        self.engines = Engines(
            settings=settings,
            measure=probe.process,
            on_change=self._changed,
            on_log=lambda *line: self.lines.append(line),
        )

    def _changed(self, instance: Instance) -> None:
        self.changes.append(instance)
        self._news.set()

    def states(self, instance: Instance) -> list[InstanceState]:
        """The states it went through."""
        found = [c.state for c in self.changes if c.id == instance.id]
        return [s for i, s in enumerate(found) if i == 0 or found[i - 1] is not s]

    def last(self, instance: Instance) -> Instance:
        """Its newest record, also when it has left the list."""
        return next(c for c in reversed(self.changes) if c.id == instance.id)

    async def until(self, instance: Instance, holds: Callable[[Instance], bool]) -> Instance:
        """Wait until its newest record is so."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds(self.last(instance)):
                self._news.clear()
                await self._news.wait()
        return self.last(instance)

    async def loaded(self, path: Path, options: LoadOptions | None = None) -> Instance:
        """Load a model and wait until it is ready."""
        instance = await self.engines.load(model(path), options or LoadOptions())
        async with asyncio.timeout(PATIENCE_S):
            return await self.engines.ready(instance.id)

    async def ask(self, instance: Instance, request: GenerateRequest) -> list[Chunk]:
        """All chunks of an answer."""
        async with asyncio.timeout(PATIENCE_S):
            async with self.engines.generate(instance.id, request) as chunks:
                return [chunk async for chunk in chunks]

    async def fill(self, instance: Instance) -> None:
        """Have an instance read as much as it can, and answer, or embed it."""
        length = instance.context_length or 0
        prompt = "a" * (length - ANSWER - 1)
        request = GenerateRequest(prompt=prompt, max_tokens=ANSWER, temperature=0)
        try:
            await self._read(instance, request)
        except InvalidRequest as error:
            if "embeddings" not in error.message:
                raise
            longest = min(length, instance.options.batch_size or EMBEDDING_BATCH)
            await self.engines.embed(instance.id, ["a" * (longest - 2)])
            await self.engines.embed(instance.id, ["a" * (longest // 20)] * 16)

    async def fill_at_once(self, instance: Instance, count: int) -> None:
        """Fill the cells of an instance with so many answers at once, each with an equal part."""
        cells = instance.cache_tokens or instance.context_length or 0
        letters = "abcdefghijklmnop"[:count]
        requests = [
            GenerateRequest(
                prompt=letter * (cells // count - ANSWER - 1), max_tokens=ANSWER, temperature=0
            )
            for letter in letters
        ]
        await asyncio.gather(*(self._read(instance, request) for request in requests))

    async def _read(self, instance: Instance, request: GenerateRequest) -> None:
        """Have a request answered, however long it takes: a long prompt takes minutes on MLX."""
        async with self.engines.generate(instance.id, request) as chunks:
            async for _ in chunks:
                pass

    async def answer(self, instance: Instance, text: str) -> str:
        """The text of an answer to one message, always the likeliest token."""
        return "".join(chunk.text for chunk in await self.ask(instance, about(text)))


def model(path: Path) -> Model:
    """A model at a path."""
    return Model(
        id=model_id(str(path)),
        unique=str(path),
        name=path.stem,
        format="mlx" if path.is_dir() else "gguf",
        source="custom",
        path=str(path),
        downloaded=True,
    )


def about(text: str) -> GenerateRequest:
    """A request with one message."""
    return GenerateRequest(messages=(Message(role="user", content=text),), temperature=0)


def alive(pid: int) -> bool:
    """Whether a process with this id runs (or waits for its parent to take note)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
