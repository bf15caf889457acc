"""A check of files in the cache. It is part of every State, unlike the records of the cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modeldeck.core.schema.errors import ErrorInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """A check of files in the cache against the hashes in their names."""

    id: str
    what: str
    """What is checked, in words."""
    model_ids: tuple[str, ...] = ()
    """Models whose files are among what is checked."""
    state: Literal["queued", "verifying", "completed", "failed", "canceled"]
    done_bytes: int = 0
    total_bytes: int = 0
    files: int = 0
    rate_bytes_per_s: float | None = None
    eta_s: float | None = None
    wrong: tuple[str, ...] = ()
    """Paths on disk whose content is not what it should be."""
    corrupt: tuple[str, ...] = ()
    """Ids of the models that have such a file."""
    unchecked: tuple[str, ...] = ()
    """Paths that have no hash to check against: plain files where the cache has links else."""
    error: ErrorInfo | None = None
    started_at: str = ""
    finished_at: str | None = None
