"""Records of load plans, and of the results of earlier loads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from modeldeck.core.schema.errors import ErrorInfo
from modeldeck.core.schema.memory import Forecast
from modeldeck.core.schema.models import Engine
from modeldeck.core.schema.runtime import KvCacheType, LoadOptions

OptionOrigin = Literal[
    "default",
    "catalog",
    "config",
    "model config",
    "saved",
    "last use",
    "loaded",
    "request",
    "fit",
    "model",
]
"""Who said what an option is, each outranking the one before it: modeldeck, the built-in catalog,
the configuration for all models and for this one, the defaults that were saved for this model, its
last use, by any client. A reload goes on from the options that the model is `loaded` with. A
context length may come from `fit`, chosen for what is free, or from `model`, all that it was
trained for."""

LoadVerdict = Literal["fits", "fits after unloading", "too large", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadWish:
    """The request for a load, besides the model."""

    options: LoadOptions = field(default_factory=LoadOptions)
    fresh: bool = False
    """Not as the last time: only what the configuration says, and these options."""
    make_room: bool | None = None
    """Whether idle models may be unloaded for it; None is as the configuration says."""
    force: bool = False
    """Load it anyway: nothing is refused for memory, and nothing unloaded."""
    reload: bool = False
    """Where the model is loaded: unload it, and load it anew with these options. Without, options
    that differ from those it is loaded with are refused."""
    end_answers: bool = False
    """With `reload`: end the answers that the loaded model gives now; without, they refuse it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eviction:
    """A loaded model that would be unloaded to make room."""

    instance_id: str
    unique: str
    bytes: int
    """Of system memory, what comes back."""
    gpu_bytes: int = 0
    """Of the GPU's own memory, what comes back."""
    answers: tuple[str, ...] = ()
    """For whom it has requests that this ends, one entry for each; only a reload ends any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadAlternative:
    """A way to load this model, or one like it, that has room now."""

    what: str
    """In words that can be followed: `context 4096`, `parallel 2`, `Q3_K_M`."""
    unique: str
    """The model to load."""
    context_length: int | None
    total_bytes: int
    exact: bool
    """Whether the engine planned it; else its size was put in place of this model's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What a load would do now."""

    model_id: str
    unique: str
    engine: Engine
    options: LoadOptions
    """In full, as the engine would get them."""
    origins: dict[str, OptionOrigin] = field(default_factory=dict)
    """Where each option that was set came from."""
    verdict: LoadVerdict
    forecast: Forecast | None
    """None where the load cannot be planned; `refusal` or `warnings` say why."""
    available_bytes: int | None = None
    """Memory of the machine that is free now, the reserve included."""
    reserve_bytes: int = 0
    """Of that, what is kept for the system."""
    budget_left_bytes: int | None = None
    """What the memory budget leaves; None where none is set."""
    gpu_available_bytes: int | None = None
    """Free memory of the GPUs; None where there is none, or it is the machine's own."""
    evictions: tuple[Eviction, ...] = ()
    """What is unloaded first, the first first."""
    replaces: Eviction | None = None
    """The loaded instance of this model that a reload unloads before them."""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What was decided and why, such as a context length that was chosen for what is free."""
    own_cells_bytes: int | None = None
    """How much more it would take to give each of the requests at once a context of its own
    (`cache_tokens` = `parallel` x `context_length`); None where they have that, or it is not known.
    Told by a dry run only."""
    layers: int | None = None
    """Layers of the model, which `gpu_layers` counts; None where that is not known."""
    kv_cache_types: tuple[KvCacheType, ...] = ()
    """Types of the KV cache that this model can have with this engine."""
    drafts: tuple[str, ...] = ()
    """Unique names of downloaded models that can guess ahead for this one, as far as their headers
    tell, smallest first. Told by a dry run only."""
    alternatives: tuple[LoadAlternative, ...] = ()
    """What would have room, where this has not."""
    refusal: ErrorInfo | None = None
    """Why the load is refused, with the numbers and what to try; None where it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRecord:
    """A load that was: what it was forecast to take, and what it took."""

    at: str
    """When it ended: ISO 8601, UTC."""
    unique: str
    engine: Engine
    version: str | None = None
    """Of the engine."""
    architecture: str | None = None
    context_length: int | None = None
    parallel: int = 1
    """Requests at once, at most."""
    cache_tokens: int | None = None
    """Tokens that all requests together could hold; None where they shared none."""
    used_tokens: int | None = None
    """The most of the context that a request filled: what was not used was not all taken."""
    forecast: Forecast
    peak_bytes: int
    """The most that its process held."""
    prefix_cache_bytes: int = 0
    """What its prefix cache held at the end, which is not part of the forecast."""
    used_at: str | None = None
    """When its last answer ended: ISO 8601, UTC; None where it was not noted."""
