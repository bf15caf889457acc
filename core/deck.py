"""Deck: the service. Wires the parts, owns their tasks, and is all that the API sees.

Every change ends in State through the feed; a method returns once the action is accepted, or done
where it says so (`loaded`, `unload`, `delete_cached`). Whatever changes something is written to the
audit trail with who asked. Order of the end: no new work, downloads (all durable), engines, store.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import socket
from collections.abc import AsyncIterator, Awaitable, Coroutine, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
)
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from core import __version__, budget
from core.budget import Budget
from core.cache import scan
from core.cache.layout import Cache
from core.catalog import token
from core.catalog.hub import Hub
from core.config import Config, Problem
from core.downloads.queue import Downloads
from core.errors import (
    DeckError,
    EngineFailed,
    EngineMissing,
    HubUnavailable,
    NotDownloaded,
    ShuttingDown,
)
from core.feed import Feed
from core.fetching import Fetching
from core.fitting import Fitting
from core.library import Library
from core.log import Log, LogHandler, now
from core.memory import probe
from core.paths import Paths
from core.removal import Removal
from core.runtime.scheduler import Engines
from core.schema import (
    AuditEntry,
    CacheListing,
    CacheSelection,
    Chunk,
    DeletionPlan,
    DeletionReceipt,
    Download,
    Fit,
    Forecast,
    GenerateRequest,
    Host,
    Instance,
    InstanceState,
    LoadOptions,
    LogLine,
    Model,
    ModelSeed,
    QueueMove,
    Repository,
    SearchResult,
    Settings,
    UnloadReceipt,
    Verification,
)
from core.state import (
    DownloadChanged,
    HostChanged,
    InstanceChanged,
    InstanceRemoved,
    RuntimesChanged,
    State,
)
from core.store import Store
from core.throttle import Listener, Throttle
from core.upkeep import Upkeep
from core.vitals import Vitals

logger = logging.getLogger(__name__)

T = TypeVar("T")


def _names(what: CacheSelection) -> str:
    """A selection in the audit trail."""
    named = {"partials": what.partials, "detached": what.detached}
    words = [*what.models, *what.revisions, *what.repositories]
    return ", ".join([*words, *(name for name, is_meant in named.items() if is_meant)])


class Deck:
    """The service of one machine. Use as an async context manager."""

    def __init__(self, paths: Paths, config: Config, problems: Sequence[Problem] = ()) -> None:
        self.paths = paths
        self.config = config
        self._problems = tuple(problems)
        self._stop = asyncio.Event()
        self._closing = False
        self._log = Log()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        self._closing = True
        return await self._stack.__aexit__(kind, error, trace)

    async def _open(self, stack: AsyncExitStack) -> None:
        handler = LogHandler(self._log)
        logging.getLogger("core").addHandler(handler)
        stack.callback(logging.getLogger("core").removeHandler, handler)
        self._store = Store(self.paths.database)
        stack.push_async_callback(self._store.close)
        await self._store.open()
        self.host_id = await self._store.installation_id()
        self.feed = Feed(State(host=self._host(), settings=self._settings()))
        self._group = await stack.enter_async_context(asyncio.TaskGroup())
        await self._open_parts(stack)
        self._throttle.decide()
        await self._downloads.open()
        stack.push_async_callback(self._downloads.close)
        await self._vitals.look()
        stack.callback(self._cancel_tasks)
        self._spawn(self._vitals.watch())
        self._spawn(self._throttle.watch())
        self._spawn(self._probe_engines())

    async def _open_parts(self, stack: AsyncExitStack) -> None:
        self._open_library(stack)
        await self._open_runtime(stack)
        self._make_downloads()
        self._make_upkeep()
        await self._library.open()

    def _read_token(self) -> str | None:
        return token.stored(self.paths.hf_home)

    def _open_library(self, stack: AsyncExitStack) -> None:
        config = self.config
        self._cache = Cache(self.paths.hf_cache)
        self._hub = Hub(
            config.hub.endpoint, self._read_token, self.paths.cache / "hub", config.hub.timeout_s
        )
        stack.push_async_callback(self._hub.close)
        self._library = Library(
            feed=self.feed,
            store=self._store,
            hub=self._hub,
            scan=partial(scan.scan, self._cache.root),
            cache_root=self._cache.root,
        )

    async def _open_runtime(self, stack: AsyncExitStack) -> None:
        config = self.config
        self._engines = Engines(
            settings=config.runtime,
            measure=probe.process,
            on_change=self._instance_changed,
            on_log=self._log.add,
        )
        await self._engines.open()
        stack.push_async_callback(self._engines.close)
        self._budget = Budget(feed=self.feed, config_file=self.paths.config_file)
        self._fitting = Fitting(
            config=config,
            budget=self._budget,
            hub=self._hub,
            library=self._library,
            engines=self._engines,
            memory=probe.system,
        )

    def _make_downloads(self) -> None:
        config = self.config
        self._downloads = Downloads(
            store=self._store,
            cache=self._cache,
            settings=config.downloads,
            endpoint=config.hub.endpoint,
            token=self._read_token,
            free_bytes=partial(probe.free_disk, self._cache.root),
            on_change=self._download_changed,
        )
        self._fetching = Fetching(
            feed=self.feed,
            library=self._library,
            downloads=self._downloads,
            ask_hub=self._ask_hub,
        )
        self._throttle = Throttle(
            feed=self.feed,
            settings=config.downloads,
            config_file=self.paths.config_file,
            set_limit=self._downloads.set_limit,
            set_jobs_at_once=self._downloads.set_jobs_at_once,
        )

    def _make_upkeep(self) -> None:
        self._removal = Removal(
            feed=self.feed,
            library=self._library,
            downloads=self._downloads,
            cache_root=self._cache.root,
            release=self._release,
        )
        self._upkeep = Upkeep(
            feed=self.feed,
            library=self._library,
            cache_root=self._cache.root,
            choose=self._removal.choose,
            spawn=self._spawn,
        )
        self._vitals = Vitals(
            feed=self.feed,
            cache_root=self._cache.root,
            reserve_bytes=self.config.runtime.memory_reserve_bytes,
            sample_engines=self._engines.sample,
            look_at_cache=self._library.look,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
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
            idle_ttl_s=self.config.runtime.idle_ttl_s,
            when_full=self.config.runtime.when_full,
        )

    def announce(self, urls: tuple[str, ...], socket_path: str | None) -> None:
        """Put into State where the API answers."""
        self.feed.commit(HostChanged, host=replace(self.state.host, urls=urls, socket=socket_path))

    def request_stop(self) -> None:
        """Ask whoever runs this core to end it."""
        self._closing = True
        self._stop.set()

    async def stopped(self) -> None:
        """Return once somebody asked for the end."""
        await self._stop.wait()

    async def _probe_engines(self) -> None:
        runtimes = await self._engines.probe()
        self.feed.commit(RuntimesChanged, runtimes=runtimes)
        self._library.set_engines({f: r.name for r in runtimes if r.available for f in r.formats})

    # What changes State: called by the parts

    def _instance_changed(self, instance: Instance) -> None:
        if instance.state is InstanceState.STOPPED:
            self.feed.commit(InstanceRemoved, id=instance.id)
            return
        before = self.state.instances.get(instance.id)
        self.feed.commit(InstanceChanged, instance=instance)
        was_starting = before is not None and before.state is InstanceState.STARTING
        if was_starting and instance.state is InstanceState.READY:
            self._spawn(self._engines.sample())  # whoever loaded it wants to see what it takes

    def _download_changed(self, job: Download) -> None:
        """A completed job is told only when State says `downloaded`: clients list models on it."""
        if job.state == "completed":
            self._spawn(self._completed(job))
        else:
            self.feed.commit(DownloadChanged, download=job)

    async def _completed(self, job: Download) -> None:
        await self._library.look(force=True)
        self.feed.commit(DownloadChanged, download=job)
        await self._vitals.count_disk()

    # Looking

    @property
    def state(self) -> State:
        """Everything this machine has and does, as last seen. Never waits."""
        return self.feed.state

    async def refresh(self) -> State:
        """The State, with memory no older than a second."""
        await self._vitals.look()
        return self.state

    def model(self, ref: str) -> Model:
        """The model with this id, unique name or short name. Raises NotFound or Ambiguous."""
        return self._library.find(ref)

    async def resolve(self, ref: str) -> Model:
        """As `model`; a Hub name that is not listed is looked up and added to the list."""
        return await self._ask_hub(self._library.resolve(ref))

    def download_of(self, model_id: str) -> Download | None:
        """The newest download of a model."""
        return self._fetching.of(model_id)

    def instance_of(self, model_id: str) -> Instance | None:
        """The instance of a model that is loaded or being loaded."""
        for instance in self.state.instances.values():
            if instance.model_id == model_id and instance.state.live:
                return instance
        return None

    async def search(self, query: str, limit: int | None = None) -> SearchResult:
        """What the Hub has for the words; what it said earlier when it cannot be reached."""
        result = await self._hub.search(query, limit or self.config.hub.search_limit)
        self._note_hub(result.error)
        return result

    async def repository(self, repo: str, revision: str | None = None) -> Repository:
        """What a repository holds. Raises NotFound, Gated, HubUnavailable."""
        return await self._ask_hub(self._hub.repository(repo, revision))

    async def _ask_hub(self, question: Awaitable[T]) -> T:
        try:
            answer = await question
        except HubUnavailable as error:
            self._note_hub(error.message)
            raise
        return answer

    def _note_hub(self, error: str | None) -> None:
        if error != self.state.host.hub_error:
            self.feed.commit(HostChanged, host=replace(self.state.host, hub_error=error))

    async def fit(self, ref: str, context_length: int | None = None) -> Fit:
        """Whether a model would fit the memory that is free now, listed or on the Hub."""
        model = await self._ask_hub(self._library.look_up(ref))
        return await self._fitting.fit(model, context_length)

    async def fits(self, context_length: int | None = None) -> dict[str, Fit]:
        """Whether each listed model would fit, by id, without asking the Hub.

        Of what is not downloaded only the size is known, so those are estimates until `fit` was
        asked of them.
        """
        models = list(self.state.models.values())
        return {model.id: await self._fitting.quick_fit(model, context_length) for model in models}

    def log(self, after: int = 0, limit: int = 500, source: str | None = None) -> list[LogLine]:
        """Lines of the log with a number above `after`, oldest first."""
        return list(self._log.lines(after, limit, source))

    async def audit_trail(self, limit: int = 200) -> list[AuditEntry]:
        """The newest entries of the audit trail, newest first."""
        return [
            AuditEntry(at=at, origin=origin, action=action, target=target, outcome=outcome)
            for at, origin, action, target, outcome in await self._store.audit_trail(limit)
        ]

    @asynccontextmanager
    async def _audited(self, origin: str, action: str, target: str) -> AsyncIterator[None]:
        """Write the action to the audit trail with its outcome; refuse it while closing."""
        if self._closing:
            raise ShuttingDown(
                "The core is about to end.", "Start it again with `modeldeck serve`."
            )
        outcome = "failed"
        try:
            yield
            outcome = "done"
        except DeckError as error:
            outcome = error.code
            raise
        except asyncio.CancelledError:
            outcome = "abandoned"
            raise
        finally:
            await self._store.audit(now(), origin, action, target, outcome)

    # Custom models

    async def create_model(self, seed: ModelSeed, origin: str) -> Model:
        """Add a custom model. Raises Conflict for a duplicate, InvalidRequest for a bad name."""
        async with self._audited(origin, "create", seed.unique or seed.name or ""):
            return await self._library.create(seed)

    async def update_model(self, model_id: str, changes: Mapping[str, Any], origin: str) -> Model:
        """Change a custom model. Raises NotFound, Conflict, InvalidRequest."""
        async with self._audited(origin, "update", model_id):
            return await self._library.update(model_id, changes)

    async def delete_model(self, model_id: str, origin: str) -> None:
        """Unload a custom model, delete its files from the cache, and take it off the list."""
        async with self._audited(origin, "delete", model_id):
            model = self._library.custom(model_id)
            await self._release([model])
            if not model.local:
                what = CacheSelection(models=(model.id,), every_revision=True)
                await self._removal.delete(what, force=True)
            await self._library.delete(model_id)

    # Downloads

    async def download(self, ref: str, origin: str) -> Download | None:
        """Start to fetch a model, or join the download that runs; None when it is here already.

        Journaled when it returns. Raises NotFound, Gated, HubUnavailable, NotEnoughDisk.
        """
        async with self._audited(origin, "download", ref):
            return await self._fetching.start(await self.resolve(ref))

    async def cancel_download(
        self, download_id: str, origin: str, *, discard: bool = False
    ) -> Download:
        """Stop a download; what arrived stays for the next one, unless `discard`."""
        async with self._audited(origin, "cancel", download_id):
            return await self._downloads.cancel(download_id, discard=discard)

    async def pause_download(self, download_id: str, origin: str) -> Download:
        """Stop a download until it is resumed."""
        async with self._audited(origin, "pause", download_id):
            return await self._downloads.pause(download_id)

    async def resume_download(self, download_id: str, origin: str) -> Download:
        """Go on with a download that is paused, failed or canceled."""
        async with self._audited(origin, "resume", download_id):
            return await self._downloads.resume(download_id)

    async def remove_download(self, download_id: str, origin: str) -> None:
        """Take an ended download off the list."""
        async with self._audited(origin, "forget", download_id):
            await self._fetching.forget(download_id)

    async def move_download(self, download_id: str, to: QueueMove, origin: str) -> Download:
        """Let a download come sooner or later; it runs when it is among the first."""
        async with self._audited(origin, f"move {to}", download_id):
            return await self._downloads.move(download_id, to)

    async def limit_download(
        self, download_id: str, bytes_per_s: int | None, origin: str
    ) -> Download:
        """Let a download take no more than this; None lifts its own limit."""
        async with self._audited(origin, "limit", download_id):
            return await self._downloads.set_job_limit(download_id, bytes_per_s)

    async def change_settings(self, changes: Mapping[str, Any], origin: str) -> Settings:
        """Change on what terms downloads run, and what models may take: remembered, and in force.

        Raises InvalidRequest for a bad value, StorageFailed when it cannot be remembered.
        """
        terms = {key: value for key, value in changes.items() if key != budget.KEY}
        async with self._audited(origin, "settings", ", ".join(changes)):
            if terms:
                await self._throttle.change(terms)
            if budget.KEY in changes:
                await self._budget.change(changes[budget.KEY])
                await self._vitals.sample()
            return self.state.settings

    def listening(self) -> AbstractContextManager[Listener]:
        """A front end that is attached for as long as the block runs: how long it waits counts."""
        return self._throttle.listening()

    @property
    def ping_s(self) -> float | None:
        """Seconds between pings to attached front ends; None while nobody needs the answers."""
        return self._throttle.ping_s

    # Cache

    async def cache(self) -> CacheListing:
        """All that the cache holds: sizes, what is shared, when it was last used."""
        return await self._upkeep.listing()

    async def verify(self, what: CacheSelection, origin: str) -> Verification:
        """Begin to check what lies in the cache, all of it where nothing is named."""
        async with self._audited(origin, "verify", _names(what)):
            return await self._upkeep.verify(what)

    async def cancel_verification(self, key: str, origin: str) -> Verification:
        """Call a check of the cache off."""
        async with self._audited(origin, "cancel", key):
            return await self._upkeep.cancel(key)

    async def plan_deletion(self, what: CacheSelection) -> DeletionPlan:
        """What deleting this would remove, keep and give back."""
        return await self._removal.plan(what)

    async def delete_cached(
        self, what: CacheSelection, origin: str, *, force: bool = False
    ) -> DeletionReceipt:
        """Delete files from the cache, partial ones of the models too; the entries stay.

        Raises InUse when a model of it is loaded, unless `force`: then it is unloaded first. A
        download of one is cancelled.
        """
        async with self._audited(origin, "delete files", _names(what)):
            receipt = await self._removal.delete(what, force=force)
            await self._vitals.count_disk()
            return receipt

    async def _release(self, models: Sequence[Model]) -> None:
        """Let go of the files: downloads are cancelled, instances unloaded."""
        for model in models:
            await self._fetching.drop(model)
            if (instance := self.instance_of(model.id)) is not None:
                await self._engines.unload(instance.id)

    # Runtime

    async def load(
        self, ref: str, options: LoadOptions, origin: str, *, force: bool = False
    ) -> Instance:
        """Begin to load a model; a loaded one is returned as it is. `force` skips the memory check.

        Raises NotDownloaded, EngineMissing, NotEnoughMemory.
        """
        model = await self.resolve(ref)
        async with self._audited(origin, "load", model.unique):
            if (instance := self.instance_of(model.id)) is not None:
                return instance
            if not model.downloaded or model.path is None:
                raise NotDownloaded(
                    f"{model.name} is not downloaded.", f"modeldeck pull {model.unique}"
                )
            self._require_engine(model)
            options, forecast = await self._make_room(model, options, origin, force=force)
            return await self._engines.load(model, options, forecast)

    def _require_engine(self, model: Model) -> None:
        for runtime in self.state.runtimes:
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
            may_unload = self.config.runtime.when_full == "unload_idle"
            for instance_id in self._fitting.room(model, forecast, may_unload=may_unload):
                logger.info("unloading %s to make room for %s", instance_id, model.unique)
                await self.unload(instance_id, origin)
        return options, forecast

    async def loaded(
        self, ref: str, options: LoadOptions, origin: str, *, force: bool = False
    ) -> Instance:
        """As `load`, and wait until it is ready. Raises EngineFailed when it never will be."""
        instance = await self.load(ref, options, origin, force=force)
        return await self._engines.ready(instance.id)

    async def change_instance(
        self, instance_id: str, changes: Mapping[str, Any], origin: str
    ) -> Instance:
        """Change `pinned` or `idle_ttl_s` of an instance that is loaded or being loaded.

        Raises NotFound, InvalidRequest, and Conflict for one that is not.
        """
        words = ", ".join(f"{name} {value}" for name, value in changes.items())
        async with self._audited(origin, f"change {words}".rstrip(), instance_id):
            return self._engines.change(instance_id, changes)

    async def unload(self, instance_id: str, origin: str) -> UnloadReceipt:
        """End an instance, or call off its load. The receipt says what came back."""
        async with self._audited(origin, "unload", instance_id):
            receipt = await self._engines.unload(instance_id)
            await self._vitals.sample()
            return receipt

    async def unload_all(self, origin: str) -> list[UnloadReceipt]:
        """End every instance that is not pinned."""
        wanted = [
            i.id for i in self.state.instances.values() if i.state.live and not i.options.pinned
        ]
        return list(await asyncio.gather(*(self.unload(key, origin) for key in wanted)))

    def generate(
        self, instance_id: str, request: GenerateRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """The answer of an instance, piece by piece; leaving the block cancels it.

        Raises NotFound, Busy, EngineFailed.
        """
        return self._engines.generate(instance_id, request)

    async def embed(self, instance_id: str, texts: Sequence[str]) -> list[list[float]]:
        """One vector per text, from an instance that was loaded for embeddings."""
        return await self._engines.embed(instance_id, texts)
