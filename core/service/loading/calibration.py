"""What the engines of this machine take besides models: measured once per version, and kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import msgspec

from modeldeck.core.errors import DeckError
from modeldeck.core.runtime.engines_manager import Engines
from modeldeck.core.runtime.planning.calibration import calibrate
from modeldeck.core.schema import Engine, ProcessMemory, Runtime
from modeldeck.core.schema.overhead import ProcessOverhead
from modeldeck.core.storage.database import Database

logger = logging.getLogger(__name__)


class OverheadUser(Protocol):
    """Whoever wants to know what an engine takes: the forecasts."""

    def set_overhead(self, engine: Engine, overhead: ProcessOverhead) -> None:
        """An engine's process takes so much besides the plan."""


class Calibrator:
    """Measures engines that are new, and tells the forecasts what they take."""

    def __init__(
        self,
        *,
        store: Database,
        engines: Engines,
        forecasts: OverheadUser,
        measure: Callable[[int], ProcessMemory | None],
        allowed: bool,
    ) -> None:
        """Wire it up; where measuring is not `allowed`, what was measured before still counts."""
        self._store = store
        self._engines = engines
        self._forecasts = forecasts
        self._measure = measure
        self._allowed = allowed
        self._known: dict[str, ProcessOverhead] = {}

    async def open(self) -> None:
        """Read what was measured."""
        self._known.update(await self._store.records("calibrations", ProcessOverhead))

    def known(self, runtime: Runtime) -> Runtime:
        """An engine with what it takes, where that was measured; forecasts know it from now on."""
        overhead = self._known.get(_key(runtime))
        if overhead is None or not runtime.available:
            return runtime
        self._forecasts.set_overhead(runtime.name, overhead)
        return replace(runtime, overhead_bytes=overhead.base_bytes)

    async def measured(self, runtime: Runtime) -> Runtime:
        """As `known`; an engine that is new is measured, for some seconds."""
        key = _key(runtime)
        if self._allowed and runtime.available and key not in self._known:
            try:
                overhead = await calibrate(runtime.name, self._engines.plan, self._measure)
            except (DeckError, OSError) as error:
                logger.info("what %s takes could not be measured: %s", key, error)
                return runtime
            self._known[key] = overhead
            logger.info(
                "%s takes %.1f MiB besides a model, and %.0f bytes a token",
                key,
                overhead.base_bytes / (1 << 20),
                overhead.per_token_bytes,
            )
            try:
                await self._store.put("calibrations", key, msgspec.json.encode(overhead))
            except DeckError as error:
                logger.warning("%s", error)
        return self.known(runtime)


def _key(runtime: Runtime) -> str:
    return f"{runtime.name} {runtime.version}"
