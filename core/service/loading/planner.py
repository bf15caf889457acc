"""The plan of a load: options in full, forecast, room, what would go first, or why it is refused.

A plan changes nothing, so it is what a dry run shows; a load makes the same plan and follows it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from modeldeck.core.config.load_options import ModelTraits, suit
from modeldeck.core.errors import (
    DeckError,
    EngineFailed,
    EngineMissing,
    InvalidRequest,
    NotDownloaded,
    NotEnoughMemory,
    NotFound,
)
from modeldeck.core.memory.estimate import gpu_unknown
from modeldeck.core.runtime import registry
from modeldeck.core.runtime.planning.placement import (
    DoesNotFit,
    EvictionCandidate,
    Placement,
    place,
)
from modeldeck.core.schema import (
    Eviction,
    Forecast,
    Instance,
    LoadOptions,
    LoadPlan,
    LoadVerdict,
    LoadWish,
    Model,
    OptionOrigin,
    Runtime,
)
from modeldeck.core.schema.errors import to_info
from modeldeck.core.schema.units import gib
from modeldeck.core.service.library.library import ModelLibrary
from modeldeck.core.service.loading.alternatives import AlternativeFinder, Need, largest, remedy
from modeldeck.core.service.loading.fit import FitChecker, needs
from modeldeck.core.service.loading.forecast import REFUSALS, Forecaster
from modeldeck.core.service.loading.options import OptionResolver, settle

logger = logging.getLogger(__name__)

LEAST_CONTEXT = 2048
"""A context that is chosen for what is free is no shorter, in tokens: less is hardly of use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedLoad:
    """A plan, and what a load needs besides it."""

    plan: LoadPlan
    draft: str | None = None
    """Where the draft model lies."""
    architecture: str | None = None
    refusal: DeckError | None = None
    """`plan.refusal`, to be raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _LoadQuery:
    """A load that is being planned."""

    model: Model
    options: LoadOptions
    origins: dict[str, OptionOrigin]
    traits: ModelTraits
    draft: Model | None
    may_unload: bool


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
    ) -> None:
        self._library = library
        self._option_resolver = option_resolver
        self._forecaster = forecaster
        self._fit_checker = fit_checker
        self._alternatives = alternatives
        self._instances = instances
        self._runtimes = runtimes
        self._may_unload = may_unload

    async def plan(self, model: Model, wish: LoadWish) -> PreparedLoad:
        """What a load would do now.

        Raises InvalidRequest for options that are impossible, and what asking the Hub about a model
        that is not here may raise. What stands against the load otherwise is the plan's `refusal`.
        """
        asked, unreadable = await self._ask(model, wish)
        engine = registry.choose(model.format, asked.options.engine)
        devices = next((r.devices for r in self._runtimes() if r.name == engine), ())
        warnings = list(suit(asked.options, asked.traits, engine, devices, os.cpu_count() or 1))
        plan = LoadPlan(
            model_id=model.id,
            unique=model.unique,
            engine=engine,
            options=asked.options,
            origins=asked.origins,
            verdict="unknown",
            forecast=None,
            available_bytes=self._fit_checker.available(),
            reserve_bytes=self._fit_checker.reserve_bytes,
            budget_left_bytes=self._fit_checker.budget_left(),
            gpu_available_bytes=self._fit_checker.gpu_available(),
        )
        refusal: DeckError | None = None
        if asked.traits.unfit is not None:
            refusal = EngineFailed(*asked.traits.unfit)
        elif unreadable is None:
            try:
                plan, refusal = await self._placed(plan, asked, force=wish.force)
            except EngineFailed as error:
                unreadable = error
        if unreadable is not None:  # loading it tells the same, with the engine's log
            logger.info("%s cannot be planned: %s", model.unique, unreadable)
            warnings.append(f"it cannot be planned: {unreadable}")
        if not model.downloaded:  # so fetching it would be in vain
            refusal = unreadable or refusal
            refusal = refusal if isinstance(refusal, REFUSALS) else self.missing(model)
        else:
            refusal = self.missing(model) or refusal
        if any(i.model_id == model.id and i.state.live for i in self._instances()):
            plan = replace(plan, notes=(*plan.notes, "it is loaded already"), evictions=())
            refusal = None
        plan = replace(
            plan, warnings=tuple(warnings), refusal=None if refusal is None else to_info(refusal)
        )
        draft = None if asked.draft is None else asked.draft.path
        return PreparedLoad(
            plan=plan, draft=draft, architecture=asked.traits.architecture, refusal=refusal
        )

    def missing(self, model: Model) -> DeckError | None:
        """What a load needs that is not here: the engine, or the files."""
        for runtime in self._runtimes():
            if model.format in runtime.formats and not runtime.available:
                why_not = runtime.why_not or "Install it."
                return EngineMissing(f"{model.name} needs {runtime.name}.", why_not)
        if not model.downloaded or model.path is None:
            remedy = f"modeldeck pull {model.unique}"
            return NotDownloaded(f"{model.name} is not downloaded.", remedy)
        return None

    async def _ask(self, model: Model, wish: LoadWish) -> tuple[_LoadQuery, DeckError | None]:
        """The options in full; and why the model's header cannot be read, where it cannot."""
        unreadable: DeckError | None = None
        try:
            traits = await self._forecaster.traits(model)
        except REFUSALS as error:
            traits, unreadable = ModelTraits(context_length=model.context_length), error
        resolved = self._option_resolver.resolve(model, wish.options, fresh=wish.fresh)
        settled = settle(resolved, traits.context_length)
        may_unload = self._may_unload if wish.make_room is None else wish.make_room
        asked = _LoadQuery(
            model=model,
            options=settled.options,
            origins=settled.origins,
            traits=traits,
            draft=self._draft(model, settled.options.draft_model),
            may_unload=may_unload and not wish.force,
        )
        return asked, unreadable

    def _draft(self, model: Model, ref: str | None) -> Model | None:
        """The draft model of this name. Raises InvalidRequest and NotDownloaded."""
        if ref is None:
            return None
        try:
            draft = self._library.find(ref)
        except NotFound as error:
            raise InvalidRequest(f"draft_model: {error.message}", error.remedy) from error
        if draft.format != model.format or draft.id == model.id:
            raise InvalidRequest(
                f"{draft.unique} cannot guess for {model.unique}: draft_model must be another"
                f" {model.format} model of the same vocabulary."
            )
        if not draft.downloaded or draft.path is None:
            raise NotDownloaded(
                f"The draft model {draft.unique} is not downloaded.",
                f"modeldeck pull {draft.unique}",
            )
        return draft

    # Forecast and place

    async def _placed(
        self, plan: LoadPlan, asked: _LoadQuery, *, force: bool
    ) -> tuple[LoadPlan, DeckError | None]:
        """The plan with forecast and room, and why it is refused, where it is."""
        options, notes = asked.options, plan.notes
        if asked.options.context_fit and not force:
            options, notes = await self._fitted(asked)
        origins = {k: v for k, v in plan.origins.items() if k != "context_fit"}
        if options.context_length != asked.options.context_length:
            origins["context_length"] = "fit"
        options = replace(options, context_fit=None)
        plan = replace(plan, options=options, origins=origins, notes=notes)
        forecast = await self._forecast(asked, options)
        answer = self._place(forecast, may_unload=asked.may_unload)
        plan = replace(plan, forecast=forecast)
        if isinstance(answer, Placement):
            verdict: LoadVerdict = "fits after unloading" if answer.unload else "fits"
            if why := gpu_unknown(forecast, plan.gpu_available_bytes):
                verdict = "unknown"
                plan = replace(plan, notes=(*notes, why))
            return replace(plan, verdict=verdict, evictions=self._evictions(answer.unload)), None
        plan = replace(plan, verdict="too large")
        if force:
            return replace(plan, notes=(*notes, "it is loaded anyway")), None
        would_do = self._evictions(answer.would_do)
        alternatives = await self._alternatives.find(
            asked.model,
            forecast,
            options,
            lambda less: self._forecast(asked, less),
            lambda need: (
                need.gpu_bytes is not None
                and isinstance(self._place(need, may_unload=False), Placement)
            ),
        )
        words = remedy(alternatives, would_do, may_unload=asked.may_unload)
        error = NotEnoughMemory(self._refused(asked.model, answer, options), words)
        return replace(plan, alternatives=alternatives), error

    async def _forecast(self, asked: _LoadQuery, options: LoadOptions) -> Forecast:
        return await self._forecaster.forecast(
            asked.model, options, asked.traits.architecture, asked.draft
        )

    def _place(self, forecast: Forecast, *, may_unload: bool) -> Placement | DoesNotFit:
        return place(
            needs(forecast),
            self._fit_checker.room(),
            self._fit_checker.candidates(),
            may_unload=may_unload,
        )

    async def _fitted(self, asked: _LoadQuery) -> tuple[LoadOptions, tuple[str, ...]]:
        """The options with the largest context that has room, and what to say about it."""
        wanted = asked.options.context_length or LEAST_CONTEXT
        forecasts: dict[int, Forecast] = {}

        async def has_room(length: int) -> bool:
            options = replace(asked.options, context_length=length)
            forecasts[length] = await self._forecast(asked, options)
            answer = self._place(forecasts[length], may_unload=asked.may_unload)
            return isinstance(answer, Placement)

        least = min(wanted, LEAST_CONTEXT)
        chosen = await largest(least, wanted, has_room)
        if chosen == wanted:
            if asked.origins.get("context_fit") in ("default", "catalog", "config"):
                return asked.options, ()
            if forecasts[wanted].gpu_bytes is None:
                return asked.options, (f"context {wanted} kept: what fits the GPU is not known",)
            return asked.options, (f"context {wanted} chosen: as much as was wanted fits",)
        needed = gib(forecasts[wanted].total_bytes)
        options = replace(asked.options, context_length=chosen or least)
        if chosen is None:
            return options, (f"context {least} taken: not even that has room",)
        return options, (
            f"context {chosen} chosen: the largest that fits; {wanted} would need {needed}",
        )

    def _evictions(self, ids: Sequence[str]) -> tuple[Eviction, ...]:
        known = {instance.id: instance for instance in self._instances()}
        holds = {c.id: c for c in self._fit_checker.candidates()}
        return tuple(
            Eviction(
                instance_id=key,
                unique=known[key].unique,
                bytes=_held(holds[key], "memory"),
                gpu_bytes=_held(holds[key], "gpu"),
            )
            for key in ids
            if key in known and key in holds
        )

    def _refused(self, model: Model, answer: DoesNotFit, options: LoadOptions) -> str:
        free = gib(answer.available_bytes)
        where = {
            "memory": f"{free} are free besides the {gib(self._fit_checker.reserve_bytes)} kept for"
            " the system",
            "gpu": f"{free} are free on the GPU",
            "budget": f"{free} are left of what models may take together",
        }[answer.store]
        kept = ""
        if answer.kept:
            held = gib(sum(answer.kept.values()))
            kept = f" Busy and pinned models hold {held}."
        length = options.context_length
        return f"{model.name} needs {gib(answer.needed_bytes)} at context {length}; {where}.{kept}"


def _held(candidate: EvictionCandidate, store: Need) -> int:
    return candidate.holds.get(store, 0)
