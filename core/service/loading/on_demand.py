"""A model for a request: loaded when it is asked for, let go of when the time it may idle is over.

A load that only requests wait for is called off when the last of them goes away: memory must not be
taken for nobody. One that somebody asked for in so many words goes on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace

from modeldeck.core.concurrency import BackgroundTasks
from modeldeck.core.errors import Conflict, NotFound, ShuttingDown
from modeldeck.core.runtime.engines_manager import Engines
from modeldeck.core.schema import Instance, InstanceState, LoadOptions, LoadWish, Model
from modeldeck.core.service.loading.loader import Loader

AT_ONCE_S = 0.001
"""Idle time that ends an instance as soon as nothing waits for it; 0 is taken: it means never."""

READY = (InstanceState.READY, InstanceState.BUSY)


class OnDemandLoader:
    """Instances for requests, and who waits for those that are still loading."""

    def __init__(
        self,
        *,
        loading: Loader,
        engines: Engines,
        instance_of: Callable[[str], Instance | None],
        tasks: BackgroundTasks,
        allowed: bool,
    ) -> None:
        self._loading = loading
        self._engines = engines
        self._instance_of = instance_of
        self._tasks = tasks
        self._allowed = allowed
        self._waiting: Counter[str] = Counter()
        """How many wait for a load, by the model's id."""
        self._kept: set[str] = set()
        """Instances that somebody asked for in so many words."""

    @contextmanager
    def waiting(self, model_id: str) -> Iterator[None]:
        """Somebody waits for this model's load for as long as the block runs."""
        self._waiting[model_id] += 1
        try:
            yield
        finally:
            self._waiting[model_id] -= 1
            if not self._waiting[model_id]:
                del self._waiting[model_id]

    def keep(self, instance_id: str) -> None:
        """Somebody asked for this load itself: it is not called off."""
        self._kept &= self._engines.instances.keys()
        self._kept.add(instance_id)

    @asynccontextmanager
    async def using(
        self, model: Model, options: LoadOptions, origin: str, keep_alive_s: float | None
    ) -> AsyncIterator[Instance]:
        """A ready instance of the model, loaded now where it was not.

        Args:
            model: Which; it must be downloaded.
            options: How to load it; an instance that is loaded stays as it is.
            origin: Who asks, for the audit.
            keep_alive_s: How long it may idle from the end of the block on: 0 ends it as soon as
                nobody waits for it, a negative number never; None leaves that to the settings.

        Raises what loading raises, and Conflict where nothing is loaded on demand.
        """
        idle_ttl_s = None if keep_alive_s is None else max(0.0, keep_alive_s)
        instance = self._instance_of(model.id)
        if instance is None or instance.state not in READY:
            instance = await self._loaded(model, replace(options, idle_ttl_s=idle_ttl_s), origin)
        try:
            yield instance
        finally:
            if keep_alive_s is not None:
                self._idle(instance.id, AT_ONCE_S if keep_alive_s == 0 else idle_ttl_s)

    def _idle(self, instance_id: str, seconds: float | None) -> None:
        with suppress(NotFound, Conflict):  # it ended meanwhile
            self._engines.change(instance_id, {"idle_ttl_s": seconds})

    async def _loaded(self, model: Model, options: LoadOptions, origin: str) -> Instance:
        if not self._allowed and self._instance_of(model.id) is None:
            raise Conflict(
                f"{model.name} is not loaded, and nothing is loaded on demand here.",
                "Load it first, or set api.load_on_demand.",
            )
        try:
            with self.waiting(model.id):
                # What a request needs is no choice for the next time.
                instance = await self._loading.load(
                    model.id, LoadWish(options=options), origin, remember=False
                )
                return await self._engines.ready(instance.id)
        except asyncio.CancelledError:
            work = self._call_off(model.id, origin)
            self._tasks.start(work, name=f"calling off the load of {model.unique}")
            raise

    async def _call_off(self, model_id: str, origin: str) -> None:
        """End the load of a model that nobody waits for any more."""
        instance = self._instance_of(model_id)
        if (
            instance is not None
            and instance.state is InstanceState.STARTING
            and instance.id not in self._kept
            and not self._waiting[model_id]
        ):
            # When the core ends, it ends the engines itself.
            with suppress(NotFound, ShuttingDown):
                await self._loading.unload(instance.id, origin)
