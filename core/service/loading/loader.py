"""Load models and end instances: at a person's request, or on demand for an inference request.

A load that only inference requests wait for is cancelled when the last of them is gone: memory must
not be taken without use. A load that was requested explicitly always goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from modeldeck.core.concurrency import BackgroundTasks, contained
from modeldeck.core.errors import Conflict, NotFound, ShuttingDown, StorageFailed
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
from modeldeck.core.service.loading.measurements import LoadHistory
from modeldeck.core.service.loading.options import OptionResolver
from modeldeck.core.service.loading.planner import LoadPlanner
from modeldeck.core.storage.audit import AuditTrail

logger = logging.getLogger(__name__)

T = TypeVar("T")

UNLOAD_NOW_S = 0.001
"""Idle timeout in seconds for `keep_alive=0`; an idle timeout of 0 itself means "never unload"."""

READY = (InstanceState.READY, InstanceState.BUSY)


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

    async def load(
        self, ref: str, wish: LoadWish, origin: str, *, remember: bool = True
    ) -> Instance:
        """Begin to load a model; return the instance of a loaded one unchanged.

        Args:
            ref: Id, unique name or short name of the model.
            wish: Options, and what may be done to make room.
            origin: The client, for the audit trail.
            remember: Whether to store the options as those of the last use once it is ready.

        Raises InvalidRequest, NotDownloaded, EngineMissing, NotEnoughMemory.
        """
        model = await self._ask_hub(self._library.resolve(ref))
        # Loads are planned one after another, so that each sees the memory of the one before.
        # The lock also keeps out deletions; one may have happened while this load waited.
        async with self._audit.action(origin, "load", model.unique), self._load_lock:
            model = self._library.find(model.id)
            return await self._load(model, wish, origin, remember=remember)

    async def _load(self, model: Model, wish: LoadWish, origin: str, *, remember: bool) -> Instance:
        if (instance := self._instance_of(model.id)) is not None:
            return instance
        if (missing := self._planner.missing(model)) is not None:
            raise missing
        planned = await self._planner.plan(model, wish)
        if planned.refusal is not None:
            raise planned.refusal
        plan = planned.plan
        for eviction in plan.evictions:
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

    async def unload(self, instance_id: str, origin: str) -> UnloadReceipt:
        """End an instance, or cancel its load. The receipt tells the memory that came back."""
        async with self._audit.action(origin, "unload", instance_id):
            receipt = await self._engines.unload(instance_id)
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
        record = LoadRecord(
            at=now(),
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
        )
        await self._best_effort(self._history.add(record))

    async def _best_effort(self, writing: Awaitable[None]) -> None:
        """Write to the database; a storage error is logged, not raised."""
        try:
            await writing
        except StorageFailed as error:
            logger.warning("%s", error)


class OnDemandLoader:
    """Provides instances to inference requests, loading models when they are needed."""

    def __init__(
        self,
        *,
        loader: Loader,
        engines: Engines,
        instance_of: Callable[[str], Instance | None],
        tasks: BackgroundTasks,
        allowed: bool,
    ) -> None:
        self._loader = loader
        self._engines = engines
        self._instance_of = instance_of
        self._tasks = tasks
        self._allowed = allowed
        self._waiting: Counter[str] = Counter()
        """Number of requests that wait for a load, by model id."""
        self._explicit: set[str] = set()
        """Explicitly loaded instances; never cancelled automatically."""

    @contextmanager
    def waiting(self, model_id: str) -> Iterator[None]:
        """Count one waiting request for this model while the block runs."""
        self._waiting[model_id] += 1
        try:
            yield
        finally:
            self._waiting[model_id] -= 1
            if not self._waiting[model_id]:
                del self._waiting[model_id]

    def keep(self, instance_id: str) -> None:
        """Mark an instance as explicitly loaded, so that its load is not cancelled."""
        self._explicit &= self._engines.instances.keys()
        self._explicit.add(instance_id)

    @asynccontextmanager
    async def using(
        self, model: Model, options: LoadOptions, origin: str, keep_alive_s: float | None
    ) -> AsyncIterator[Instance]:
        """Provide a ready instance of a model while the block runs, loading it if necessary.

        Args:
            model: A downloaded model.
            options: Load options; they do not change an instance that is loaded.
            origin: The client, for the audit trail.
            keep_alive_s: Idle timeout in seconds after the block: 0 unloads it when no request
                waits for it, a negative number keeps it loaded, None leaves it to the settings.

        Raises the errors of `Loader.load`, and Conflict where loading on demand is off.
        """
        idle_ttl_s = None if keep_alive_s is None else max(0.0, keep_alive_s)
        instance = self._instance_of(model.id)
        if instance is None or instance.state not in READY:
            instance = await self._load(model, replace(options, idle_ttl_s=idle_ttl_s), origin)
        try:
            yield instance
        finally:
            if keep_alive_s is not None:
                self._set_idle_timeout(
                    instance.id, UNLOAD_NOW_S if keep_alive_s == 0 else idle_ttl_s
                )

    def _set_idle_timeout(self, instance_id: str, seconds: float | None) -> None:
        with suppress(NotFound, Conflict):  # it ended meanwhile
            self._engines.change(instance_id, {"idle_ttl_s": seconds})

    async def _load(self, model: Model, options: LoadOptions, origin: str) -> Instance:
        if not self._allowed and self._instance_of(model.id) is None:
            raise Conflict(
                f"{model.name} is not loaded, and nothing is loaded on demand here.",
                "Load it first, or set api.load_on_demand.",
            )
        try:
            with self.waiting(model.id):
                # The options of an inference request are not remembered for the next load.
                instance = await self._loader.load(
                    model.id, LoadWish(options=options), origin, remember=False
                )
                return await self._engines.ready(instance.id)
        except asyncio.CancelledError:
            work = self._cancel_unused(model.id, origin)
            self._tasks.start(work, name=f"cancelling the load of {model.unique}")
            raise

    async def _cancel_unused(self, model_id: str, origin: str) -> None:
        """Cancel the load of a model that no request waits for any more."""
        instance = self._instance_of(model_id)
        if (
            instance is not None
            and instance.state is InstanceState.STARTING
            and instance.id not in self._explicit
            and not self._waiting[model_id]
        ):
            # When the core ends, it ends the engines itself.
            with suppress(NotFound, ShuttingDown):
                await self._loader.unload(instance.id, origin)


def has_ended(instance: Instance) -> bool:
    """Whether this is the last state of an instance before its removal."""
    return instance.state in (InstanceState.STOPPED, InstanceState.FAILED)
