"""Measurements on this machine that correct memory forecasts, kept in the database.

- Overhead: memory that an engine's process takes besides models, measured once per engine version.
- Load history: forecast and measured memory of past loads. A forecast knows weights, cache and
  buffers to the byte; it can miss what the process allocates besides. So the correction is a share
  of the part that is not weights: the median excess of earlier loads of the same engine and
  architecture, else of the same engine. A median, because one outlier must not change it.
"""

from __future__ import annotations

import logging
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Protocol

import msgspec

from modeldeck.core.errors import DeckError, StorageFailed
from modeldeck.core.runtime.engines_manager import Engines
from modeldeck.core.runtime.planning.calibration import calibrate
from modeldeck.core.schema import (
    Engine,
    Forecast,
    LoadRecord,
    ProcessMemory,
    Runtime,
    model_id,
)
from modeldeck.core.schema.overhead import ProcessOverhead
from modeldeck.core.storage.database import Database

logger = logging.getLogger(__name__)

KEPT = 500
"""Number of loads that are kept."""
LEARNED_FROM = 15
"""Number of newest loads of a kind that count: engines change."""
FULL = 0.9
"""Fraction of its context from which a load has taken nearly all of its memory. A load that used
less counts only if it exceeded its forecast even so."""
LEAST, MOST = -0.5, 2.0
"""Corrections outside this range are ignored as outliers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadStatistics:
    """Correction derived from earlier loads."""

    share: float = 0.0
    """To be added to a forecast, as a share of its part that is not weights."""
    samples: int = 0


def uncorrected(forecast: Forecast) -> Forecast:
    """Return a forecast without its correction. Pure."""
    total = forecast.total_bytes - forecast.correction_bytes
    return replace(forecast, total_bytes=total, correction_bytes=0, samples=0)


def corrected(forecast: Forecast, statistics: LoadStatistics) -> Forecast:
    """Return a forecast with a correction. Pure.

    >>> plain = Forecast(total_bytes=150, weights_bytes=100, kv_bytes=20, compute_bytes=20,
    ...                  overhead_bytes=10, exact=True)
    >>> corrected(plain, LoadStatistics(share=0.1, samples=3)).total_bytes
    155
    """
    correction = round(statistics.share * _not_weights(forecast))
    return replace(
        forecast,
        total_bytes=forecast.total_bytes + correction,
        correction_bytes=correction,
        samples=statistics.samples,
    )


def _not_weights(forecast: Forecast) -> int:
    return forecast.kv_bytes + forecast.compute_bytes + forecast.overhead_bytes


def share(record: LoadRecord) -> float | None:
    """Return what one load took beyond its forecast, as a share of all that is not weights. Pure.

    None for a load that must not count: it was used too little, it is an outlier, or its memory on
    a GPU was not known. A projector takes its share only with the largest image, and whether there
    was one is not recorded.
    """
    forecast = uncorrected(record.forecast)
    not_weights = _not_weights(forecast)
    if forecast.machine_bytes is None:
        return None
    excess = record.peak_bytes - record.prefix_cache_bytes - forecast.machine_bytes
    used, length = record.used_tokens or 0, record.context_length or 0
    full = used >= FULL * max(1, length) and not forecast.projector_bytes
    if not_weights <= 0 or (excess < 0 and not full):
        return None
    found = excess / not_weights
    return found if LEAST <= found <= MOST else None


def learn(
    records: Iterable[LoadRecord], engine: Engine, architecture: str | None
) -> LoadStatistics:
    """Derive the correction for the next load of this kind from loads, oldest first. Pure."""
    of_engine = [record for record in records if record.engine == engine]
    same = [record for record in of_engine if record.architecture == architecture]
    for kind in (same if architecture else [], of_engine):
        known = [found for record in kind if (found := share(record)) is not None]
        if known:
            newest = known[-LEARNED_FROM:]
            return LoadStatistics(share=median(newest), samples=len(newest))
    return LoadStatistics()


class LoadHistory:
    """Records of the loads of this machine, kept in the database."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self._records: deque[LoadRecord] = deque(maxlen=KEPT)
        self._keys: deque[str] = deque()

    async def open(self) -> None:
        """Read the database."""
        for key, record in await self._store.records("measurements", LoadRecord):
            self._keys.append(key)
            self._records.append(record)
        try:
            await self._drop_old()
        except StorageFailed as error:
            logger.warning("Old measurements stay for now: %s", error)

    @property
    def records(self) -> Sequence[LoadRecord]:
        """The kept records, oldest first."""
        return tuple(self._records)

    @property
    def last_used(self) -> Mapping[str, str]:
        """When models answered last, by id: that of their last load."""
        return {model_id(record.unique): record.used_at or record.at for record in self._records}

    def correct(self, forecast: Forecast, engine: Engine, architecture: str | None) -> Forecast:
        """Return a forecast corrected by earlier loads of this kind."""
        return corrected(forecast, learn(self._records, engine, architecture))

    async def add(self, record: LoadRecord) -> None:
        """Store the record of a load. Raises StorageFailed."""
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
    """Receives the measured overhead of an engine; implemented by the Forecaster."""

    def set_overhead(self, engine: Engine, overhead: ProcessOverhead) -> None:
        """Set the memory that an engine's process takes besides the planned memory."""


class Calibrator:
    """Measures the overhead of new engine versions, and gives it to the forecaster."""

    def __init__(
        self,
        *,
        store: Database,
        engines: Engines,
        forecaster: OverheadUser,
        measure: Callable[[int], ProcessMemory | None],
        allowed: bool,
    ) -> None:
        """Without `allowed` nothing is measured; stored measurements still count."""
        self._store = store
        self._engines = engines
        self._forecaster = forecaster
        self._measure = measure
        self._allowed = allowed
        self._known: dict[str, ProcessOverhead] = {}

    async def open(self) -> None:
        """Read the stored measurements."""
        self._known.update(await self._store.records("calibrations", ProcessOverhead))

    def known(self, runtime: Runtime) -> Runtime:
        """Return an engine with its measured overhead, if any, and give it to the forecaster."""
        overhead = self._known.get(_key(runtime))
        if overhead is None or not runtime.available:
            return runtime
        self._forecaster.set_overhead(runtime.name, overhead)
        return replace(runtime, overhead_bytes=overhead.base_bytes)

    async def measured(self, runtime: Runtime) -> Runtime:
        """Measure a new engine version, which takes some seconds. Returns it as `known` does."""
        key = _key(runtime)
        if self._allowed and runtime.available and key not in self._known:
            try:
                overhead = await calibrate(runtime.name, self._engines.plan, self._measure)
            except (DeckError, OSError) as error:
                logger.info("the overhead of %s could not be measured: %s", key, error)
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
