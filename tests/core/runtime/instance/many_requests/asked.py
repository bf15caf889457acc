"""A request that was sent to a scripted engine, and what came of it."""

from __future__ import annotations

import asyncio
from typing import Any

from modeldeck.core.runtime.instance.request import TextRequest
from modeldeck.core.schema import (
    Chunk,
    GenerateRequest,
    Instance,
    InstanceState,
    Requester,
)
from tests.support.bench import PATIENCE_S, Bench


class Asked:
    """A request that was sent, its chunks and its notes as they came."""

    def __init__(self, bench: Bench, instance: Instance, prompt: str, who: str = "a") -> None:
        self.chunks: list[Chunk] = []
        self.notes: list[dict[str, Any]] = []
        self.go = asyncio.Event()
        """Cleared while its reader does not read."""
        self.go.set()
        self.stream: TextRequest | None = None
        self._news = asyncio.Event()
        self._requester = Requester(who=who)
        self.task = asyncio.create_task(self._read(bench, instance, prompt), name=prompt)

    def _note(self, **changes: Any) -> None:
        self.notes.append(changes)
        self._news.set()

    async def _read(self, bench: Bench, instance: Instance, prompt: str) -> str:
        request = GenerateRequest(prompt=prompt)
        async with bench.engines.generate(
            instance.id, request, self._requester, self._note
        ) as self.stream:
            async for chunk in self.stream:
                self.chunks.append(chunk)
                self._news.set()
                await self.go.wait()
        return "".join(chunk.text for chunk in self.chunks)

    async def until(self, text: int = 0, **noted: Any) -> None:
        """Wait until that many chunks of text have come, or a note with these fields."""
        async with asyncio.timeout(PATIENCE_S):
            while not (
                len(self.chunks) >= text
                and (not noted or any(noted.items() <= note.items() for note in self.notes))
            ):
                self._news.clear()
                await self._news.wait()

    async def answer(self) -> str:
        """The whole text. Raises what it failed with."""
        return await asyncio.wait_for(asyncio.shield(self.task), PATIENCE_S)

    async def leave(self) -> None:
        """Let the client go away."""
        self.task.cancel()
        await asyncio.wait({self.task})


async def idle(bench: Bench, instance: Instance) -> Instance:
    """Wait until nothing runs or waits."""
    return await bench.until(instance, lambda i: i.state is InstanceState.READY and i.requests == 0)
