"""Bodies and answers of the native API that are not records of `modeldeck.core.schema`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from modeldeck.core.config.config import ContextLength, Count
from modeldeck.core.config.load_options import NAMES
from modeldeck.core.config.schedule import Rate, Window
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import (
    AuditEntry,
    CacheSelection,
    Disk,
    Download,
    Engine,
    Fit,
    Host,
    Instance,
    KvCacheType,
    LoadOptions,
    LoadRecord,
    LoadWish,
    LogLine,
    Lora,
    Memory,
    Model,
    QueueMove,
    Runtime,
    Settings,
    UnloadReceipt,
    Verification,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDocument:
    """The state, as `/deck/state` and the first frame of the feed tell it."""

    seq: int
    host: Host
    models: list[Model]
    downloads: list[Download]
    instances: list[Instance]
    verifications: list[Verification]
    memory: Memory
    disk: Disk
    runtimes: list[Runtime]
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBody:
    """How to load a model: `LoadOptions` with their limits, and some words on the action itself.

    What is left out is as the last time, else as the configuration has it.
    """

    context_length: ContextLength | None = None
    context_fit: bool | None = None
    """Take the largest context that fits, up to `context_length`, else to what the model knows."""
    engine: Engine | None = None
    gpu_layers: Annotated[int, msgspec.Meta(ge=-1, le=10_000)] | None = None
    kv_cache_type: KvCacheType | None = None
    flash_attention: bool | None = None
    threads: Annotated[int, msgspec.Meta(ge=1, le=512)] | None = None
    batch_size: Annotated[int, msgspec.Meta(ge=16, le=16_384)] | None = None
    mmap: bool | None = None
    mlock: bool | None = None
    embedding: bool | None = None
    loras: Annotated[tuple[Lora, ...], msgspec.Meta(max_length=16)] | None = None
    draft_model: str | None = None
    draft_tokens: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    idle_ttl_s: Annotated[float, msgspec.Meta(ge=0, le=366 * 86_400)] | None = None
    """0 keeps it until it is unloaded."""
    pinned: bool | None = None
    """Never unloaded by itself, neither to make room nor for being idle."""
    fresh: bool = False
    """Not as the last time: only what the configuration says, and these options."""
    make_room: bool | None = None
    """Unload idle models where there is no room, or do not; null is as the configuration says."""
    force: bool = False
    """Load even where it is not expected to fit."""
    wait: bool = False
    """Answer when it is ready, instead of when it is accepted."""

    def wish(self) -> LoadWish:
        """What is asked of the load."""
        given = {name: getattr(self, name) for name in NAMES}
        return LoadWish(
            options=LoadOptions(**given),
            fresh=self.fresh,
            make_room=self.make_room,
            force=self.force,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadHistoryPage:
    """Earlier loads."""

    loads: list[LoadRecord]
    """Newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitList:
    """Verdicts of every listed model."""

    fits: dict[str, Fit]
    """By the model's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A model whose files were asked for."""

    model: Model
    download: Download | None
    """The job; None when the files are here already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadBody:
    """How to fetch a model."""

    force: bool = False
    """Also when its small files tell that it could not be loaded here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelBody:
    """How to cancel a download."""

    discard: bool = False
    """Also delete what arrived so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveBody:
    """Where a download goes in the queue."""

    to: QueueMove


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitBody:
    """How fast a download may be."""

    bytes_per_s: Count | None
    """None for no limit of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsBody:
    """Settings to change, each by its name in `[downloads]` or `[runtime]` of the configuration."""

    jobs_at_once: Annotated[int, msgspec.Meta(ge=1, le=100)] | UnsetType = UNSET
    rate_limit_bytes_per_s: Count | UnsetType | None = UNSET
    """None for no limit."""
    schedule: dict[Window, Rate] | UnsetType = UNSET
    """The whole schedule; empty for none."""
    give_way: bool | UnsetType = UNSET
    memory_budget_bytes: Count | UnsetType | None = UNSET
    """What models may take together; None for what the machine has."""

    def changes(self) -> dict[str, Any]:
        """What the body says, and nothing else."""
        return _said(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceBody:
    """What to change of an instance that runs, each by its name in `LoadOptions`."""

    idle_ttl_s: Annotated[float, msgspec.Meta(ge=0, le=1e9)] | UnsetType = UNSET
    """0 for never; counted from now."""
    pinned: bool | UnsetType = UNSET

    def changes(self) -> dict[str, Any]:
        """What the body says, and nothing else."""
        return _said(self)


def _said(body: Any) -> dict[str, Any]:
    given = {f.name: getattr(body, f.name) for f in fields(body)}
    return {name: value for name, value in given.items() if value is not UNSET}


Names = Annotated[tuple[str, ...], msgspec.Meta(max_length=1000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionBody:
    """Things in the cache: `CacheSelection` with its limits."""

    models: Names = ()
    every_revision: bool = False
    revisions: Names = ()
    repositories: Names = ()
    partials: bool = False
    orphans: bool = False
    detached: bool = False

    def selection(self) -> CacheSelection:
        """What it names, perhaps nothing."""
        return CacheSelection(**{f.name: getattr(self, f.name) for f in fields(CacheSelection)})

    def something(self) -> CacheSelection:
        """What it names. Raises InvalidRequest for nothing."""
        what = self.selection()
        if replace(what, every_revision=False) == CacheSelection():
            raise InvalidRequest(
                "Nothing is named.", "Name models, revisions or repositories, or say partials."
            )
        return what


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteBody(SelectionBody):
    """What is to go."""

    force: bool = False
    """Unload them first, where they are loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnloadReceipts:
    """What unloading several instances gave back."""

    receipts: list[UnloadReceipt]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """A part of the log."""

    lines: list[LogLine]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """A part of the audit trail."""

    entries: list[AuditEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAnswer:
    """The core ends when this is answered."""

    stopping: bool = True
