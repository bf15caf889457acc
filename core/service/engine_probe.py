"""Finds out which engines this machine has, for `State.runtimes`.

An engine that does not start may do so later: a disk that is busy after the start of the machine
reads Python's libraries too slowly, or the package is being installed. So it is probed again, a few
times.
"""

from __future__ import annotations

import asyncio

from modeldeck.core.runtime.engines_manager import Engines
from modeldeck.core.schema import Engine
from modeldeck.core.schema.state import RuntimesChanged
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.library.library import ModelLibrary
from modeldeck.core.service.loading.measurements import Calibrator

AGAIN_S = (30.0, 120.0, 600.0)
"""Seconds before each further probe of engines that could not be used."""


class EngineProbe:
    """Probes the engines, and keeps `State.runtimes`."""

    def __init__(
        self, *, feed: Feed, engines: Engines, library: ModelLibrary, calibrator: Calibrator
    ) -> None:
        self._feed = feed
        self._engines = engines
        self._library = library
        self._calibrator = calibrator

    def version_of(self, engine: str) -> str | None:
        """Return the version of an engine as probed, or None."""
        return next((r.version for r in self._feed.state.runtimes if r.name == engine), None)

    async def run(self) -> None:
        """Probe all engines, and again those that cannot be used, until all can or time is up."""
        await self._probe()
        for seconds in AGAIN_S:
            failed = [r.name for r in self._feed.state.runtimes if not r.available]
            if not failed:
                return
            await asyncio.sleep(seconds)
            await self._probe(*failed)

    async def _probe(self, *names: Engine) -> None:
        found = {r.name: self._calibrator.known(r) for r in await self._engines.probe(*names)}
        before = self._feed.state.runtimes
        runtimes = tuple(found.get(r.name, r) for r in before) or tuple(found.values())
        if runtimes != before:
            self._feed.commit(RuntimesChanged, runtimes=runtimes)
        available = {f: r.name for r in runtimes if r.available for f in r.formats}
        self._library.set_engines(available)
        measured = tuple([await self._calibrator.measured(runtime) for runtime in runtimes])
        if measured != runtimes:
            self._feed.commit(RuntimesChanged, runtimes=measured)
