"""A model for a request: loaded when it is asked for, let go of when the time it may idle is over.

A load that only requests wait for is called off when the last of them goes away: memory must not be
taken for nobody. One that somebody asked for in so many words goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from core.errors import Conflict, NotFound
from core.loading import Loading
from core.runtime.scheduler import Engines
from core.schema import Instance, InstanceState, LoadOptions, Model

AT_ONCE_S = 0.001
"""Idle time that ends an instance as soon as nothing waits for it; 0 is taken: it means never."""

READY = (InstanceState.READY, InstanceState.BUSY)


class OnDemand:
    """Instances for requests, and who waits for those that are still loading."""

    def __init__(
        self,
        *,
        loading: Loading,
        engines: Engines,
        instance_of: Callable[[str], Instance | None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        allowed: bool,
    ) -> None:
        self._loading = loading
        self._engines = engines
        self._instance_of = instance_of
        self._spawn = spawn
        self._allowed = allowed
        self._waiting: dict[str, int] = {}
        """Who waits for a load, by the instance's id; a wish in so many words counts for ever."""

    def keep(self, instance_id: str) -> None:
        """Somebody asked for this load itself: it is not called off."""
        self._wait(instance_id)

    def _wait(self, instance_id: str) -> None:
        live = self._engines.instances
        self._waiting = {key: count for key, count in self._waiting.items() if key in live}
        self._waiting[instance_id] = self._waiting.get(instance_id, 0) + 1

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
        instance = await self._loading.load(model.id, options, origin)
        self._wait(instance.id)
        try:
            return await self._engines.ready(instance.id)
        except asyncio.CancelledError:
            if self._waiting.get(instance.id) == 1:
                self._spawn(self._call_off(instance.id, origin))
            raise
        finally:
            if instance.id in self._waiting:
                self._waiting[instance.id] -= 1

    async def _call_off(self, instance_id: str, origin: str) -> None:
        """End a load that nobody waits for any more."""
        if self._waiting.get(instance_id):
            return  # another one came meanwhile
        instance = self._engines.instances.get(instance_id)
        if instance is not None and instance.state is InstanceState.STARTING:
            with suppress(NotFound):
                await self._loading.unload(instance_id, origin)
