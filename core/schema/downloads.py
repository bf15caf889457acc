"""Downloads: the jobs of the queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modeldeck.core.schema.errors import ErrorInfo

DownloadState = Literal[
    "queued", "downloading", "verifying", "paused", "completed", "failed", "canceled"
]


QueueMove = Literal["up", "down", "first", "last"]
"""Where a job of the queue goes: past its neighbour, or to an end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadFile:
    """One file of a download."""

    path: str
    size_bytes: int
    received_bytes: int = 0
    """Bytes that arrived, durable or not."""
    state: DownloadState = "queued"


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A job that fetches the files of one model."""

    id: str
    model_id: str
    unique: str
    """The model's unique name, so that a job is readable without the catalog."""
    repo: str
    revision: str
    """The commit that is fetched; a job never changes it."""
    url: str | None = None
    """Where its file comes from; None for the Hub."""
    verifiable: bool = True
    """Whether its hashes are known beforehand. False for a file from a URL whose server gives none:
    its structure alone is checked."""
    state: DownloadState
    received_bytes: int = 0
    """Bytes that arrived, over all files."""
    verified_bytes: int = 0
    """Bytes that were read back from disk and hashed; never more than arrived."""
    total_bytes: int = 0
    rate_bytes_per_s: float | None = None
    """Smoothed; None while nothing flows."""
    eta_s: float | None = None
    error: ErrorInfo | None = None
    files: tuple[DownloadFile, ...] = ()
    created_at: str = ""
    finished_at: str | None = None
    seconds: float = 0.0
    """Time spent transferring and verifying, over all runs of the job."""
    position: int = 0
    """Order in the queue, the smallest first: the first ones run, as many as may at once."""
    rate_limit_bytes_per_s: int | None = None
    """Rate limit of this job, beside the limit for all; None for no limit of its own."""
