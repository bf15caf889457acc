"""Commands about models in memory: plan a load, load, change, unload; saved load options."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from modeldeck.core.concurrency import each_to_its_end
from modeldeck.core.schema import (
    Instance,
    LoadOptions,
    LoadPlan,
    LoadRecord,
    LoadWish,
    Model,
    Requester,
    UnloadReceipt,
)
from modeldeck.core.service.commands.models import ModelCommands
from modeldeck.core.service.wiring import ServiceParts


class InstanceCommands:
    """The commands of `Deck.instances`."""

    def __init__(self, parts: ServiceParts, models: ModelCommands) -> None:
        self._parts = parts
        self._models = models

    def of(self, model_id: str) -> Instance | None:
        """Return the instance of a model that is loaded or being loaded, or None."""
        return self._parts.instance_of(model_id)

    async def plan(self, ref: str, wish: LoadWish) -> LoadPlan:
        """Plan a load: options, forecast, free memory, instances to unload, or the refusal."""
        return await self._parts.loader.plan(ref, wish)

    async def load(self, ref: str, wish: LoadWish, origin: str) -> Instance:
        """Begin to load a model; return the instance of one that is loaded as it is wished for.

        Raises InvalidRequest, NotDownloaded, EngineMissing, NotEnoughMemory; LoadedAlready for
        other options than those of a loaded model, unless `wish.reload`, and InUse where a reload
        would end answers, unless `wish.end_answers`.
        """
        model = await self._models.resolve(ref)
        with self._parts.on_demand.waiting(model.id):
            instance = await self._parts.loader.load(model.id, wish, origin)
            self._parts.on_demand.keep(instance.id)
        return instance

    async def loaded(self, ref: str, wish: LoadWish, origin: str) -> Instance:
        """Load a model and wait until it is ready. Raises as `load`, and EngineFailed."""
        instance = await self.load(ref, wish, origin)
        return await self._parts.engines.ready(instance.id)

    async def save_defaults(self, ref: str, changes: Mapping[str, Any], origin: str) -> LoadOptions:
        """Change the load options that are saved as a model's defaults, and return all of them.

        None removes an option. They outrank the configuration, and the last use outranks them; it
        forgets the options that are named here. Raises NotFound, InvalidRequest, StorageFailed.
        """
        model = self._models.find(ref)
        async with self._parts.audit.action(origin, "save defaults", model.unique):
            return await self._parts.option_resolver.save(model.id, changes)

    async def forget_defaults(self, ref: str, origin: str) -> LoadOptions:
        """Remove a model's saved defaults; return what they were. Raises NotFound, StorageFailed.

        `ref` may also be the id of a model that is no longer listed.
        """
        saved = self._parts.feed.state.settings.load_defaults
        key = ref if ref in saved else self._models.find(ref).id
        async with self._parts.audit.action(origin, "forget defaults", key):
            return await self._parts.option_resolver.forget_saved(key)

    def history(self, limit: int = 200) -> list[LoadRecord]:
        """Return forecast and measured memory of earlier loads, newest first."""
        return list(reversed(self._parts.history.records))[:limit]

    def using(
        self,
        model: Model,
        options: LoadOptions,
        requester: Requester,
        keep_alive_s: float | None = None,
    ) -> AbstractAsyncContextManager[Instance]:
        """Provide a ready instance while the block runs; a downloaded model is loaded on demand.

        Options apply to a new load only, but a model with a shorter context than `context_length`
        is loaded again where nothing else uses it. `keep_alive_s` is the idle timeout after the
        block: 0 unloads it, a negative number keeps it. Raises as `loaded`, and Conflict if
        `api.load_on_demand` is off or a longer context is not possible now.
        """
        return self._parts.on_demand.using(model, options, requester, keep_alive_s)

    async def change(self, instance_id: str, changes: Mapping[str, Any], origin: str) -> Instance:
        """Change `pinned` or `idle_ttl_s` of an instance that is loaded or being loaded.

        Raises NotFound, InvalidRequest, and Conflict for one that is not.
        """
        words = ", ".join(f"{name} {value}" for name, value in changes.items())
        async with self._parts.audit.action(origin, f"change {words}".rstrip(), instance_id):
            return self._parts.engines.change(instance_id, changes)

    async def unload(self, instance_id: str, origin: str) -> UnloadReceipt:
        """End an instance, or cancel its load. The receipt tells the memory that came back."""
        return await self._parts.loader.unload(instance_id, origin)

    async def unload_all(self, origin: str) -> list[UnloadReceipt]:
        """End every instance that is not pinned."""
        wanted = [
            i.id
            for i in self._parts.feed.state.instances.values()
            if i.state.live and not i.options.pinned
        ]
        return await each_to_its_end(self.unload(key, origin) for key in wanted)
