"""What the load form knows: the models, the machine, and the newest plan of the core. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from modeldeck.core.schema import Engine, Instance, KvCacheType, LoadOptions, LoadPlan, Model
from modeldeck.core.schema.state import State
from modeldeck.tui.text import format as fmt

NO_MEMORY = "not_enough_memory"
"""Code of the refusal of a load that does not fit."""

KV_TYPES: tuple[KvCacheType, ...] = ("f32", "bf16", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
"""Types of a KV cache, the largest first."""
DEFAULT_KV: KvCacheType = "f16"
"""What both engines take where nothing is said."""
MOST_CONTEXT = 1 << 20
"""Longest context of a model whose trained one is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTarget:
    """A model that the form is for."""

    ref: str
    """Its id, or the unique name of one that is not listed."""
    key: str
    """Its id, listed or not."""
    title: str
    """Its name with the quantization."""
    name: str
    """Its name."""
    model: Model | None = None
    """Its record; None where it is not listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasts:
    """What the core answered; each is None until it is known."""

    plans: tuple[LoadPlan | None, ...] = ()
    """One for each model, None where there is none; empty before the first answer."""
    problems: tuple[str, ...] = ()
    """Of each model, why there is no plan; empty where there is one."""
    largest: int | None = None
    """The longest context that fits, with the other options as they are."""
    kv_saved_bytes: int | None = None
    """How much less the KV cache takes than one of type f16."""
    roomy: LoadPlan | None = None
    """A plan that unloads idle models, where the load does not fit without."""
    failure: str = ""
    """Why there is no new plan for any of them, as a sentence; empty where there is."""
    faulty: str = ""
    """Name of the option that the core refuses; empty for none."""
    stale: bool = False
    """Whether another answer is awaited."""

    @property
    def plan(self) -> LoadPlan | None:
        """The first plan there is."""
        return next((plan for plan in self.plans if plan is not None), None)

    @property
    def over(self) -> bool:
        """Whether the load is refused for memory."""
        refused = (plan.refusal for plan in self.plans if plan is not None)
        return any(error is not None and error.code == NO_MEMORY for error in refused)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormFacts:
    """All that is drawn and decided from, besides what the user chose."""

    targets: tuple[LoadTarget, ...]
    state: State
    forecasts: Forecasts = Forecasts()

    @property
    def single(self) -> bool:
        """Whether the form is for one model."""
        return len(self.targets) == 1

    @property
    def model(self) -> Model | None:
        """The record of the first model."""
        return self.targets[0].model

    @property
    def plan(self) -> LoadPlan | None:
        """The newest plan of the first model."""
        return self.forecasts.plan

    @property
    def loaded(self) -> Instance | None:
        """The instance of the model, where it is loaded or being loaded."""
        if not self.single:
            return None
        live = (i for i in self.state.instances.values() if i.state.live)
        return next((i for i in live if i.model_id == self.targets[0].key), None)

    @property
    def engine(self) -> Engine:
        """The engine that would load it."""
        if self.plan is not None:
            return self.plan.engine
        is_mlx = self.model is not None and self.model.format == "mlx"
        return "mlx" if is_mlx else "llama.cpp"

    @property
    def trained(self) -> int:
        """Longest context that can be chosen: the shortest that a model was trained for."""
        known = [t.model.context_length for t in self.targets if t.model is not None]
        return min((length for length in known if length), default=MOST_CONTEXT)

    @property
    def is_trained_known(self) -> bool:
        """Whether `trained` is what the models were trained for."""
        return any(t.model is not None and t.model.context_length for t in self.targets)

    @property
    def has_gpu(self) -> bool:
        """Whether the engine has more than the processor to run on."""
        return any(
            device != "CPU"
            for runtime in self.state.runtimes
            if runtime.name == self.engine
            for device in runtime.devices
        )

    @property
    def is_embedding(self) -> bool:
        """Whether all of them make vectors, which are read one text at a time."""
        return all(t.model is not None and "embedding" in t.model.usage for t in self.targets)

    @property
    def kv_types(self) -> tuple[KvCacheType, ...]:
        """Types of KV cache that all of them can have, the largest first."""
        known = [plan.kv_cache_types for plan in self.forecasts.plans if plan is not None]
        return tuple(kind for kind in KV_TYPES if all(kind in kinds for kinds in known if kinds))

    @property
    def version(self) -> str:
        """The engine with its version."""
        known = (r.version for r in self.state.runtimes if r.name == self.engine)
        return f"{self.engine} {next(known, None) or ''}".strip()

    @property
    def title(self) -> str:
        """The models, for a heading."""
        if self.single:
            return fmt.clean(self.targets[0].title)
        return fmt.number(len(self.targets), "model")


def effective(facts: FormFacts, chosen: Mapping[str, Any]) -> LoadOptions:
    """The options as they would be: what the user chose over what the core resolved.

    Until the first answer they are those that a loaded model has.
    """
    base = LoadOptions()
    if facts.plan is not None:
        base = facts.plan.options
    elif facts.loaded is not None:
        base = facts.loaded.options
    return replace(base, **chosen)
