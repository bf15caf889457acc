"""Counters since the start of the core, for the Prometheus metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

from modeldeck.core.schema import Chunk, Download, DownloadState

ENDED: tuple[DownloadState, ...] = ("completed", "failed", "canceled")


class Counters:
    """Monotonic counters of downloads and inference."""

    def __init__(self) -> None:
        self.received_bytes = 0
        """Bytes received by downloads, without those that were on disk already."""
        self.downloads: Counter[str] = Counter()
        """Ended downloads by final state."""
        self.answers: Counter[str] = Counter()
        """Answers of models by finish reason; `abandoned` when the client went away."""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._jobs: dict[str, Download] = {}

    def download(self, job: Download) -> None:
        """Count from the newest record of a download."""
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
        """Count an answer while its chunks pass through."""
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
