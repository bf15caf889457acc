"""Counters of what was done since the core started: for metrics, which other tools make sums of."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

from modeldeck.core.schema import Chunk, Download, DownloadState

ENDED: tuple[DownloadState, ...] = ("completed", "failed", "canceled")


class Counters:
    """They only ever rise."""

    def __init__(self) -> None:
        self.received_bytes = 0
        """By downloads; what lay on the disk already does not count."""
        self.downloads: Counter[str] = Counter()
        """Those that came to an end, by how."""
        self.answers: Counter[str] = Counter()
        """Of models, by how they ended."""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._jobs: dict[str, Download] = {}

    def download(self, job: Download) -> None:
        """Take the newest record of a job."""
        before = self._jobs.get(job.id)
        if before is not None:
            self.received_bytes += max(0, job.received_bytes - before.received_bytes)
        if job.state not in ENDED:
            self._jobs[job.id] = job
        elif self._jobs.pop(job.id, None) is not None:
            self.downloads[job.state] += 1

    @asynccontextmanager
    async def answer(
        self, work: AbstractAsyncContextManager[AsyncIterator[Chunk]]
    ) -> AsyncIterator[AsyncIterator[Chunk]]:
        """The pieces of an answer, counted while they pass."""
        async with work as chunks, aclosing(self._counted(chunks)) as counted:
            yield counted

    async def _counted(self, chunks: AsyncIterator[Chunk]) -> AsyncGenerator[Chunk, None]:
        end = "abandoned"
        try:
            async for chunk in chunks:
                if chunk.finish_reason is not None:
                    end = chunk.finish_reason
                    self.prompt_tokens += chunk.prompt_tokens or 0
                    self.completion_tokens += chunk.completion_tokens or 0
                yield chunk
        finally:
            self.answers[end] += 1
