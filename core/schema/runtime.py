"""Engines and the models they have loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from modeldeck.core.schema.errors import ErrorInfo
from modeldeck.core.schema.memory import Forecast
from modeldeck.core.schema.models import Engine, Format

KvCacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """An engine that this machine could run."""

    name: Engine
    version: str | None = None
    available: bool = False
    why_not: str | None = None
    """Why it is not available, with the command that installs it."""
    formats: tuple[Format, ...] = ()
    devices: tuple[str, ...] = ()
    overhead_bytes: int | None = None
    """Memory of its process without a model, as measured on this machine; None before that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """A LoRA adapter: a small file that changes how a model answers."""

    path: str
    """Absolute path of a GGUF adapter, or of an MLX adapter folder."""
    scale: float = 1.0
    """How strongly it counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How a model is loaded. None means: the setting in force, else the engine's own choice."""

    context_length: int | None = None
    """In tokens, 16 to 16,777,216."""
    context_fit: bool | None = None
    """Take the largest context that fits the memory that is free, up to `context_length`; without
    one, up to what the model was trained for."""
    parallel: int | None = None
    """Requests that are answered at the same time, 1 to 16. They share the KV cache, so more of
    them do not multiply it. Embedding models read up to 16 texts at a time whatever it says."""
    cache_tokens: int | None = None
    """Tokens that all requests together may hold in the KV cache; by default as many as
    `context_length`, which one request may reach. `parallel` x `context_length` gives each of them
    its own."""
    engine: Engine | None = None
    """Load it with this engine; it must read the model's format."""
    gpu_layers: int | None = None
    """Layers placed on the GPU; -1 for all."""
    kv_cache_type: KvCacheType | None = None
    flash_attention: bool | None = None
    threads: int | None = None
    batch_size: int | None = None
    mmap: bool | None = None
    mlock: bool | None = None
    embedding: bool | None = None
    """Load for embeddings instead of text."""
    loras: tuple[Lora, ...] | None = None
    """Adapters laid over the weights, in this order."""
    vision: bool | None = None
    """Whether the projector of a model that sees or hears is loaded with it; by default it is."""
    draft_model: str | None = None
    """A small model of the same vocabulary that guesses ahead: its id, unique or short name."""
    draft_tokens: int | None = None
    """How many tokens it guesses at a time."""
    idle_ttl_s: float | None = None
    """Unload after this long without a request; 0 for never."""
    pinned: bool | None = None
    """Never unloaded by itself, neither to make room nor for being idle."""


class InstanceState(StrEnum):
    """States of an instance; `core.runtime.instance.lifecycle` says what may follow what."""

    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def live(self) -> bool:
        """Whether the instance is loaded or being loaded."""
        return self in (InstanceState.STARTING, InstanceState.READY, InstanceState.BUSY)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotUse:
    """One of the places of an engine that each answer a request, and hold its conversation after.

    Which request it answers is `RequestInfo.slot`.
    """

    who: str = ""
    """Whose conversation it holds; empty for none."""
    busy: bool = False
    """Whether it answers a request."""
    tokens: int | None = None
    """Tokens that it holds after the end of an answer; None while busy, or where not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A loaded model: one engine process."""

    id: str
    model_id: str
    unique: str
    state: InstanceState
    engine: Engine
    pid: int | None = None
    context_length: int | None = None
    progress: float | None = None
    """Fraction of the load that is done; None when the engine cannot tell."""
    stage: str = ""
    """What a starting instance is doing, in a word or two."""
    forecast: Forecast | None = None
    measured_bytes: int | None = None
    """PSS (Linux) or footprint (macOS) of the process, else RSS; None before the first sample."""
    private_bytes: int | None = None
    """Memory that only this process holds: what comes back for certain when it ends."""
    mapped_bytes: int | None = None
    """Resident pages of files that the process maps, such as the weights: the system may take them
    back at any time, and several processes share them."""
    gpu_bytes: int | None = None
    """Memory of GPUs with memory of their own; None where there is none, or it is not told."""
    peak_bytes: int | None = None
    """The largest resident size since the load."""
    context_used: int | None = None
    """The most tokens of the context that a request filled; None before the first."""
    engine_bytes: int | None = None
    """What the engine itself counts as taken: weights and KV cache; None where it does not tell."""
    engine_peak_bytes: int | None = None
    """The most it counted during the last answer, temporary arrays included."""
    prefix_cache_bytes: int | None = None
    """What its prefix cache holds, after the last answer; None where it has none."""
    load_s: float | None = None
    idle_s: float | None = None
    """Time since the last request ended; None while busy or before it is ready."""
    requests: int = 0
    """Requests that are running or waiting."""
    running: int = 0
    """Requests that are being answered."""
    parallel: int = 1
    """Requests that are answered at the same time, at most."""
    slots: tuple[SlotUse, ...] = ()
    """What each slot of the engine holds, by number; empty before the first request, and for an
    engine without slots."""
    cache_tokens: int | None = None
    """Tokens that all requests together may hold in the KV cache; None where they share none."""
    media: tuple[Literal["image", "audio"], ...] = ()
    """What it takes besides text."""
    tokens_per_s: float | None = None
    """Of the last answer."""
    time_to_first_token_s: float | None = None
    """Of the last answer."""
    options: LoadOptions = field(default_factory=LoadOptions)
    started_at: str = ""
    warnings: tuple[str, ...] = ()
    """What a person should know of how it was loaded."""
    restarts: int = 0
    """How often it was started again after its process had died over a request."""
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnloadReceipt:
    """The memory that unloading freed, as measured."""

    instance_id: str
    model_id: str
    unique: str
    before_bytes: int | None
    """Memory the engine process held (as `Instance.measured_bytes`) when it was told to end."""
    after_bytes: int | None
    """Memory it still holds: 0 when the process is gone."""
    freed_bytes: int | None
    seconds: float
    process_gone: bool
    mapped_bytes: int | None = None
    """Of `before_bytes`, pages of files: they stay in the page cache until memory is wanted."""
    gpu_bytes: int | None = None
    """Of `before_bytes`, or beside it where the GPU has memory of its own: what it held there."""
    not_freed: str | None = None
    """What did not come back, and what holds it; None where everything did."""
