"""Counters since the start of the core, for the Prometheus metrics."""

from __future__ import annotations

from collections import Counter

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
        self.cached_tokens = 0
        """Of `prompt_tokens`, those that were found in a cache."""
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

    def answer(self, end: str, last: Chunk | None) -> None:
        """Count an answer that ended so, and the tokens in its last piece."""
        self.answers[end] += 1
        if last is not None:
            self.prompt_tokens += last.prompt_tokens or 0
            self.cached_tokens += last.cached_tokens or 0
            self.completion_tokens += last.completion_tokens or 0
