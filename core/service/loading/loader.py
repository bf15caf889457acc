"""Load models and end instances.

`modeldeck.core.service.loading.on_demand` does so for inference requests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from modeldeck.core.concurrency import contained, whole
from modeldeck.core.errors import DeckError, StorageFailed
from modeldeck.core.runtime.engines_manager import Engines
from modeldeck.core.schema import (
    Instance,
    InstanceState,
    LoadOptions,
    LoadPlan,
    LoadRecord,
    LoadWish,
    Model,
    UnloadReceipt,
)
from modeldeck.core.schema.clock import now
from modeldeck.core.service.library.library import ModelLibrary
from modeldeck.core.service.loading.already_loaded import answering, differing
from modeldeck.core.service.loading.measurements import LoadHistory
from modeldeck.core.service.loading.options import OptionResolver
from modeldeck.core.service.loading.planner import LoadPlanner, PreparedLoad
from modeldeck.core.storage.audit import AuditTrail

logger = logging.getLogger(__name__)

T = TypeVar("T")


class AskHub(Protocol):
    """Awaits a request to the Hub, and notes a failure to reach it in State."""

    def __call__(self, question: Awaitable[T]) -> Awaitable[T]:
        """Return the Hub's answer. Raises HubUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _StartedLoad:
    """A load in progress or a loaded model, with what is recorded when it is ready or ends."""

    requested: LoadOptions | None
    """Options to remember for the next load; None to remember nothing."""
    fresh: bool
    """Whether they replace the remembered options instead of adding to them."""
    architecture: str | None


class Loader:
    """Loads models and ends instances at a person's request."""

    def __init__(
        self,
        *,
        library: ModelLibrary,
        engines: Engines,
        planner: LoadPlanner,
        option_resolver: OptionResolver,
        history: LoadHistory,
        audit: AuditTrail,
        ask_hub: AskHub,
        instance_of: Callable[[str], Instance | None],
        version_of: Callable[[str], str | None],
        sample: Callable[[], Awaitable[None]],
        load_lock: asyncio.Lock,
    ) -> None:
        """`load_lock` is held while a load is decided, and while files of models are deleted."""
        self._library = library
        self._engines = engines
        self._planner = planner
        self._option_resolver = option_resolver
        self._history = history
        self._audit = audit
        self._ask_hub = ask_hub
        self._instance_of = instance_of
        self._version_of = version_of
        self._sample = sample
        self._load_lock = load_lock
        self._started: dict[str, _StartedLoad] = {}
        """Live instances by id."""

    async def plan(self, ref: str, wish: LoadWish) -> LoadPlan:
        """Plan a load without changing anything.

        Raises InvalidRequest, NotFound, Ambiguous, and the Hub's errors for a model that is not
        downloaded.
        """
        model = await self._ask_hub(self._library.look_up(ref))
        return (await self._ask_hub(self._planner.plan(model, wish, compare=True))).plan

    def missing(self, model: Model) -> DeckError | None:
        """Return the error for a missing engine or missing files; None if both are there."""
        return self._planner.missing(model)

    async def load(
        self,
        ref: str,
        wish: LoadWish,
        origin: str,
        *,
        remember: bool = True,
        as_loaded: bool = False,
    ) -> Instance:
        """Begin to load a model; return the instance of one that is loaded as it is wished for.

        Args:
            ref: Id, unique name or short name of the model.
            wish: Options, what may be done to make room, and whether a loaded model is loaded anew.
            origin: The client, for the audit trail.
            remember: Whether to store the options as those of the last use once it is ready.
            as_loaded: Take a loaded model as it is, whatever the options.

        Raises InvalidRequest, NotDownloaded, EngineMissing, NotEnoughMemory; LoadedAlready for
        other options than those of a loaded model, and InUse where loading it anew would end
        answers, unless the wish says that it may.
        """
        model = await self._ask_hub(self._library.resolve(ref))
        # Loads are planned one after another, so that each sees the memory of the one before.
        # The lock also keeps out deletions; one may have happened while this load waited.
        async with self._audit.action(origin, "load", model.unique), self._load_lock:
            model = self._library.find(model.id)
            if as_loaded and (instance := self._instance_of(model.id)) is not None:
                return instance
            return await self._load(model, wish, origin, remember=remember)

    async def _load(self, model: Model, wish: LoadWish, origin: str, *, remember: bool) -> Instance:
        if (instance := self._instance_of(model.id)) is not None:
            if wish.reload:
                return await self._load_anew(model, wish, origin, remember=remember)
            return await self._as_wished(model, instance, wish, origin, remember=remember)
        if (missing := self._planner.missing(model)) is not None:
            raise missing
        planned = await self._planner.plan(model, wish)
        if planned.refusal is not None:
            raise planned.refusal
        return await self._carry_out(model, planned, wish, origin, remember=remember)

    async def _as_wished(
        self, model: Model, instance: Instance, wish: LoadWish, origin: str, *, remember: bool
    ) -> Instance:
        """Return a loaded instance, changed in place where that is all that the options need.

        Raises LoadedAlready where they need a reload.
        """
        if wish.options == LoadOptions() and not wish.fresh:
            return instance
        planned = await self._planner.plan(model, wish)
        current = self._instance_of(model.id)
        if current is None or current.id != instance.id:  # it ended while this was planned
            return await self._load(model, wish, origin, remember=remember)
        instance = current
        if planned.refusal is not None:
            raise planned.refusal
        names = differing(planned.plan.options, instance.options)
        changes = {name: getattr(planned.plan.options, name) for name in names}
        if not changes:
            return instance
        instance = self._engines.change(instance.id, changes)
        if remember:
            requested = LoadOptions(**changes)
            await self._best_effort(self._option_resolver.remember(model.id, requested))
        return instance

    async def _load_anew(
        self, model: Model, wish: LoadWish, origin: str, *, remember: bool
    ) -> Instance:
        """Unload a model, and load it with other options.

        Planned before it is unloaded, so that it stays loaded where the new options are refused.
        """
        planned = await self._planner.plan(model, wish)
        if planned.refusal is not None:
            raise planned.refusal
        current = self._instance_of(model.id)
        replaced = planned.plan.replaces
        if current is None or replaced is None or current.id != replaced.instance_id:
            return await self._load(model, wish, origin, remember=remember)
        who = self._planner.answers(current.id)
        if (who or current.requests) and not wish.end_answers:
            raise answering(model, current, who)
        logger.info("unloading %s to load it with other options", model.unique)
        unloading = self.unload(current.id, origin, unused=not wish.end_answers)
        return await self._replace(model, planned, wish, origin, unloading, remember=remember)

    @whole
    async def _replace(
        self,
        model: Model,
        planned: PreparedLoad,
        wish: LoadWish,
        origin: str,
        unloading: Awaitable[UnloadReceipt],
        *,
        remember: bool,
        started: Callable[[str], None] = lambda _: None,
    ) -> Instance:
        """Unload a model and begin to load it again; `started` is called with the new instance.

        It goes on when its client leaves, who would leave others without the model.
        """
        await unloading
        instance = await self._carry_out(model, planned, wish, origin, remember=remember)
        started(instance.id)
        return instance

    async def _carry_out(
        self, model: Model, planned: PreparedLoad, wish: LoadWish, origin: str, *, remember: bool
    ) -> Instance:
        """Make room as planned, and begin to load.

        Unloading takes seconds: a model that is used or gone by then is no longer part of the plan,
        and the load is planned anew.
        """
        plan = planned.plan
        self._engines.limit_caches(planned.cache_limits)
        for count, eviction in enumerate(plan.evictions):
            if count and not self._is_idle(eviction.instance_id):
                return await self._load(model, wish, origin, remember=remember)
            logger.info("unloading %s to make room for %s", eviction.unique, model.unique)
            await self.unload(eviction.instance_id, origin)
        for note in plan.notes:
            logger.info("%s: %s", model.unique, note)
        instance = await self._engines.load(
            model,
            plan.options,
            plan.forecast,
            draft=planned.draft,
            warnings=(*plan.warnings, *plan.notes),
        )
        self._started.setdefault(
            instance.id,
            _StartedLoad(
                requested=wish.options if remember else None,
                fresh=wish.fresh,
                architecture=planned.architecture,
            ),
        )
        return instance

    def _is_idle(self, instance_id: str) -> bool:
        instance = self._engines.instances.get(instance_id)
        return instance is not None and instance.state is InstanceState.READY

    async def reload(
        self,
        instance: Instance,
        wish: LoadWish,
        origin: str,
        *,
        refuse_if_used: Callable[[], None],
        started: Callable[[str], None],
    ) -> Instance:
        """Load a model again with other options, where no request uses its instance.

        Planned before it is unloaded, so that it stays loaded where the new options are refused.
        Once it is being unloaded, it is also loaded again, even if the caller is cancelled. Returns
        the instance that loads, or one that another request has loaded meanwhile.

        Args:
            instance: The loaded instance.
            wish: Options, and what may be done to make room.
            origin: The client, for the audit trail.
            refuse_if_used: Raises Conflict where the instance is in use.
            started: Called with the id of the new instance, also where the caller is cancelled.

        Raises Conflict where a request runs or waits, and the errors of `load`.
        """
        async with self._audit.action(origin, "load again", instance.unique), self._load_lock:
            model = self._library.find(instance.model_id)
            current = self._instance_of(model.id)
            if current is None or current.id != instance.id:
                return current or await self._load(model, wish, origin, remember=False)
            planned = await self._planner.plan(model, wish, replacing=current)
            if planned.refusal is not None:
                raise planned.refusal
            refuse_if_used()  # planning took a while
            unloading = self._engines.unload_unused(instance.id)
            return await self._replace(
                model, planned, wish, origin, unloading, remember=False, started=started
            )

    async def blockers(self, ref: str, wish: LoadWish) -> tuple[str, ...] | None:
        """As `LoadPlanner.blockers`, for the model with this name."""
        return await self._planner.blockers(self._library.find(ref), wish)

    async def unload(self, instance_id: str, origin: str, *, unused: bool = False) -> UnloadReceipt:
        """End an instance, or cancel its load. The receipt tells the memory that came back.

        Raises Conflict where it must be `unused` and requests run or wait.
        """
        async with self._audit.action(origin, "unload", instance_id):
            engines = self._engines
            receipt = await (engines.unload_unused if unused else engines.unload)(instance_id)
            with contained("measuring what is left"):  # it is unloaded all the same
                await self._sample()
            return receipt

    # Called with state changes of instances

    async def ready(self, instance: Instance) -> None:
        """Remember the requested options of an instance that is ready."""
        started = self._started.get(instance.id)
        if started is not None and started.requested is not None:
            await self._best_effort(
                self._option_resolver.remember(
                    instance.model_id, started.requested, fresh=started.fresh
                )
            )

    async def ended(self, instance: Instance) -> None:
        """Record the memory that an instance took, if it was ever ready, when it has ended."""
        started = self._started.pop(instance.id, None)
        known = started is not None and instance.forecast is not None
        if not known or instance.load_s is None or not instance.peak_bytes:
            return
        assert started is not None
        assert instance.forecast is not None
        at = now()
        record = LoadRecord(
            at=at,
            unique=instance.unique,
            engine=instance.engine,
            version=self._version_of(instance.engine),
            architecture=started.architecture,
            context_length=instance.context_length,
            parallel=instance.parallel,
            cache_tokens=instance.cache_tokens,
            used_tokens=instance.context_used,
            forecast=instance.forecast,
            peak_bytes=instance.peak_bytes,
            prefix_cache_bytes=instance.prefix_cache_bytes or 0,
            used_at=_earlier(at, instance.idle_s or 0.0),
        )
        await self._best_effort(self._history.add(record))
        self._library.set_last_used(self._history.last_used)

    async def _best_effort(self, writing: Awaitable[None]) -> None:
        """Write to the database; a storage error is logged, not raised."""
        try:
            await writing
        except StorageFailed as error:
            logger.warning("%s", error)


def _earlier(at: str, seconds: float) -> str:
    """The time so long before another one: ISO 8601, UTC."""
    moment = datetime.fromisoformat(at) - timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def has_ended(instance: Instance) -> bool:
    """Whether this is the last state of an instance before its removal."""
    return instance.state in (InstanceState.STOPPED, InstanceState.FAILED)
