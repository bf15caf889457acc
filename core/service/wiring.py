"""Creates the parts of the service, connects them, and runs their background tasks.

Each part gets only the collaborators that it uses; their state changes are committed to State here.
Closing order: no new work, downloads (all durable), engines, database.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from modeldeck.core.catalog import builtin, hub_token
from modeldeck.core.catalog.hub import HubClient
from modeldeck.core.concurrency import BackgroundTasks
from modeldeck.core.config.config import Config
from modeldeck.core.config.config_file import Problem
from modeldeck.core.config.paths import Paths
from modeldeck.core.downloads.http.source import DownloadSource
from modeldeck.core.downloads.queue import DownloadQueue
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.formats import gguf_parser
from modeldeck.core.hub_cache.stores import CacheStores
from modeldeck.core.memory import probe
from modeldeck.core.network.proxy_selector import ProxySelector
from modeldeck.core.runtime.engines_manager import Engines
from modeldeck.core.runtime.planning.prefix_cache_size import prefix_cache_bytes
from modeldeck.core.schema import Download, Instance, InstanceState, LoadOptions, LoadWish, Model
from modeldeck.core.schema.state import (
    DownloadChanged,
    HostChanged,
    InstanceChanged,
    InstanceRemoved,
    SettingsChanged,
)
from modeldeck.core.service.answers.running import KeptAnswers
from modeldeck.core.service.bandwidth import BandwidthController
from modeldeck.core.service.bench.bench_runs import BenchRuns
from modeldeck.core.service.counters import Counters
from modeldeck.core.service.engine_probe import EngineProbe
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.hub_status import HubStatus
from modeldeck.core.service.inference.answers import ModelAnswers
from modeldeck.core.service.inference.media_fetcher import MediaFetcher
from modeldeck.core.service.inference.recorder import RequestRecorder
from modeldeck.core.service.inference.request_records import RequestRecords
from modeldeck.core.service.initial_state import initial_state
from modeldeck.core.service.library.copying import ModelCopying
from modeldeck.core.service.library.deletion import ModelDeletion
from modeldeck.core.service.library.library import ModelLibrary
from modeldeck.core.service.library.other_tools import tool_folders
from modeldeck.core.service.library.pulling import ModelDownloads
from modeldeck.core.service.library.updates import UpdateChecker
from modeldeck.core.service.library.verification import CacheVerification
from modeldeck.core.service.loading.alternatives import AlternativeFinder
from modeldeck.core.service.loading.fit import FitChecker
from modeldeck.core.service.loading.forecast import Forecaster
from modeldeck.core.service.loading.loader import Loader, has_ended
from modeldeck.core.service.loading.measurements import Calibrator, LoadHistory
from modeldeck.core.service.loading.memory_budget import MemoryBudget
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
        self.tokens.on_revoked(lambda token: self.answers.cancel_all_of(token.id))
        self.host_id = await self.store.installation_id()
        self.feed = Feed(initial_state(self.host_id, self.config, self.notices.all))
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
        self.tasks.start(self.engine_probe.run(), name="probing the engines")
        self.tasks.start(self.updates.watch(), name="asking the Hub for updates")

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
        await self.updates.open()
        await self.bench.open()

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
        self.media_fetcher = MediaFetcher(self.source)
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
            catalog=self._listed_models(),
            other_tools=tool_folders(config.catalog.also_from, Path.home(), os.environ),
        )

    def _listed_models(self) -> tuple[Model, ...]:
        """The catalog of the configuration, then the built-in one."""
        listed: tuple[Model, ...] = ()
        if self.config.hub.catalog:
            try:
                listed = builtin.load_file(Path(self.config.hub.catalog))
            except InvalidRequest as error:
                self.notices.add(f"{error.message} {error.remedy}")
        return (*listed, *builtin.load())

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
        self.option_resolver = OptionResolver(config, self.store, self._defaults_saved)
        self.history = LoadHistory(self.store)
        await self.option_resolver.open()
        await self.history.open()
        self._make_loader()
        self.library.set_last_used(self.history.last_used)
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
        self.recorder = RequestRecorder(self.feed)
        stack.callback(self.recorder.close)
        self.model_answers = ModelAnswers(
            feed=self.feed,
            records=self.requests,
            on_demand=self.on_demand,
            engines=self.engines,
            counters=self.counters,
            recorder=self.recorder,
        )
        self._make_bench()

    def _make_bench(self) -> None:
        async def load(model_id: str, parallel: int | None, origin: str) -> Instance:
            wish = LoadWish(options=LoadOptions(parallel=parallel))
            # What a benchmark is loaded for is no wish for the next load.
            instance = await self.loader.load(model_id, wish, origin, remember=False)
            return await self.engines.ready(instance.id)

        self.bench = BenchRuns(
            feed=self.feed,
            store=self.store,
            answers=self.model_answers,
            records=self.requests,
            tasks=self.tasks,
            load=load,
            measured=self.library.set_speeds,
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
        self.engine_probe = EngineProbe(
            feed=self.feed, engines=self.engines, library=self.library, calibrator=self.calibrator
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
            answers=lambda key: self.requests.for_whom(key),
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
            version_of=self.engine_probe.version_of,
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
            prefixes=self.paths.prefixes,
            release=self.users.release,
            users=self.users.instances,
            load_lock=self._load_lock,
            undo=self.undo,
        )
        self.verification = CacheVerification(
            feed=self.feed,
            library=self.library,
            cache=self.cache,
            prefixes=self.paths.prefixes,
            choose=self.deletion.choose,
            tasks=self.tasks,
        )
        self.updates = UpdateChecker(
            library=self.library,
            store=self.store,
            repository=lambda repo: self.hub_status.ask(self.hub.repository(repo)),
            allowed=self.config.hub.check_updates,
        )
        self.copying = ModelCopying(
            library=self.library, downloads=self.downloads, cache=self.cache
        )
        self.sampler = ResourceSampler(
            feed=self.feed,
            roots=self.cache.roots,
            prefixes=self.paths.prefixes,
            reserve_bytes=self.config.runtime.memory_reserve_bytes,
            sample_engines=self.engines.sample,
            memory_short=self.engines.shrink_caches,
            look_at_cache=self.library.look,
        )

    # Callbacks of the parts: they commit to State

    def _defaults_saved(self, saved: Mapping[str, LoadOptions]) -> None:
        settings = replace(self.feed.state.settings, load_defaults=dict(saved))
        if settings != self.feed.state.settings:
            self.feed.commit(SettingsChanged, settings=settings)

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
        """Commit a job; one that completes only after its model is `downloaded` in State.

        Clients list the models again when a download completes.
        """
        self.counters.download(job)
        before = self.feed.state.downloads.get(job.id)
        # One that State does not know yet was completed before: read from the journal, or restored.
        if job.state == "completed" and before is not None and before.state != "completed":
            self.tasks.start(self._list_completed(job.id), name=f"listing {job.unique}")
        else:
            self.feed.commit(DownloadChanged, download=job)

    async def _list_completed(self, job_id: str) -> None:
        try:
            await self.library.look(force=True)
        finally:
            if (job := self.downloads.jobs.get(job_id)) is not None:  # else removed meanwhile
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
