"""Whether models fit: forecasts compared with free memory, the memory for a load, and the budget.

Memory for a load is the system's free memory, less the memory that loaded models have yet to take:
the system counts the pages of a mapped file as free, and buffers that only a long prompt fills are
not allocated before it comes. A loaded model is taken to need all of its forecast.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from modeldeck.core.catalog import unloadable
from modeldeck.core.concurrency import whole
from modeldeck.core.config import config
from modeldeck.core.config.load_options import ModelTraits
from modeldeck.core.errors import DeckError, EngineFailed
from modeldeck.core.memory import estimate
from modeldeck.core.runtime.engines_manager import Engines
from modeldeck.core.runtime.planning.placement import Bytes, EvictionCandidate, Store
from modeldeck.core.schema import (
    Fit,
    Forecast,
    Instance,
    InstanceState,
    LoadOptions,
    Memory,
    Model,
    Settings,
    Verdict,
)
from modeldeck.core.schema.state import SettingsChanged
from modeldeck.core.schema.units import gib
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.loading.forecast import KEPT, REFUSALS, Forecaster
from modeldeck.core.service.loading.options import OptionResolver, settle
from modeldeck.core.storage.foreign_files import in_file_thread

BUDGET_KEY = "memory_budget_bytes"
"""Name of the memory budget, in `[runtime]` of the configuration as in `Settings`."""


def check_budget(limit_bytes: int | None) -> None:
    """Raise InvalidRequest for a value that cannot be the memory budget."""
    config.changed(config.RuntimeSettings(), "runtime", {BUDGET_KEY: limit_bytes})


class MemoryBudget:
    """Changes `Settings.memory_budget_bytes`: the most memory that all models may take together."""

    def __init__(self, *, feed: Feed, config_file: Path) -> None:
        self._feed = feed
        self._config_file = config_file
        self._change_lock = asyncio.Lock()

    @property
    def limit_bytes(self) -> int | None:
        """The budget in force; None for all memory of the machine."""
        return self._feed.state.settings.memory_budget_bytes

    @whole
    async def change(self, limit_bytes: int | None) -> Settings:
        """Set the budget, or remove it with None; saved, and in force at once.

        Loaded models that take more stay. Raises InvalidRequest for a bad value, StorageFailed when
        it cannot be saved; then nothing has changed.
        """
        check_budget(limit_bytes)
        values = {BUDGET_KEY: limit_bytes}
        write = partial(config.set_values, self._config_file, "runtime", values)
        async with self._change_lock:
            await in_file_thread(write, self._config_file, custom=True)
            settings = replace(self._feed.state.settings, memory_budget_bytes=limit_bytes)
            if settings != self._feed.state.settings:
                self._feed.commit(SettingsChanged, settings=settings)
            return settings


@dataclass(frozen=True, slots=True, kw_only=True)
class _FreeMemory:
    """Memory for a new load in bytes, as just measured."""

    available: int | None
    left: int | None
    """Rest of the memory budget."""
    gpu: int | None
    """Free memory of the GPUs themselves."""


class FitChecker:
    """Compares models with the free memory, and counts the memory for a load."""

    def __init__(
        self,
        *,
        reserve_bytes: int,
        budget: MemoryBudget,
        option_resolver: OptionResolver,
        forecaster: Forecaster,
        engines: Engines,
        memory: Callable[[], Memory],
    ) -> None:
        self.reserve_bytes = reserve_bytes
        self._budget = budget
        self._option_resolver = option_resolver
        self._forecaster = forecaster
        self._engines = engines
        self._memory = memory
        self._known: OrderedDict[tuple[str, int | None], Forecast] = OrderedDict()
        """The last forecast of each model, by id and requested context length."""

    # Verdicts

    async def fit(self, model: Model, context_length: int | None) -> Fit:
        """Return whether the model fits now; `unknown`, with the reason, if that cannot be told."""
        return await self._fit(model, context_length, await self._free())

    async def fits(self, models: Sequence[Model], context_length: int | None) -> dict[str, Fit]:
        """Return whether each model fits now, by id, without asking the Hub.

        The forecast comes from an earlier plan, a header on disk, else the size. Free memory is
        measured once, and other tasks run between two models: a long list must not block them.
        """
        free, found = await self._free(), {}
        for model in models:
            found[model.id] = await self._quick_fit(model, context_length, free)
            await asyncio.sleep(0)
        return found

    async def _free(self) -> _FreeMemory:
        memory = await asyncio.to_thread(self._memory)
        return _FreeMemory(
            available=self._available(memory),
            left=self.budget_left(),
            gpu=self._gpu_available(memory),
        )

    async def _fit(self, model: Model, context_length: int | None, free: _FreeMemory) -> Fit:
        length = self._length(model, context_length)
        try:
            traits = await self._traits(model)
            if traits.unfit is not None:
                raise EngineFailed(*traits.unfit)
            resolved = self._option_resolver.resolve(
                model, LoadOptions(context_length=context_length)
            )
            options = settle(resolved, traits.context_length).options
            length = options.context_length
            forecast = await self._forecaster.forecast(model, options, traits.architecture)
        except REFUSALS as error:
            self._forecaster.note_refusal(model.id, str(error))
            return self._without(free, length, "refused", str(error))
        except DeckError as error:
            return self._without(free, length, "unknown", str(error))
        self._forecaster.note_refusal(model.id, None)
        self._known[model.id, context_length] = forecast
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return replace(
            self._judge(forecast, free),
            context_length=length,
            parallel=options.parallel,
            cache_tokens=options.cache_tokens,
        )

    def _without(self, free: _FreeMemory, length: int | None, verdict: Verdict, why: str) -> Fit:
        """Return the verdict for a model without a forecast."""
        return Fit(
            verdict=verdict,
            forecast=None,
            available_bytes=_least(free.available, free.left),
            exact=False,
            context_length=length,
            reason=why,
        )

    async def _quick_fit(self, model: Model, context_length: int | None, free: _FreeMemory) -> Fit:
        if model.downloaded:
            return await self._fit(model, context_length, free)
        if (why := self._forecaster.refused(model.id)) is not None:
            return self._without(free, self._length(model, context_length), "refused", why)
        known = self._known.get((model.id, context_length))
        fit = self._judge(known or self._forecaster.from_size(model), free)
        return replace(fit, context_length=self._length(model, context_length))

    async def _traits(self, model: Model) -> ModelTraits:
        """Return the traits in a model's header, which is read only if they are not known yet."""
        if model.downloaded and model.context_length is not None:
            return ModelTraits(
                architecture=model.architecture,
                context_length=model.context_length,
                unfit=unloadable.by_architecture(model.architecture),
            )
        return await self._forecaster.traits(model)

    def _length(self, model: Model, requested: int | None) -> int | None:
        """Return the context length of a load, as far as it is known without the header."""
        resolved = self._option_resolver.resolve(model, LoadOptions(context_length=requested))
        return settle(resolved, model.context_length).options.context_length

    def _judge(self, forecast: Forecast | None, free: _FreeMemory) -> Fit:
        """Judge a forecast by the free memory and by the rest of the memory budget."""
        left = free.left
        fit = estimate.judge(forecast, free.available, self.reserve_bytes, free.gpu)
        fit = replace(fit, available_bytes=_least(fit.available_bytes, left))
        if forecast is None or left is None or forecast.total_bytes <= left:
            return fit
        reason = f"{gib(forecast.total_bytes - left)} more than the memory budget leaves."
        return replace(fit, verdict="too large", reason=reason)

    # Memory for a load

    def available(self) -> int | None:
        """Return the free memory, less what loaded models have yet to take, in bytes."""
        return self._available(self._memory())

    def _available(self, memory: Memory) -> int | None:
        free = memory.available_bytes
        if free is None:
            return None
        live = (i for i in self._engines.instances.values() if i.state.live)
        return max(0, free - sum(yet_to_take(instance) for instance in live))

    def budget_left(self) -> int | None:
        """Return the rest of the memory budget in bytes; None without a budget."""
        limit = self._budget.limit_bytes
        if limit is None:
            return None
        live = (i for i in self._engines.instances.values() if i.state.live)
        return max(0, limit - sum(_needs(instance) for instance in live))

    def gpu_available(self) -> int | None:
        """Return the free memory of all GPUs themselves, less what starting models will take."""
        return self._gpu_available(self._memory())

    def _gpu_available(self, memory: Memory) -> int | None:
        free = [gpu.free_bytes for gpu in memory.gpus if gpu.free_bytes is not None]
        if not free:
            return None
        live = (i for i in self._engines.instances.values() if i.state.live)
        return max(0, sum(free) - sum(max(0, _gpu(i) - (i.gpu_bytes or 0)) for i in live))

    def room(self) -> Bytes:
        """Return the memory for a new load by store, without the stores that are not known."""
        free = self.available()
        counts: dict[Store, int | None] = {
            "memory": None if free is None else free - self.reserve_bytes,
            "gpu": self.gpu_available(),
            "budget": self.budget_left(),
        }
        return {store: count for store, count in counts.items() if count is not None}

    def candidates(self) -> list[EvictionCandidate]:
        """Return all live instances as candidates for eviction."""
        return [candidate(i) for i in self._engines.instances.values() if i.state.live]


def needs(forecast: Forecast) -> Bytes:
    """Return the needs of a forecast by store, without the stores that are not known.

    >>> forecast = Forecast(total_bytes=9, weights_bytes=9, kv_bytes=0, compute_bytes=0,
    ...                     overhead_bytes=0, exact=True, gpu_bytes=4)
    >>> needs(forecast)
    {'memory': 5, 'gpu': 4, 'budget': 9}
    >>> needs(replace(forecast, gpu_bytes=None, gpu_unknown="it is not told"))
    {'budget': 9}
    """
    if forecast.gpu_bytes is None or forecast.machine_bytes is None:
        return {"budget": forecast.total_bytes}
    return {
        "memory": forecast.machine_bytes,
        "gpu": forecast.gpu_bytes,
        "budget": forecast.total_bytes,
    }


def candidate(instance: Instance) -> EvictionCandidate:
    """Return an instance as a candidate for eviction, which would give back all its needs."""
    holds: dict[Store, int] = {
        "memory": _own(instance) + yet_to_take(instance),
        "gpu": max(_gpu(instance), instance.gpu_bytes or 0),
        "budget": _needs(instance),
    }
    return EvictionCandidate(
        id=instance.id,
        holds=holds,
        idle_s=instance.idle_s if instance.state is InstanceState.READY else None,
        pinned=bool(instance.options.pinned),
    )


def yet_to_take(instance: Instance) -> int:
    """Return what a live instance will take of the memory that the system calls free. Pure.

    That includes pages of mapped files, the part of its forecast that it does not hold yet, and
    what its prefix cache may still take.
    """
    mapped, forecast = instance.mapped_bytes or 0, instance.forecast
    if forecast is None or forecast.machine_bytes is None:
        return mapped
    expected = forecast.machine_bytes + forecast.prefix_cache_bytes
    return max(mapped, expected - _own(instance))


def _own(instance: Instance) -> int:
    """Return the memory that the system counts as used by an instance, without file pages."""
    return max(0, (instance.measured_bytes or 0) - (instance.mapped_bytes or 0))


def _gpu(instance: Instance) -> int:
    """Return the forecast GPU memory of an instance; 0 when it is not known."""
    return (instance.forecast.gpu_bytes or 0) if instance.forecast else 0


def _needs(instance: Instance) -> int:
    """Return what counts against the memory budget: memory held, or forecast if that is more."""
    forecast = instance.forecast
    most = forecast.total_bytes + forecast.prefix_cache_bytes if forecast else 0
    return max((instance.measured_bytes or 0) + (instance.gpu_bytes or 0), most)


def _least(*counts: int | None) -> int | None:
    return min((count for count in counts if count is not None), default=None)
