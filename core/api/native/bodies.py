"""Request and response bodies of the native API that are not in `modeldeck.core.schema`."""

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
    BenchProgress,
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
    Recording,
    RequestInfo,
    RequestTotals,
    Runtime,
    Settings,
    UnloadReceipt,
    Verification,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDocument:
    """The state as `/deck/state` and the first message of the feed send it."""

    seq: int
    host: Host
    models: list[Model]
    downloads: list[Download]
    instances: list[Instance]
    verifications: list[Verification]
    requests: list[RequestInfo]
    requests_today: RequestTotals
    recording: Recording | None
    bench: BenchProgress | None
    memory: Memory
    disk: Disk
    runtimes: list[Runtime]
    settings: Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBody:
    """How to load a model: `LoadOptions` with their limits, and options of the action itself.

    Options left out are as in the last load of the model, else as in the configuration.
    """

    context_length: ContextLength | None = None
    context_fit: bool | None = None
    """Use the largest context that fits, up to `context_length` or the model's maximum."""
    parallel: Annotated[int, msgspec.Meta(ge=1, le=16)] | None = None
    """Requests that are answered at the same time; they share `cache_tokens`."""
    cache_tokens: ContextLength | None = None
    """Tokens that all requests together may hold in the KV cache, at least `context_length`, which
    is the default. `parallel` x `context_length` gives each of them its own."""
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
    vision: bool | None = None
    """False to load a model that sees or hears without its projector, which takes memory."""
    draft_model: str | None = None
    draft_tokens: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    idle_ttl_s: Annotated[float, msgspec.Meta(ge=0, le=366 * 86_400)] | None = None
    """Idle time until it is unloaded; 0 for never."""
    pinned: bool | None = None
    """Never unloaded automatically, neither to make room nor when idle."""
    fresh: bool = False
    """Ignore the options of the last load; use the configuration and these options."""
    make_room: bool | None = None
    """Whether to unload idle models to make room; null for the configured default."""
    force: bool = False
    """Load even if it is not expected to fit."""
    reload: bool = False
    """If the model is loaded: unload it, and load it with these options. Otherwise options that
    differ from those it is loaded with are answered with 409 and `loaded_already`."""
    end_answers: bool = False
    """With `reload`: end the answers that the model gives now. Otherwise they are a 409, `in_use`.
    """
    wait: bool = False
    """Answer when the model is loaded, instead of when the load is accepted."""

    def wish(self) -> LoadWish:
        """The body as a `LoadWish`."""
        given = {name: getattr(self, name) for name in NAMES}
        return LoadWish(
            options=LoadOptions(**given),
            fresh=self.fresh,
            make_room=self.make_room,
            force=self.force,
            reload=self.reload,
            end_answers=self.end_answers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultsBody:
    """Load options to save as a model's defaults; null removes one, others stay as saved."""

    context_length: ContextLength | UnsetType | None = UNSET
    context_fit: bool | UnsetType | None = UNSET
    parallel: Annotated[int, msgspec.Meta(ge=1, le=16)] | UnsetType | None = UNSET
    cache_tokens: ContextLength | UnsetType | None = UNSET
    engine: Engine | UnsetType | None = UNSET
    gpu_layers: Annotated[int, msgspec.Meta(ge=-1, le=10_000)] | UnsetType | None = UNSET
    kv_cache_type: KvCacheType | UnsetType | None = UNSET
    flash_attention: bool | UnsetType | None = UNSET
    threads: Annotated[int, msgspec.Meta(ge=1, le=512)] | UnsetType | None = UNSET
    batch_size: Annotated[int, msgspec.Meta(ge=16, le=16_384)] | UnsetType | None = UNSET
    mmap: bool | UnsetType | None = UNSET
    mlock: bool | UnsetType | None = UNSET
    embedding: bool | UnsetType | None = UNSET
    vision: bool | UnsetType | None = UNSET
    loras: Annotated[tuple[Lora, ...], msgspec.Meta(max_length=16)] | UnsetType | None = UNSET
    draft_model: str | UnsetType | None = UNSET
    draft_tokens: Annotated[int, msgspec.Meta(ge=1, le=64)] | UnsetType | None = UNSET
    idle_ttl_s: Annotated[float, msgspec.Meta(ge=0, le=366 * 86_400)] | UnsetType | None = UNSET
    pinned: bool | UnsetType | None = UNSET

    def changes(self) -> dict[str, Any]:
        """The fields that are in the body. Raises InvalidRequest where there are none."""
        if not (given := _given(self)):
            raise InvalidRequest("No option is named.", "Send those to save, or null to remove.")
        return given


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadHistoryPage:
    """A page of earlier loads."""

    loads: list[LoadRecord]
    """Newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitList:
    """Fits of all listed models."""

    fits: dict[str, Fit]
    """By the model's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An accepted download or copy of a model."""

    model: Model
    download: Download | None
    """The download; None if the files are here already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadBody:
    """How to download a model."""

    force: bool = False
    """Download even if its small files show that it cannot be loaded here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelBody:
    """How to cancel a download."""

    discard: bool = False
    """Also delete the partial files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveBody:
    """New position of a download in the queue."""

    to: QueueMove


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitBody:
    """Rate limit of a download."""

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
    """Memory for all models together; None for the whole memory of the machine."""

    def changes(self) -> dict[str, Any]:
        """The fields that are in the body."""
        return _given(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceBody:
    """Changes of a running instance, each by its name in `LoadOptions`."""

    idle_ttl_s: Annotated[float, msgspec.Meta(ge=0, le=1e9)] | UnsetType = UNSET
    """0 for never; counted from now."""
    pinned: bool | UnsetType = UNSET

    def changes(self) -> dict[str, Any]:
        """The fields that are in the body."""
        return _given(self)


def _given(body: Any) -> dict[str, Any]:
    given = {f.name: getattr(body, f.name) for f in fields(body)}
    return {name: value for name, value in given.items() if value is not UNSET}


Names = Annotated[tuple[str, ...], msgspec.Meta(max_length=1000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionBody:
    """Items of the cache: `CacheSelection` with its limits."""

    models: Names = ()
    every_revision: bool = False
    revisions: Names = ()
    repositories: Names = ()
    partials: bool = False
    orphans: bool = False
    detached: bool = False
    prefixes: bool = False

    def selection(self) -> CacheSelection:
        """The selection, which may be empty."""
        return CacheSelection(**{f.name: getattr(self, f.name) for f in fields(CacheSelection)})

    def non_empty(self) -> CacheSelection:
        """The selection. Raises InvalidRequest if it is empty."""
        what = self.selection()
        if replace(what, every_revision=False) == CacheSelection():
            raise InvalidRequest(
                "Nothing is selected.", "Name models, revisions or repositories, or set partials."
            )
        return what


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteBody(SelectionBody):
    """Items to delete from the cache."""

    force: bool = False
    """Unload loaded models first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnloadReceipts:
    """Results of unloading several instances."""

    receipts: list[UnloadReceipt]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """Lines of the log."""

    lines: list[LogLine]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """Entries of the audit trail."""

    entries: list[AuditEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAnswer:
    """The core stops after this response."""

    stopping: bool = True
