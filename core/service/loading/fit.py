"""Whether models fit: forecasts compared with free memory, and the memory for a load.

Memory for a load is the system's free memory, less the memory that loaded models have yet to take:
the system counts the pages of a mapped file as free, and buffers that only a long prompt fills are
not allocated before it comes. A loaded model is taken to need all of its forecast.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from modeldeck.core.catalog import cannot_load
from modeldeck.core.config.load_options import ModelTraits
from modeldeck.core.errors import DeckError, EngineFailed
from modeldeck.core.memory import estimate
from modeldeck.core.runtime.engines_manager import Engines
from modeldeck.core.runtime.planning.eviction import (
    Bytes,
    EvictionCandidate,
    Store,
    in_caches,
)
from modeldeck.core.schema import (
    ErrorInfo,
    Fit,
    Forecast,
    Instance,
    LoadOptions,
    Memory,
    Model,
    Verdict,
)
from modeldeck.core.schema.errors import to_info
from modeldeck.core.schema.units import gib
from modeldeck.core.service.loading.forecast import KEPT, REFUSALS, Forecaster
from modeldeck.core.service.loading.instance_memory import (
    candidate,
    gpu_forecast,
    needed_bytes,
    yet_to_take,
)
from modeldeck.core.service.loading.memory_budget import MemoryBudget
from modeldeck.core.service.loading.options import OptionResolver, settle


@dataclass(frozen=True, slots=True, kw_only=True)
class _FreeMemory:
    """Memory for a new load in bytes, as just measured.

    What prefix caches can give back counts as free: a load shrinks them before it is refused.
    """

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

        None is judged at a longer context than it was trained for. The forecast comes from an
        earlier plan, a header on disk, else the size. Free memory is measured once, and other tasks
        run between two models: a long list must not block them.
        """
        free, found = await self._free(), {}
        for model in models:
            length = _within(model.context_length, context_length)
            found[model.id] = await self._quick_fit(model, length, free)
            await asyncio.sleep(0)
        return found

    async def _free(self) -> _FreeMemory:
        memory = await asyncio.to_thread(self._memory)
        candidates = self.candidates()
        return _FreeMemory(
            available=_not_below_zero(self._available(memory, in_caches(candidates, "memory"))),
            left=_not_below_zero(self._budget_left(in_caches(candidates, "budget"))),
            gpu=_not_below_zero(self._gpu_available(memory)),
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
            return self._without(free, length, "refused", str(error), to_info(error))
        except DeckError as error:
            return self._without(free, length, "unknown", str(error), to_info(error))
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

    def _without(
        self,
        free: _FreeMemory,
        length: int | None,
        verdict: Verdict,
        why: str,
        error: ErrorInfo | None = None,
    ) -> Fit:
        """Return the verdict for a model without a forecast."""
        return Fit(
            verdict=verdict,
            forecast=None,
            available_bytes=_least(free.available, free.left),
            exact=False,
            context_length=length,
            reason=why,
            error=error,
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
                unfit=cannot_load.by_architecture(model.architecture),
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
        over_budget = fit.verdict != "too large"
        return replace(fit, verdict="too large", reason=reason, over_budget=over_budget)

    # Memory for a load

    def available(self) -> int | None:
        """Return the free memory, less what loaded models have yet to take, in bytes."""
        return _not_below_zero(self._available(self._memory()))

    def _available(self, memory: Memory, back: int = 0) -> int | None:
        """As `available`, `back` added; below 0 where loaded models will take more than is free.

        What makes room for a load has to make up for that first.
        """
        free = memory.available_bytes
        if free is None:
            return None
        live = (i for i in self._engines.instances.values() if i.state.live)
        return free + back - sum(yet_to_take(instance) for instance in live)

    def budget_left(self) -> int | None:
        """Return the rest of the memory budget in bytes; None without a budget."""
        return _not_below_zero(self._budget_left())

    def _budget_left(self, back: int = 0) -> int | None:
        """As `budget_left`, `back` added; below 0 where loaded models take more."""
        limit = self._budget.limit_bytes
        if limit is None:
            return None
        live = (i for i in self._engines.instances.values() if i.state.live)
        return limit + back - sum(needed_bytes(instance) for instance in live)

    def gpu_available(self) -> int | None:
        """Return the free memory of all GPUs themselves, less what starting models will take."""
        return _not_below_zero(self._gpu_available(self._memory()))

    def _gpu_available(self, memory: Memory, back: int = 0) -> int | None:
        free = [gpu.free_bytes for gpu in memory.gpus if gpu.free_bytes is not None]
        if not free:
            return None
        live = (i for i in self._engines.instances.values() if i.state.live)
        taken = sum(max(0, gpu_forecast(i) - (i.gpu_bytes or 0)) for i in live)
        return sum(free) + back - taken

    def room(self, replacing: Instance | None = None) -> Bytes:
        """Return the memory for a new load by store, without the stores that are not known.

        What an instance holds that the load replaces is counted as free. A count is below 0 where
        loaded models take, or were promised, more than there is.
        """
        back = {} if replacing is None else candidate(replacing).holds
        memory = self._memory()
        free = self._available(memory, back.get("memory", 0))
        counts: dict[Store, int | None] = {
            "memory": None if free is None else free - self.reserve_bytes,
            "gpu": self._gpu_available(memory, back.get("gpu", 0)),
            "budget": self._budget_left(back.get("budget", 0)),
        }
        return {store: count for store, count in counts.items() if count is not None}

    def candidates(self) -> list[EvictionCandidate]:
        """Return all live instances as candidates for eviction."""
        return [candidate(i) for i in self._engines.instances.values() if i.state.live]


def _within(trained: int | None, requested: int | None) -> int | None:
    """Return the requested context length, at most the trained one where that is known."""
    return requested if requested is None else min(requested, trained or requested)


def _not_below_zero(count: int | None) -> int | None:
    """Return a count of free bytes; 0 for one below 0."""
    return None if count is None else max(0, count)


def _least(*counts: int | None) -> int | None:
    return min((count for count in counts if count is not None), default=None)
