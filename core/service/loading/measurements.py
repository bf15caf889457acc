"""The ledger: what loads were forecast to take and what they took, and what that teaches.

A forecast knows weights, cache and buffers to the byte; what it can miss is what the engine's
process does besides. So what is learned is a share of the part that is not weights: the median of
what earlier loads took beyond their forecast, of the same engine and architecture where there are
any, else of the same engine. A median, because one strange load must teach nothing.
"""

from __future__ import annotations

import logging
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Protocol

import msgspec

from modeldeck.core.errors import DeckError, StorageFailed
from modeldeck.core.runtime.engines_manager import Engines
from modeldeck.core.runtime.planning.calibration import calibrate
from modeldeck.core.schema import Engine, Forecast, LoadRecord, ProcessMemory, Runtime
from modeldeck.core.schema.overhead import ProcessOverhead
from modeldeck.core.storage.database import Database

logger = logging.getLogger(__name__)

KEPT = 500
"""Loads that are kept."""
LEARNED_FROM = 15
"""The newest loads of a kind that count: engines change."""
FULL = 0.9
"""From this fraction of its context on, a load took about all that it can. One that was used less
tells something only where it took more than was forecast even so."""
LEAST, MOST = -0.5, 2.0
"""Shares beyond these are no lesson but an accident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStatistics:
    """What earlier loads teach."""

    share: float = 0.0
    """To be added, as a share of all that is not weights."""
    samples: int = 0


def uncorrected(forecast: Forecast) -> Forecast:
    """The forecast without what was learned. Pure."""
    total = forecast.total_bytes - forecast.correction_bytes
    return replace(forecast, total_bytes=total, correction_bytes=0, samples=0)


def corrected(forecast: Forecast, lesson: LoadStatistics) -> Forecast:
    """A forecast with what was learned. Pure.

    >>> plain = Forecast(total_bytes=150, weights_bytes=100, kv_bytes=20, compute_bytes=20,
    ...                  overhead_bytes=10, exact=True)
    >>> corrected(plain, LoadStatistics(share=0.1, samples=3)).total_bytes
    155
    """
    correction = round(lesson.share * _movable(forecast))
    return replace(
        forecast,
        total_bytes=forecast.total_bytes + correction,
        correction_bytes=correction,
        samples=lesson.samples,
    )


def _movable(forecast: Forecast) -> int:
    return forecast.kv_bytes + forecast.compute_bytes + forecast.overhead_bytes


def share(record: LoadRecord) -> float | None:
    """What one load took beyond its forecast, as a share of all that is not weights. Pure.

    None where it teaches nothing: it was used too little to tell, it is an accident, or its share
    of a GPU was not known.
    """
    forecast = uncorrected(record.forecast)
    movable = _movable(forecast)
    if forecast.machine_bytes is None:
        return None
    beyond = record.peak_bytes - forecast.machine_bytes
    used, length = record.used_tokens or 0, record.context_length or 0
    if movable <= 0 or (beyond < 0 and used < FULL * max(1, length)):
        return None
    found = beyond / movable
    return found if LEAST <= found <= MOST else None


def learn(
    records: Iterable[LoadRecord], engine: Engine, architecture: str | None
) -> LoadStatistics:
    """What loads, the oldest first, teach about the next one of this kind. Pure."""
    of_engine = [record for record in records if record.engine == engine]
    same = [record for record in of_engine if record.architecture == architecture]
    for kind in (same if architecture else [], of_engine):
        known = [found for record in kind if (found := share(record)) is not None]
        if known:
            newest = known[-LEARNED_FROM:]
            return LoadStatistics(share=median(newest), samples=len(newest))
    return LoadStatistics()


class LoadHistory:
    """The loads of this machine, kept in the store."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self._records: deque[LoadRecord] = deque(maxlen=KEPT)
        self._keys: deque[str] = deque()

    async def open(self) -> None:
        """Read what was kept."""
        for key, record in await self._store.records("measurements", LoadRecord):
            self._keys.append(key)
            self._records.append(record)
        try:
            await self._drop_old()
        except StorageFailed as error:
            logger.warning("Old measurements stay for now: %s", error)

    @property
    def records(self) -> Sequence[LoadRecord]:
        """What is kept, the oldest first."""
        return tuple(self._records)

    def correct(self, forecast: Forecast, engine: Engine, architecture: str | None) -> Forecast:
        """A forecast with what this machine has learned about such loads."""
        return corrected(forecast, learn(self._records, engine, architecture))

    async def add(self, record: LoadRecord) -> None:
        """Keep what a load came to. Raises StorageFailed."""
        key = str(uuid.uuid4())
        await self._store.put("measurements", key, msgspec.json.encode(record))
        self._records.append(record)
        self._keys.append(key)
        await self._drop_old()

    async def _drop_old(self) -> None:
        while len(self._keys) > KEPT:
            await self._store.remove("measurements", self._keys[0])
            self._keys.popleft()


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
        forecaster: OverheadUser,
        measure: Callable[[int], ProcessMemory | None],
        allowed: bool,
    ) -> None:
        """Wire it up; where measuring is not `allowed`, what was measured before still counts."""
        self._store = store
        self._engines = engines
        self._forecaster = forecaster
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
        self._forecaster.set_overhead(runtime.name, overhead)
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
