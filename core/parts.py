"""The parts of a core, wired to each other, and the tasks that keep them going.

Each part is told what it needs and nothing else; what it says goes into State here. Order of the
end: no new work, downloads (all durable), engines, store.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import socket
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import (
    AsyncExitStack,
)
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from core import __version__
from core.alternatives import Alternatives
from core.audit import Audit
from core.budget import Budget
from core.cache.shelves import Shelves
from core.calibrations import Calibrations
from core.catalog import gguf, token
from core.catalog.hub import Hub
from core.choices import Choices
from core.config import Config, Problem
from core.counting import Counters
from core.downloads.queue import Downloads
from core.downloads.source import Source
from core.errors import HubUnavailable, ServerUnavailable
from core.feed import Feed
from core.fetching import Fetching
from core.fitting import Fitting
from core.forecasting import Forecasts
from core.ledger import Ledger
from core.library import Library
from core.loading import Loading, has_ended
from core.log import Log, LogHandler, now
from core.memory import probe
from core.ondemand import OnDemand
from core.paths import Paths
from core.planning import Planning
from core.removal import Removal
from core.runtime.scheduler import Engines
from core.schema import (
    Download,
    Host,
    Instance,
    InstanceState,
    Model,
    Settings,
)
from core.sharing import Sharing
from core.state import (
    DownloadChanged,
    HostChanged,
    InstanceChanged,
    InstanceRemoved,
    RuntimesChanged,
    State,
)
from core.store import Store
from core.throttle import Throttle
from core.tokens import Tokens
from core.undo import Undo
from core.upkeep import Upkeep
from core.vitals import Vitals

T = TypeVar("T")


class Parts:
    """What a deck is made of. `open` first; the exit stack it is given closes everything."""

    def __init__(self, paths: Paths, config: Config, problems: Sequence[Problem]) -> None:
        self.paths = paths
        self.config = config
        self.log = Log()
        self.store = Store(paths.database)
        self.audit = Audit(self.store)
        self.undo = Undo()
        self.tokens = Tokens(self.store)
        self.counters = Counters()
        self._problems = problems
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, stack: AsyncExitStack) -> None:
        """Open them in order; what was open is closed by the stack, in the other order."""
        handler = LogHandler(self.log)
        logging.getLogger("core").addHandler(handler)
        stack.callback(logging.getLogger("core").removeHandler, handler)
        stack.push_async_callback(self.store.close)
        await self.store.open()
        await self.tokens.open()
        stack.push_async_callback(self.tokens.close)
        self.host_id = await self.store.installation_id()
        self.feed = Feed(State(host=self._host(), settings=self._settings()))
        self._group = await stack.enter_async_context(asyncio.TaskGroup())
        await self._open_parts(stack)
        self.throttle.decide()
        await self.downloads.open()
        stack.push_async_callback(self.downloads.close)
        await self.vitals.look()
        stack.callback(self._cancel_tasks)
        self.spawn(self.vitals.watch())
        self.spawn(self.throttle.watch())
        self.spawn(self._probe_engines())

    async def _open_parts(self, stack: AsyncExitStack) -> None:
        self._open_library(stack)
        await self._open_runtime(stack)
        self._make_downloads()
        self._make_upkeep()
        await self.library.open()

    def _read_token(self) -> str | None:
        return token.stored(self.paths.hf_home)

    def _open_library(self, stack: AsyncExitStack) -> None:
        config = self.config
        self.cache = Shelves(self.paths.hf_cache, self.paths.files)
        self.source = Source(
            config.hub.endpoint,
            self._read_token,
            config.downloads.stall_s,
            trusted_hosts=config.downloads.trusted_hosts,
        )
        self.hub = Hub(
            config.hub.endpoint, self._read_token, self.paths.cache / "hub", config.hub.timeout_s
        )
        stack.push_async_callback(self.hub.close)
        self.library = Library(
            feed=self.feed,
            store=self.store,
            hub=self.hub,
            source=self.source,
            roots=self.cache.roots,
        )

    async def _open_runtime(self, stack: AsyncExitStack) -> None:
        config = self.config
        self.engines = Engines(
            settings=config.runtime,
            measure=probe.process,
            on_change=self._instance_changed,
            on_log=self.log.add,
        )
        await self.engines.open()
        stack.push_async_callback(self.engines.close)
        self.budget = Budget(feed=self.feed, config_file=self.paths.config_file)
        self.choices = Choices(config, self.store)
        self.ledger = Ledger(self.store)
        await self.choices.open()
        await self.ledger.open()
        self._make_loading()
        await self.calibrations.open()
        self.on_demand = OnDemand(
            loading=self.loading,
            engines=self.engines,
            instance_of=self.instance_of,
            spawn=self.spawn,
            allowed=config.api.load_on_demand,
        )

    def _make_loading(self) -> None:
        config = self.config
        self.forecasts = Forecasts(
            hub=self.hub, library=self.library, engines=self.engines, ledger=self.ledger
        )
        self.calibrations = Calibrations(
            store=self.store,
            engines=self.engines,
            forecasts=self.forecasts,
            measure=probe.process,
            allowed=config.runtime.calibrate,
        )
        self.fitting = Fitting(
            config=config,
            budget=self.budget,
            choices=self.choices,
            forecasts=self.forecasts,
            engines=self.engines,
            memory=probe.system,
        )
        self.planning = Planning(
            library=self.library,
            choices=self.choices,
            forecasts=self.forecasts,
            fitting=self.fitting,
            alternatives=Alternatives(self.library),
            instances=lambda: tuple(self.feed.state.instances.values()),
            runtimes=lambda: self.feed.state.runtimes,
            may_unload=config.runtime.when_full == "unload_idle",
        )
        self.loading = Loading(
            library=self.library,
            engines=self.engines,
            planning=self.planning,
            choices=self.choices,
            ledger=self.ledger,
            audit=self.audit,
            ask_hub=self.ask_hub,
            instance_of=self.instance_of,
            version_of=self._version_of,
            sample=lambda: self.vitals.sample(),
        )

    def _make_downloads(self) -> None:
        config = self.config
        self.downloads = Downloads(
            store=self.store,
            cache=self.cache,
            settings=config.downloads,
            source=self.source,
            free_bytes=lambda repo: probe.free_disk(self.cache.of(repo).root),
            on_change=self._download_changed,
            check=_check_gguf,
        )
        self.fetching = Fetching(
            feed=self.feed,
            library=self.library,
            downloads=self.downloads,
            ask_hub=self.ask_hub,
            refusal=self.forecasts.refusal,
        )
        self.throttle = Throttle(
            feed=self.feed,
            settings=config.downloads,
            config_file=self.paths.config_file,
            set_limit=self.downloads.set_limit,
            set_jobs_at_once=self.downloads.set_jobs_at_once,
        )

    def _make_upkeep(self) -> None:
        self.removal = Removal(
            feed=self.feed,
            library=self.library,
            downloads=self.downloads,
            cache=self.cache,
            release=self.release,
            undo=self.undo,
        )
        self.upkeep = Upkeep(
            feed=self.feed,
            library=self.library,
            cache=self.cache,
            choose=self.removal.choose,
            spawn=self.spawn,
        )
        self.sharing = Sharing(library=self.library, downloads=self.downloads, cache=self.cache)
        self.vitals = Vitals(
            feed=self.feed,
            roots=self.cache.roots,
            reserve_bytes=self.config.runtime.memory_reserve_bytes,
            sample_engines=self.engines.sample,
            look_at_cache=self.library.look,
        )

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it in the background, until it is done or the core ends."""
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _host(self) -> Host:
        return Host(
            id=self.host_id,
            name=socket.gethostname(),
            version=__version__,
            started_at=now(),
            pid=os.getpid(),
            platform=f"{platform.system().lower()} {platform.machine()}",
            hub=self.config.hub.endpoint,
            notices=tuple(str(problem) for problem in self._problems),
        )

    def _settings(self) -> Settings:
        return Settings(
            jobs_at_once=self.config.downloads.jobs_at_once,
            disk_floor_bytes=self.config.downloads.disk_floor_bytes,
            memory_budget_bytes=self.config.runtime.memory_budget_bytes,
            context_length=self.config.runtime.context_length,
            context_fit=self.config.runtime.context_fit,
            idle_ttl_s=self.config.runtime.idle_ttl_s,
            when_full=self.config.runtime.when_full,
        )

    def _version_of(self, engine: str) -> str | None:
        """The version of an engine, as it was probed."""
        return next((r.version for r in self.feed.state.runtimes if r.name == engine), None)

    async def _probe_engines(self) -> None:
        found = await self.engines.probe()
        runtimes = tuple(self.calibrations.known(runtime) for runtime in found)
        self.feed.commit(RuntimesChanged, runtimes=runtimes)
        self.library.set_engines({f: r.name for r in runtimes if r.available for f in r.formats})
        measured = tuple([await self.calibrations.measured(runtime) for runtime in runtimes])
        if measured != runtimes:
            self.feed.commit(RuntimesChanged, runtimes=measured)

    # What changes State: called by the parts

    def _instance_changed(self, instance: Instance) -> None:
        if has_ended(instance):
            self.spawn(self.loading.ended(instance))
        if instance.state is InstanceState.STOPPED:
            self.feed.commit(InstanceRemoved, id=instance.id)
            return
        before = self.feed.state.instances.get(instance.id)
        self.feed.commit(InstanceChanged, instance=instance)
        was_starting = before is not None and before.state is InstanceState.STARTING
        if was_starting and instance.state is InstanceState.READY:
            self.spawn(self.loading.ready(instance))
            self.spawn(self.engines.sample())  # whoever loaded it wants to see what it takes

    def _download_changed(self, job: Download) -> None:
        """A completed job is told only when State says `downloaded`: clients list models on it."""
        self.counters.download(job)
        if job.state == "completed":
            self.spawn(self._completed(job))
        else:
            self.feed.commit(DownloadChanged, download=job)

    async def _completed(self, job: Download) -> None:
        await self.library.look(force=True)
        self.feed.commit(DownloadChanged, download=job)
        await self.vitals.count_disk()

    # What parts ask of each other

    def instance_of(self, model_id: str) -> Instance | None:
        """The instance of a model that is loaded or being loaded."""
        for instance in self.feed.state.instances.values():
            if instance.model_id == model_id and instance.state.live:
                return instance
        return None

    async def ask_hub(self, question: Awaitable[T]) -> T:
        """The answer to a question to the Hub; that it could not be asked is told in State."""
        try:
            return await question
        except ServerUnavailable:
            raise  # it says nothing of the Hub
        except HubUnavailable as error:
            self.note_hub(error.message)
            raise

    def note_hub(self, error: str | None) -> None:
        """Tell in State why the Hub could not be asked, or that it answered."""
        host = self.feed.state.host
        if error != host.hub_error:
            self.feed.commit(HostChanged, host=replace(host, hub_error=error))

    async def release(self, models: Sequence[Model]) -> None:
        """Let go of the files: downloads are cancelled, instances unloaded."""
        for model in models:
            await self.fetching.drop(model)
            if (instance := self.instance_of(model.id)) is not None:
                await self.engines.unload(instance.id)


def _check_gguf(path: Path) -> None:
    """Raise Corrupt for a file that is not GGUF, or has less than its header says. Blocks."""
    gguf.check_size(gguf.read(path), path.stat().st_size)
