"""Plan a load: complete options, forecast, free memory, instances to unload first, or the refusal.

A plan changes nothing, so it is what a dry run shows; a load makes the same plan and executes it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from modeldeck.core.config.load_options import ModelTraits, kv_cache_types, suit
from modeldeck.core.errors import (
    DeckError,
    EngineFailed,
    EngineMissing,
    NotDownloaded,
    NotEnoughMemory,
)
from modeldeck.core.memory.estimate import gpu_unknown
from modeldeck.core.runtime import registry
from modeldeck.core.runtime.planning.eviction import (
    Bytes,
    DoesNotFit,
    EvictionCandidate,
    Placement,
    left_over,
    place,
)
from modeldeck.core.runtime.planning.prefix_cache_size import prefix_cache_that_fits
from modeldeck.core.schema import (
    Engine,
    Eviction,
    Forecast,
    Instance,
    InstanceState,
    LoadOptions,
    LoadPlan,
    LoadVerdict,
    LoadWish,
    Model,
    OptionOrigin,
    Runtime,
)
from modeldeck.core.schema.errors import to_info
from modeldeck.core.schema.units import mib
from modeldeck.core.service.library import custom_files
from modeldeck.core.service.library.library import ModelLibrary
from modeldeck.core.service.loading import already_loaded
from modeldeck.core.service.loading.alternatives import AlternativeFinder, remedy
from modeldeck.core.service.loading.drafts import DraftModels
from modeldeck.core.service.loading.eviction_words import (
    cache_limits,
    eviction,
    evictions,
    refusal_text,
    shrink_note,
)
from modeldeck.core.service.loading.fit import FitChecker
from modeldeck.core.service.loading.forecast import REFUSALS, Forecaster
from modeldeck.core.service.loading.instance_memory import needs
from modeldeck.core.service.loading.lowered_options import LEAST_CONTEXT, LoadFitting
from modeldeck.core.service.loading.options import OptionResolver, settle

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedLoad:
    """A plan, with the further inputs of a load."""

    plan: LoadPlan
    draft: str | None = None
    """Path of the draft model."""
    architecture: str | None = None
    refusal: DeckError | None = None
    """`plan.refusal` as an exception."""
    cache_limits: Mapping[str, int] = field(default_factory=dict)
    """Bytes that the prefix caches of other instances may hold from then on, by instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _LoadQuery:
    """A load that is being planned."""

    model: Model
    options: LoadOptions
    origins: dict[str, OptionOrigin]
    traits: ModelTraits
    draft: Model | None
    may_unload: bool
    replacing: Instance | None = None
    """The instance of the same model that is unloaded before the load."""


class LoadPlanner:
    """Plans loads."""

    def __init__(
        self,
        *,
        library: ModelLibrary,
        option_resolver: OptionResolver,
        forecaster: Forecaster,
        fit_checker: FitChecker,
        alternatives: AlternativeFinder,
        instances: Callable[[], Sequence[Instance]],
        runtimes: Callable[[], Sequence[Runtime]],
        may_unload: bool,
        prefix_cache_bytes: Callable[[], int],
        answers: Callable[[str], tuple[str, ...]],
    ) -> None:
        """Make a planner.

        Args:
            library: The models.
            option_resolver: Resolves their options.
            forecaster: Forecasts loads.
            fit_checker: Counts the free memory.
            alternatives: Finds what fits instead.
            instances: Returns the instances.
            runtimes: Returns the engines of this machine.
            may_unload: Whether the configuration lets idle models be unloaded to make room.
            prefix_cache_bytes: Returns what the prefix cache of a loaded model may take.
            answers: Returns for whom an instance has requests, by its id.
        """
        self._library = library
        self._option_resolver = option_resolver
        self._forecaster = forecaster
        self._fit_checker = fit_checker
        self._alternatives = alternatives
        self._instances = instances
        self._runtimes = runtimes
        self._may_unload = may_unload
        self._prefix_cache_bytes = prefix_cache_bytes
        self._answers = answers
        self._drafts = DraftModels(library, lambda model: forecaster.traits(model))

    async def plan(
        self,
        model: Model,
        wish: LoadWish,
        replacing: Instance | None = None,
        *,
        compare: bool = False,
    ) -> PreparedLoad:
        """Plan a load without changing anything.

        `replacing` is an instance of the same model that would be unloaded before it; where the
        wish is a reload, that is the loaded one. With `compare`, the plan also tells what cells of
        its own for each request would take, and which models could guess ahead.

        Raises InvalidRequest for impossible options, and the Hub's errors for a model that is not
        downloaded. Any other reason against the load is the plan's `refusal`.
        """
        loaded = self._loaded(model)
        is_kept = loaded is not None and replacing is None and not wish.reload
        query, unreadable = await self._query(
            model, wish, replacing or loaded, None if replacing else loaded
        )
        engine = registry.choose(model.format, query.options.engine)
        devices = next((r.devices for r in self._runtimes() if r.name == engine), ())
        warnings = list(suit(query.options, query.traits, engine, devices, os.cpu_count() or 1))
        if query.options.vision is not False and (unsure := await custom_files.warning(model)):
            warnings.append(unsure)
        plan = self._unplaced(query, engine, is_kept=is_kept)
        refusal: DeckError | None = None
        limits: Mapping[str, int] = {}
        if query.traits.unfit is not None:
            refusal = EngineFailed(*query.traits.unfit)
        elif unreadable is None:
            try:
                plan, limits, refusal = await self._placed(plan, query, force=wish.force)
                if compare:
                    plan = await self._compared(plan, query)
            except EngineFailed as error:
                unreadable = error
        if unreadable is not None:  # loading fails with the same error, and the engine's log
            logger.info("%s cannot be planned: %s", model.unique, unreadable)
            warnings.append(f"it cannot be planned: {unreadable}")
        if not model.downloaded:  # so downloading it would be useless
            refusal = unreadable or refusal
            refusal = refusal if isinstance(refusal, REFUSALS) else self.missing(model)
        else:
            refusal = self.missing(model) or refusal
        if loaded is not None and is_kept:
            plan = replace(plan, notes=("loaded already",), evictions=(), alternatives=())
            others = already_loaded.needs_reload(plan.options, loaded.options)
            refusal = already_loaded.with_other_options(model, loaded, others) if others else None
        plan = replace(
            plan, warnings=tuple(warnings), refusal=None if refusal is None else to_info(refusal)
        )
        draft = None if query.draft is None else query.draft.path
        return PreparedLoad(
            plan=plan,
            draft=draft,
            architecture=query.traits.architecture,
            refusal=refusal,
            cache_limits=limits,
        )

    def _unplaced(self, query: _LoadQuery, engine: Engine, *, is_kept: bool) -> LoadPlan:
        """Return the plan before anything is forecast; `is_kept` for a model that stays loaded."""
        return LoadPlan(
            model_id=query.model.id,
            unique=query.model.unique,
            engine=engine,
            options=query.options,
            origins=query.origins,
            verdict="unknown",
            forecast=None,
            replaces=None if is_kept or query.replacing is None else self._gone(query.replacing),
            layers=query.traits.layers,
            kv_cache_types=kv_cache_types(query.traits, engine),
            available_bytes=self._fit_checker.available(),
            reserve_bytes=self._fit_checker.reserve_bytes,
            budget_left_bytes=self._fit_checker.budget_left(),
            gpu_available_bytes=self._fit_checker.gpu_available(),
        )

    def missing(self, model: Model) -> DeckError | None:
        """Return the error for a missing engine or missing files; None if both are there."""
        for runtime in self._runtimes():
            if model.format in runtime.formats and not runtime.available:
                why_not = runtime.why_not or "Install it."
                return EngineMissing(f"{model.name} needs {runtime.name}.", why_not)
        if not model.downloaded or model.path is None:
            remedy = f"modeldeck pull {model.unique}"
            return NotDownloaded(f"{model.name} is not downloaded.", remedy)
        return None

    async def blockers(self, model: Model, wish: LoadWish) -> tuple[str, ...] | None:
        """Return the busy instances that must become idle before a model fits.

        Empty where it fits by now, or will when an instance has ended; None where it would not fit
        even if all were idle, and where nothing may be unloaded for it.
        """
        query, unreadable = await self._query(model, wish)
        if unreadable is not None or not query.may_unload:
            return None
        options = replace(query.options, context_fit=None)
        if query.options.context_fit:
            wanted = query.options.context_length or LEAST_CONTEXT
            options = replace(options, context_length=min(wanted, LEAST_CONTEXT))
        forecast = await self._forecast(query, options)
        candidates = self._fit_checker.candidates()
        busy = {c.id for c in candidates if c.idle_s is None}
        all_idle = [replace(c, idle_s=c.idle_s or 0.0) for c in candidates]
        found = place(needs(forecast), self._fit_checker.room(), all_idle, may_unload=True)
        if isinstance(found, Placement):
            return tuple(key for key in found.unload if key in busy)
        is_ending = any(i.state is InstanceState.STOPPING for i in self._instances())
        return () if is_ending else None

    def _loaded(self, model: Model) -> Instance | None:
        live = (i for i in self._instances() if i.model_id == model.id and i.state.live)
        return next(live, None)

    def answers(self, instance_id: str) -> tuple[str, ...]:
        """Return for whom an instance has requests now, one entry for each."""
        return self._answers(instance_id)

    async def _query(
        self,
        model: Model,
        wish: LoadWish,
        replacing: Instance | None = None,
        loaded: Instance | None = None,
    ) -> tuple[_LoadQuery, DeckError | None]:
        """Return the complete query, and the error if the model's header cannot be read.

        The options of `loaded` stay where the wish names no others.
        """
        unreadable: DeckError | None = None
        try:
            traits = await self._forecaster.traits(model)
        except REFUSALS as error:
            traits, unreadable = ModelTraits(context_length=model.context_length), error
        base = None if loaded is None else replace(loaded.options, context_fit=None)
        resolved = self._option_resolver.resolve(model, wish.options, fresh=wish.fresh, loaded=base)
        settled = settle(resolved, traits.context_length)
        may_unload = self._may_unload if wish.make_room is None else wish.make_room
        query = _LoadQuery(
            model=model,
            options=settled.options,
            origins=settled.origins,
            traits=traits,
            draft=self._drafts.named(model, settled.options.draft_model),
            may_unload=may_unload and not wish.force,
            replacing=replacing,
        )
        return query, unreadable

    def _gone(self, instance: Instance) -> Eviction:
        """What comes back when an instance of the same model is unloaded, and whom that cuts."""
        return replace(eviction(instance), answers=self._answers(instance.id))

    # Forecast and place

    async def _placed(
        self, plan: LoadPlan, query: _LoadQuery, *, force: bool
    ) -> tuple[LoadPlan, Mapping[str, int], DeckError | None]:
        """Add forecast and placement to the plan.

        Returns it, the new limits of other prefix caches, and the error of a refusal.
        """
        plan = await self._fitted(plan, query, force=force)
        options, notes = plan.options, plan.notes
        forecast = await self._forecast(query, options)
        placement = self._place(forecast, query, may_unload=query.may_unload)
        plan = replace(plan, forecast=forecast)
        if isinstance(placement, Placement):
            plan = self._with_prefix_cache(plan, query, forecast, placement)
            forecast, notes = plan.forecast or forecast, plan.notes
            verdict: LoadVerdict = "fits after unloading" if placement.unload else "fits"
            if why := gpu_unknown(forecast, plan.gpu_available_bytes):
                verdict = "unknown"
                plan = replace(plan, notes=(*notes, why))
            if placement.shrink:
                plan = replace(plan, notes=(*plan.notes, shrink_note(placement.shrink)))
            plan = replace(plan, verdict=verdict, evictions=self._evictions(placement.unload))
            return plan, cache_limits(placement.shrink, self._instances()), None
        plan = replace(plan, verdict="too large")
        if force:
            return replace(plan, notes=(*notes, "will load although it does not fit")), {}, None
        would_do = self._evictions(placement.would_do)
        alternatives = await self._alternatives.find(
            query.model,
            forecast,
            options,
            lambda less: self._forecast(query, less),
            lambda need: (
                need.gpu_bytes is not None
                and isinstance(self._place(need, query, may_unload=False), Placement)
            ),
        )
        words = remedy(alternatives, would_do, may_unload=query.may_unload)
        why = refusal_text(query.model, placement, options, self._fit_checker.reserve_bytes)
        return replace(plan, alternatives=alternatives), {}, NotEnoughMemory(why, words)

    async def _compared(self, plan: LoadPlan, query: _LoadQuery) -> LoadPlan:
        """Add what only a dry run tells: draft models, and what cells of one's own would take."""
        drafts = await self._drafts.fitting(query.model, query.traits)
        plan = replace(plan, drafts=drafts)
        options, forecast = plan.options, plan.forecast
        length, parallel = options.context_length or 0, options.parallel or 1
        if parallel == 1 or (options.cache_tokens or length) >= parallel * length:
            return plan
        if forecast is None or plan.engine == "mlx":
            return plan
        own = await self._forecast(query, replace(options, cache_tokens=parallel * length))
        return replace(plan, own_cells_bytes=own.total_bytes - forecast.total_bytes)

    async def _forecast(self, query: _LoadQuery, options: LoadOptions) -> Forecast:
        return await self._forecaster.forecast(
            query.model, options, query.traits.architecture, query.draft
        )

    def _place(
        self, forecast: Forecast, query: _LoadQuery, *, may_unload: bool
    ) -> Placement | DoesNotFit:
        room, candidates = self._room(query)
        return place(needs(forecast), room, candidates, may_unload=may_unload)

    def _room(self, query: _LoadQuery) -> tuple[Bytes, list[EvictionCandidate]]:
        """The memory for the load, and what could make room; what it replaces is gone by then."""
        gone = query.replacing
        candidates = self._fit_checker.candidates()
        if gone is not None:
            candidates = [c for c in candidates if c.id != gone.id]
        return self._fit_checker.room(gone), candidates

    async def _fitted(self, plan: LoadPlan, query: _LoadQuery, *, force: bool) -> LoadPlan:
        """Return the plan with the options that fit, and notes about what was lowered."""
        if force:
            origins = {k: v for k, v in query.origins.items() if k != "context_fit"}
            return replace(plan, options=replace(query.options, context_fit=None), origins=origins)
        fitting = LoadFitting(
            query.options,
            query.origins,
            lambda options: self._forecast(query, options),
            lambda need: isinstance(
                self._place(need, query, may_unload=query.may_unload), Placement
            ),
        )
        fitted = await fitting.fit()
        return replace(
            plan, options=fitted.options, origins=fitted.origins, notes=(*plan.notes, *fitted.notes)
        )

    def _with_prefix_cache(
        self, plan: LoadPlan, query: _LoadQuery, forecast: Forecast, placement: Placement
    ) -> LoadPlan:
        """Return the plan with the limit of the prefix cache, which gets what is left over."""
        wanted = 0 if plan.options.embedding else self._prefix_cache_bytes()
        left = left_over(needs(forecast), *self._room(query), placement)
        limit = prefix_cache_that_fits(wanted, left)
        plan = replace(plan, forecast=replace(forecast, prefix_cache_bytes=limit))
        if limit == wanted:
            return plan
        most = f"takes {mib(limit)} at most, not {mib(wanted)}" if limit else "is left out"
        note = f"the prefix cache {most}: memory is short"
        return replace(plan, notes=(*plan.notes, note))

    def _evictions(self, ids: Sequence[str]) -> tuple[Eviction, ...]:
        return evictions(ids, self._instances())
