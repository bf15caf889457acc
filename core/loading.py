"""Loading and unloading: from a name to an instance, with room made for it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from core.audit import Audit
from core.errors import EngineFailed, EngineMissing, NotDownloaded
from core.fitting import Fitting
from core.library import Library
from core.runtime.scheduler import Engines
from core.schema import Forecast, Instance, LoadOptions, Model, Runtime, UnloadReceipt

logger = logging.getLogger(__name__)

T = TypeVar("T")


class AskHub(Protocol):
    """Passes a question to the Hub on, and tells in State that it could not be asked."""

    def __call__(self, question: Awaitable[T]) -> Awaitable[T]:
        """The answer. Raises HubUnavailable."""


class Loading:
    """Loads models and ends instances, as somebody asks for it."""

    def __init__(
        self,
        *,
        library: Library,
        engines: Engines,
        fitting: Fitting,
        audit: Audit,
        ask_hub: AskHub,
        instance_of: Callable[[str], Instance | None],
        runtimes: Callable[[], Sequence[Runtime]],
        may_unload: bool,
        sample: Callable[[], Awaitable[None]],
    ) -> None:
        self._library = library
        self._engines = engines
        self._fitting = fitting
        self._audit = audit
        self._ask_hub = ask_hub
        self._instance_of = instance_of
        self._runtimes = runtimes
        self._may_unload = may_unload
        self._sample = sample

    async def load(
        self, ref: str, options: LoadOptions, origin: str, *, force: bool = False
    ) -> Instance:
        """Begin to load a model; a loaded one is returned as it is. `force` skips the memory check.

        Raises NotDownloaded, EngineMissing, NotEnoughMemory.
        """
        model = await self._ask_hub(self._library.resolve(ref))
        async with self._audit.action(origin, "load", model.unique):
            if (instance := self._instance_of(model.id)) is not None:
                return instance
            if not model.downloaded or model.path is None:
                raise NotDownloaded(
                    f"{model.name} is not downloaded.", f"modeldeck pull {model.unique}"
                )
            self._require_engine(model)
            options, forecast = await self._make_room(model, options, origin, force=force)
            return await self._engines.load(model, options, forecast)

    def _require_engine(self, model: Model) -> None:
        for runtime in self._runtimes():
            if model.format in runtime.formats and not runtime.available:
                raise EngineMissing(
                    f"{model.name} needs {runtime.name}.", runtime.why_not or "Install it."
                )

    async def _make_room(
        self, model: Model, options: LoadOptions, origin: str, *, force: bool
    ) -> tuple[LoadOptions, Forecast | None]:
        """The options in full and the forecast, once there is room for it.

        No forecast for a model that cannot be planned: loading it tells what is wrong with it.
        """
        try:
            options, forecast = await self._fitting.forecast(model, options)
        except EngineFailed as error:
            logger.info("%s cannot be planned: %s", model.unique, error)
            return self._fitting.options(model, options), None
        if not force:
            for instance_id in self._fitting.room(model, forecast, may_unload=self._may_unload):
                logger.info("unloading %s to make room for %s", instance_id, model.unique)
                await self.unload(instance_id, origin)
        return options, forecast

    async def unload(self, instance_id: str, origin: str) -> UnloadReceipt:
        """End an instance, or call off its load. The receipt says what came back."""
        async with self._audit.action(origin, "unload", instance_id):
            receipt = await self._engines.unload(instance_id)
            await self._sample()
            return receipt
