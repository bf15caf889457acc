"""Records and calculations of downloads: the journal's documents, progress, back-off. Pure.

The journal holds two kinds of record. A `DownloadJob` lists the files to download. A
`DurableRanges`, called a claim, lists the ranges of one partial file that are durable. It is
written after a sync only. It belongs to the blob and not to a job, so it outlives a cancelled job
and serves every job with the same content.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from modeldeck.core.downloads.ranges import ByteRanges
from modeldeck.core.errors import NotEnoughDisk
from modeldeck.core.schema import Download, DownloadFile, DownloadState, ErrorInfo, RepoFile

Key = tuple[str, str]
"""Repository and blob, which identify a partial file."""

ACTIVE: frozenset[DownloadState] = frozenset({"queued", "downloading", "verifying"})
"""States of a job that continues by itself, after a restart too."""

RESUMABLE: frozenset[DownloadState] = frozenset({"paused", "failed", "canceled"})
"""States of a job that can be resumed."""

SMOOTHING_S = 5.0
"""Time constant of the displayed rate in seconds: steady enough to read."""

LONGEST_WAIT_S = 30.0
"""Upper bound of the back-off in seconds."""

# The journal


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableRanges:
    """Claim: the ranges of one partial file that would survive a power loss."""

    repo: str
    blob: str
    size_bytes: int
    durable: ByteRanges = ()
    verified: bool = False
    """Whether the whole content is synced and its hash was verified."""
    validator: str = ""
    """ETag or date of the content for `If-Range`; empty where the blob's hash identifies it."""
    content: str = ""
    """SHA-256 of the whole content where none was known before the download; else empty."""

    @property
    def key(self) -> Key:
        """Repository and blob."""
        return self.repo, self.blob


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadJob:
    """A download in the journal: its files, state and queue position."""

    id: str
    model_id: str
    unique: str
    repo: str
    revision: str
    ref: str | None
    """Branch to record in the cache, whose head the commit was; None for a pinned commit."""
    files: tuple[RepoFile, ...]
    url: str | None = None
    """URL of its only file; None for the Hub."""
    peer: str | None = None
    """Unix socket to a machine that has the files; None for the Hub."""
    state: DownloadState = "queued"
    position: int = 0
    """Order in the queue, the lowest first."""
    rate_limit_bytes_per_s: int | None = None
    error: ErrorInfo | None = None
    created_at: str = ""
    finished_at: str | None = None
    seconds: float = 0.0

    @property
    def contents(self) -> tuple[RepoFile, ...]:
        """The files, without duplicates of the same content."""
        return tuple({file.blob: file for file in self.files}.values())

    @property
    def keys(self) -> frozenset[Key]:
        """Keys of its partial files."""
        return frozenset((self.repo, file.blob) for file in self.files)

    @property
    def waits_for_room(self) -> bool:
        """Whether it was paused by a full disk; it continues when there is space."""
        full = self.error is not None and self.error.code == NotEnoughDisk.code
        return self.state == "paused" and full

    @property
    def total_bytes(self) -> int:
        """Total size of all contents."""
        return sum(file.size_bytes for file in self.contents)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One document of the journal: either a job or a claim."""

    job: DownloadJob | None = None
    claim: DurableRanges | None = None

    @property
    def key(self) -> str:
        """Key of the document."""
        if self.job is not None:
            return self.job.id
        assert self.claim is not None
        return f"{self.claim.repo}/{self.claim.blob}"


# Progress


@dataclass(slots=True, kw_only=True)
class FileProgress:
    """Progress of one file. Mutable: the transfer writes it, `view` reads it."""

    received_bytes: int = 0
    hashed_bytes: int = 0
    trouble: ErrorInfo | None = None
    """A temporary failure that the transfer is retrying; None while it works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AverageRate:
    """Exponential moving average of a rate over `SMOOTHING_S`."""

    rate: float | None = None
    """Bytes per second; None before the first byte."""
    received_bytes: int = 0
    at: float = 0.0
    """Time of the last update, in seconds of a steady clock."""

    def after(self, received_bytes: int, now: float) -> AverageRate:
        """The average at `now`, with `received_bytes` in total. A decrease counts as 0."""
        elapsed = now - self.at
        if elapsed <= 0:
            return self
        sample = max(0, received_bytes - self.received_bytes) / elapsed
        if self.rate is None:
            rate = sample or None
        else:
            rate = self.rate + (sample - self.rate) * (1 - math.exp(-elapsed / SMOOTHING_S))
        return AverageRate(rate=rate, received_bytes=received_bytes, at=now)


def view(
    job: DownloadJob, progress: Mapping[str, FileProgress], rate: float | None = None
) -> Download:
    """The public record of a job. `progress` is by blob; other files have not begun."""
    done = job.state == "completed"
    files, received, hashed = [], 0, 0
    trouble: ErrorInfo | None = None
    seen: set[str] = set()
    for file in job.files:
        at = progress.get(file.blob, FileProgress())
        got = file.size_bytes if done else min(at.received_bytes, file.size_bytes)
        checked = file.size_bytes if done else min(at.hashed_bytes, file.size_bytes)
        if file.blob not in seen:
            received, hashed = received + got, hashed + checked
            trouble = trouble or at.trouble
            seen.add(file.blob)
        state = _file_state(job.state, file.size_bytes, got, checked)
        files.append(
            DownloadFile(
                path=file.path, size_bytes=file.size_bytes, received_bytes=got, state=state
            )
        )
    flowing = job.state == "downloading" and received < job.total_bytes
    rate = rate if flowing else None
    return Download(
        id=job.id,
        model_id=job.model_id,
        unique=job.unique,
        repo=job.repo,
        url=job.url,
        verifiable=all(file.verifiable for file in job.files),
        revision=job.revision,
        state="verifying" if job.state == "downloading" and not flowing else job.state,
        received_bytes=received,
        verified_bytes=hashed,
        total_bytes=job.total_bytes,
        rate_bytes_per_s=rate,
        eta_s=(job.total_bytes - received) / rate if rate and rate >= 1 else None,
        error=job.error or (trouble if job.state == "downloading" else None),
        files=tuple(files),
        created_at=job.created_at,
        finished_at=job.finished_at,
        seconds=job.seconds,
        position=job.position,
        rate_limit_bytes_per_s=job.rate_limit_bytes_per_s,
    )


def _file_state(job: DownloadState, size: int, received: int, hashed: int) -> DownloadState:
    if job != "downloading":
        return job
    if received < size:
        return "downloading" if received else "queued"
    return "completed" if hashed == size else "verifying"


# Decisions


def wait_s(failures: int, first_s: float, chance: float) -> float:
    """Seconds before the next try: doubled per failure, capped, spread by `chance` (0 to 1).

    >>> wait_s(1, 1.0, 1.0), wait_s(3, 1.0, 1.0), wait_s(3, 1.0, 0.0)
    (1.0, 4.0, 2.0)
    """
    return min(first_s * 2.0 ** min(failures - 1, 32), LONGEST_WAIT_S) * (0.5 + chance / 2)


def check_room(need: int, free: int | None, promised: int, floor: int) -> None:
    """Raise NotEnoughDisk if writing `need` bytes would leave less than `floor` free.

    Running jobs will still write `promised` bytes. No check where the free space is unknown.
    """
    if free is not None and need > (room := max(0, free - promised - floor)):
        kept = f" after {_gb(promised)} for other downloads" if promised else ""
        raise NotEnoughDisk(
            f"{_gb(need)} are needed, and there is room for {_gb(room)}{kept}:"
            f" {_gb(free)} are free, of which {_gb(floor)} stay free.",
            "Delete models that you do not need, or move the cache with HF_HUB_CACHE;"
            " downloads.disk_floor_bytes says how much stays free.",
        )


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
