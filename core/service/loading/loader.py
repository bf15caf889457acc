"""Loading and unloading: from a name to an instance, with room made for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from modeldeck.core.concurrency import contained
from modeldeck.core.errors import StorageFailed
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
from modeldeck.core.service.loading.history import LoadHistory
from modeldeck.core.service.loading.planner import LoadPlanner
from modeldeck.core.service.loading.saved_options import OptionResolver
from modeldeck.core.storage.audit import AuditTrail

logger = logging.getLogger(__name__)

T = TypeVar("T")


class AskHub(Protocol):
    """Passes a question to the Hub on, and tells in State that it could not be asked."""

    def __call__(self, question: Awaitable[T]) -> Awaitable[T]:
        """The answer. Raises HubUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _StartedLoad:
    """What is to be noted of a load when it is ready, and when it has ended."""

    asked: LoadOptions | None
    """To be remembered for the next time; None where nobody chose anything."""
    fresh: bool
    architecture: str | None


class Loader:
    """Loads models and ends instances, as somebody asks for it."""

    def __init__(
        self,
        *,
        library: ModelLibrary,
        engines: Engines,
        planning: LoadPlanner,
        choices: OptionResolver,
        ledger: LoadHistory,
        audit: AuditTrail,
        ask_hub: AskHub,
        instance_of: Callable[[str], Instance | None],
        version_of: Callable[[str], str | None],
        sample: Callable[[], Awaitable[None]],
        turn: asyncio.Lock,
    ) -> None:
        """`turn` is held while a load is decided, and by whoever deletes files of models."""
        self._library = library
        self._engines = engines
        self._planning = planning
        self._choices = choices
        self._ledger = ledger
        self._audit = audit
        self._ask_hub = ask_hub
        self._instance_of = instance_of
        self._version_of = version_of
        self._sample = sample
        self._turn = turn
        self._begun: dict[str, _StartedLoad] = {}
        """By instance, those that live."""

    async def plan(self, ref: str, wish: LoadWish) -> LoadPlan:
        """What a load would do now; nothing is changed.

        Raises InvalidRequest, NotFound, Ambiguous, and what the Hub raises for a model that is not
        here.
        """
        model = await self._ask_hub(self._library.look_up(ref))
        return (await self._ask_hub(self._planning.plan(model, wish))).plan

    async def load(
        self, ref: str, wish: LoadWish, origin: str, *, remember: bool = True
    ) -> Instance:
        """Begin to load a model; a loaded one is returned as it is.

        Args:
            ref: Which: id, unique name or short name.
            wish: How.
            origin: Who asks, for the audit.
            remember: Whether the options are those of the last use from now on, once it is ready.

        Raises InvalidRequest, NotDownloaded, EngineMissing, NotEnoughMemory.
        """
        model = await self._ask_hub(self._library.resolve(ref))
        # One after the other: a load that is planned must see the one before it.
        # Nor may its files be deleted meanwhile, and they may have been while this one waited.
        async with self._audit.action(origin, "load", model.unique), self._turn:
            model = self._library.find(model.id)
            return await self._load(model, wish, origin, remember=remember)

    async def _load(self, model: Model, wish: LoadWish, origin: str, *, remember: bool) -> Instance:
        if (instance := self._instance_of(model.id)) is not None:
            return instance
        if (missing := self._planning.missing(model)) is not None:
            raise missing
        planned = await self._planning.plan(model, wish)
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
        self._begun.setdefault(
            instance.id,
            _StartedLoad(
                asked=wish.options if remember else None,
                fresh=wish.fresh,
                architecture=planned.architecture,
            ),
        )
        return instance

    async def unload(self, instance_id: str, origin: str) -> UnloadReceipt:
        """End an instance, or call off its load. The receipt says what came back."""
        async with self._audit.action(origin, "unload", instance_id):
            receipt = await self._engines.unload(instance_id)
            with contained("measuring what is left"):  # it is unloaded all the same
                await self._sample()
            return receipt

    # What comes of a load

    async def ready(self, instance: Instance) -> None:
        """An instance is ready: what was asked for it is the last use now."""
        begun = self._begun.get(instance.id)
        if begun is not None and begun.asked is not None:
            await self._kept(
                self._choices.remember(instance.model_id, begun.asked, fresh=begun.fresh)
            )

    async def ended(self, instance: Instance) -> None:
        """An instance has ended: what it took goes into the ledger, if it ever was ready."""
        begun = self._begun.pop(instance.id, None)
        known = begun is not None and instance.forecast is not None
        if not known or instance.load_s is None or not instance.peak_bytes:
            return
        assert begun is not None
        assert instance.forecast is not None
        record = LoadRecord(
            at=now(),
            unique=instance.unique,
            engine=instance.engine,
            version=self._version_of(instance.engine),
            architecture=begun.architecture,
            context_length=instance.context_length,
            used_tokens=instance.context_used,
            forecast=instance.forecast,
            peak_bytes=instance.peak_bytes,
        )
        await self._kept(self._ledger.add(record))

    async def _kept(self, writing: Awaitable[None]) -> None:
        """Write something down; that it cannot be costs the memory of it and nothing else."""
        try:
            await writing
        except StorageFailed as error:
            logger.warning("%s", error)


def has_ended(instance: Instance) -> bool:
    """Whether nothing comes after this record of an instance but its removal."""
    return instance.state in (InstanceState.STOPPED, InstanceState.FAILED)
