"""Creates the parts of the service, connects them, and runs their background tasks.

Each part gets only the collaborators that it uses; their state changes are committed to State here.
Closing order: no new work, downloads (all durable), engines, database.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from modeldeck.core import __version__
from modeldeck.core.cache.stores import CacheStores
from modeldeck.core.catalog import hub_token
from modeldeck.core.catalog.hub import HubClient
from modeldeck.core.concurrency import BackgroundTasks
from modeldeck.core.config.config import Config, Problem
from modeldeck.core.config.paths import Paths
from modeldeck.core.downloads.http.source import DownloadSource
from modeldeck.core.downloads.queue import DownloadQueue
from modeldeck.core.formats import gguf_parser
from modeldeck.core.memory import probe
from modeldeck.core.network.failures import shown
from modeldeck.core.network.proxy_selector import ProxySelector
from modeldeck.core.runtime.engines_manager import Engines
from modeldeck.core.runtime.planning.prefix_cache import prefix_cache_bytes
from modeldeck.core.schema import (
    Download,
    Host,
    Instance,
    InstanceState,
    Settings,
)
from modeldeck.core.schema.clock import now
from modeldeck.core.schema.state import (
    DownloadChanged,
    HostChanged,
    InstanceChanged,
    InstanceRemoved,
    RuntimesChanged,
    State,
)
from modeldeck.core.service.answers.running import KeptAnswers
from modeldeck.core.service.bandwidth import BandwidthController
from modeldeck.core.service.counters import Counters
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.hub_status import HubStatus
from modeldeck.core.service.inference.answers import ModelAnswers
from modeldeck.core.service.inference.request_records import RequestRecords
from modeldeck.core.service.library.copying import ModelCopying
from modeldeck.core.service.library.deletion import ModelDeletion
from modeldeck.core.service.library.library import ModelLibrary
from modeldeck.core.service.library.pulling import ModelDownloads
from modeldeck.core.service.library.verification import CacheVerification
from modeldeck.core.service.loading.alternatives import AlternativeFinder
from modeldeck.core.service.loading.fit import FitChecker, MemoryBudget
from modeldeck.core.service.loading.forecast import Forecaster
from modeldeck.core.service.loading.loader import Loader, has_ended
from modeldeck.core.service.loading.measurements import Calibrator, LoadHistory
from modeldeck.core.service.loading.on_demand import OnDemandLoader
from modeldeck.core.service.loading.options import OptionResolver
from modeldeck.core.service.loading.planner import LoadPlanner
from modeldeck.core.service.model_users import ModelUsers
from modeldeck.core.service.sampler import ResourceSampler
from modeldeck.core.service.undo_log import UndoLog
from modeldeck.core.storage.api_tokens import ApiTokens
from modeldeck.core.storage.audit import AuditTrail
from modeldeck.core.storage.database import Database
from modeldeck.core.storage.log import CountingHandler, LogBuffer, LogHandler, Notices


class ServiceParts:
    """The parts of a `Deck`. Call `open` first; its exit stack closes everything."""

    def __init__(self, paths: Paths, config: Config, problems: Sequence[Problem]) -> None:
        self.paths = paths
        self.config = config
        self.log = LogBuffer()
        self.store = Database(paths.database)
        self.audit = AuditTrail(self.store)
        self.undo = UndoLog()
        self.tokens = ApiTokens(self.store)
        self.counters = Counters()
        self._load_lock = asyncio.Lock()
        """Held while a load is decided, and while files of models are deleted."""
        self.tasks = BackgroundTasks()
        self.answers = KeptAnswers(self.tasks)
        self.notices = Notices([str(problem) for problem in problems])

    async def open(self, stack: AsyncExitStack) -> None:
        """Open all parts in order; the stack closes the open ones in reverse order."""
        handler = CountingHandler(LogHandler(self.log))
        logging.getLogger("modeldeck.core").addHandler(handler)
        stack.callback(handler.close)
        stack.callback(logging.getLogger("modeldeck.core").removeHandler, handler)
        self._report_unhandled(stack)
        stack.push_async_callback(self.store.close)
        await self.store.open()
        stack.push_async_callback(self.audit.flush)
        await self.tokens.open()
        stack.push_async_callback(self.tokens.close)
        self.host_id = await self.store.installation_id()
        self.feed = Feed(State(host=self._host(), settings=self._settings()))
        self.hub_status = HubStatus(self.feed)
        self.notices.on_change = self._notices_changed
        # Closed before the database: tasks still write records when the engines end.
        stack.push_async_callback(self.tasks.close)
        await self._open_parts(stack)
        self.bandwidth.update()
        await self.downloads.open()
        stack.push_async_callback(self.downloads.close)
        await self.sampler.refresh()
        for text in self.store.unreadable:
            self.notices.add(text)
        stack.callback(self.tasks.cancel)
        self.tasks.start(self.sampler.watch(), name="watching memory and the cache")
        self.tasks.start(self.bandwidth.watch(), name="watching the schedule of downloads")
        self.tasks.start(self._probe_engines(), name="probing the engines")

    def _report_unhandled(self, stack: AsyncExitStack) -> None:
        """Log exceptions that no task handles, and show them in State, while the stack is open."""
        loop = asyncio.get_running_loop()
        stack.callback(loop.set_exception_handler, loop.get_exception_handler())
        loop.set_exception_handler(self.notices.unhandled)

    def _notices_changed(self, notices: tuple[str, ...]) -> None:
        self.feed.commit(HostChanged, host=replace(self.feed.state.host, notices=notices))

    async def _open_parts(self, stack: AsyncExitStack) -> None:
        self._open_library(stack)
        await self._open_runtime(stack)
        self._make_downloads()
        self._make_cache_actions()
        await self.library.open()

    def _read_token(self) -> str | None:
        return hub_token.stored(self.paths.hf_home)

    def _open_library(self, stack: AsyncExitStack) -> None:
        config = self.config
        self.cache = CacheStores(self.paths.hf_cache, self.paths.files)
        self.proxy_selector = ProxySelector()
        stack.push_async_callback(self.proxy_selector.close)
        self.source = DownloadSource(
            config.hub.endpoint,
            self._read_token,
            config.downloads.stall_s,
            trusted_hosts=config.downloads.trusted_hosts,
            outward=self.proxy_selector,
        )
        self.hub = HubClient(
            config.hub.endpoint,
            self._read_token,
            self.paths.cache / "hub",
            config.hub.timeout_s,
            self.proxy_selector,
        )
        stack.push_async_callback(self.hub.close)
        self.library = ModelLibrary(
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
            prefix_folder=self.paths.prefixes,
            measure=probe.process,
            on_change=self._instance_changed,
            on_log=self.log.add,
        )
        await self.engines.open()
        stack.push_async_callback(self.engines.close)
        self.budget = MemoryBudget(feed=self.feed, config_file=self.paths.config_file)
        self.option_resolver = OptionResolver(config, self.store)
        self.history = LoadHistory(self.store)
        await self.option_resolver.open()
        await self.history.open()
        self._make_loader()
        await self.calibrator.open()
        self.on_demand = OnDemandLoader(
            loader=self.loader,
            engines=self.engines,
            instance_of=self.instance_of,
            tasks=self.tasks,
            allowed=config.api.load_on_demand,
            most_waiting=config.runtime.queue_length,
        )
        self.requests = RequestRecords(self.feed)
        stack.callback(self.requests.close)
        self.model_answers = ModelAnswers(
            records=self.requests,
            on_demand=self.on_demand,
            engines=self.engines,
            counters=self.counters,
        )

    def _make_loader(self) -> None:
        config = self.config
        self.forecaster = Forecaster(
            hub=self.hub, library=self.library, engines=self.engines, history=self.history
        )
        self.calibrator = Calibrator(
            store=self.store,
            engines=self.engines,
            forecaster=self.forecaster,
            measure=probe.process,
            allowed=config.runtime.calibrate,
        )
        self.fit_checker = FitChecker(
            reserve_bytes=config.runtime.memory_reserve_bytes,
            budget=self.budget,
            option_resolver=self.option_resolver,
            forecaster=self.forecaster,
            engines=self.engines,
            memory=probe.system,
        )
        self.planner = LoadPlanner(
            library=self.library,
            option_resolver=self.option_resolver,
            forecaster=self.forecaster,
            fit_checker=self.fit_checker,
            alternatives=AlternativeFinder(self.library),
            instances=lambda: tuple(self.feed.state.instances.values()),
            runtimes=lambda: self.feed.state.runtimes,
            may_unload=config.runtime.when_full == "unload_idle",
            prefix_cache_bytes=lambda: prefix_cache_bytes(
                config.runtime.prefix_cache_bytes, self.feed.state.memory.total_bytes
            ),
        )
        self.loader = Loader(
            library=self.library,
            engines=self.engines,
            planner=self.planner,
            option_resolver=self.option_resolver,
            history=self.history,
            audit=self.audit,
            ask_hub=self.hub_status.ask,
            instance_of=self.instance_of,
            version_of=self._version_of,
            sample=lambda: self.sampler.sample(),
            load_lock=self._load_lock,
        )

    def _make_downloads(self) -> None:
        config = self.config
        self.downloads = DownloadQueue(
            store=self.store,
            cache=self.cache,
            settings=config.downloads,
            source=self.source,
            free_bytes=lambda repo: probe.free_disk(self.cache.of(repo).root),
            on_change=self._download_changed,
            check=_check_gguf,
        )
        self.model_downloads = ModelDownloads(
            feed=self.feed,
            library=self.library,
            downloads=self.downloads,
            ask_hub=self.hub_status.ask,
            refusal=self.forecaster.refusal,
        )
        self.users = ModelUsers(
            feed=self.feed,
            library=self.library,
            engines=self.engines,
            downloads=self.model_downloads,
        )
        self.bandwidth = BandwidthController(
            feed=self.feed,
            settings=config.downloads,
            config_file=self.paths.config_file,
            set_limit=self.downloads.set_limit,
            set_jobs_at_once=self.downloads.set_jobs_at_once,
        )

    def _make_cache_actions(self) -> None:
        self.deletion = ModelDeletion(
            feed=self.feed,
            library=self.library,
            downloads=self.downloads,
            cache=self.cache,
            release=self.users.release,
            users=self.users.instances,
            load_lock=self._load_lock,
            undo=self.undo,
        )
        self.verification = CacheVerification(
            feed=self.feed,
            library=self.library,
            cache=self.cache,
            choose=self.deletion.choose,
            tasks=self.tasks,
        )
        self.copying = ModelCopying(
            library=self.library, downloads=self.downloads, cache=self.cache
        )
        self.sampler = ResourceSampler(
            feed=self.feed,
            roots=self.cache.roots,
            reserve_bytes=self.config.runtime.memory_reserve_bytes,
            sample_engines=self.engines.sample,
            look_at_cache=self.library.look,
        )

    def _host(self) -> Host:
        return Host(
            id=self.host_id,
            name=socket.gethostname(),
            version=__version__,
            started_at=now(),
            pid=os.getpid(),
            platform=f"{platform.system().lower()} {platform.machine()}",
            hub=shown(self.config.hub.endpoint),
            notices=self.notices.all,
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
        """Return the version of an engine as probed, or None."""
        return next((r.version for r in self.feed.state.runtimes if r.name == engine), None)

    async def _probe_engines(self) -> None:
        found = await self.engines.probe()
        runtimes = tuple(self.calibrator.known(runtime) for runtime in found)
        self.feed.commit(RuntimesChanged, runtimes=runtimes)
        self.library.set_engines({f: r.name for r in runtimes if r.available for f in r.formats})
        measured = tuple([await self.calibrator.measured(runtime) for runtime in runtimes])
        if measured != runtimes:
            self.feed.commit(RuntimesChanged, runtimes=measured)

    # Callbacks of the parts: they commit to State

    def _instance_changed(self, instance: Instance) -> None:
        if has_ended(instance):
            self.tasks.start(self.loader.ended(instance), name="recording what a load took")
        if instance.state is InstanceState.STOPPED:
            self.feed.commit(InstanceRemoved, id=instance.id)
            self.on_demand.instance_changed()
            return
        before = self.feed.state.instances.get(instance.id)
        self.feed.commit(InstanceChanged, instance=instance)
        self.on_demand.instance_changed()
        was_starting = before is not None and before.state is InstanceState.STARTING
        if was_starting and instance.state is InstanceState.READY:
            self.tasks.start(self.loader.ready(instance), name="remembering the load options")
            # Measured at once: the client that loaded it wants to see what it takes.
            self.tasks.start(self.engines.sample(), name="measuring the engines")

    def _download_changed(self, job: Download) -> None:
        """Commit a job; a completed one only after its model is `downloaded` in State.

        Clients list the models again when a download completes.
        """
        self.counters.download(job)
        if job.state == "completed":
            self.tasks.start(self._list_completed(job), name=f"listing {job.unique}")
        else:
            self.feed.commit(DownloadChanged, download=job)

    async def _list_completed(self, job: Download) -> None:
        try:
            await self.library.look(force=True)
        finally:
            self.feed.commit(DownloadChanged, download=job)
        await self.sampler.count_disk()

    def instance_of(self, model_id: str) -> Instance | None:
        """Return the instance of a model that is loaded or being loaded, or None."""
        for instance in self.feed.state.instances.values():
            if instance.model_id == model_id and instance.state.live:
                return instance
        return None


def _check_gguf(path: Path) -> None:
    """Raise Corrupt for a file that is not GGUF, or is shorter than its header says. Blocks."""
    gguf_parser.check_size(gguf_parser.read(path), path.stat().st_size)
