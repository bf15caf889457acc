"""Deck: the service. All that the API sees of a core, one method a verb.

Every change ends in State through the feed; a method returns once the action is accepted, or done
where it says so (`loaded`, `unload`, `delete_cached`). Whatever changes something is written to the
audit trail with who asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
)
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from modeldeck.core.concurrency import contained
from modeldeck.core.config.config import Config, Problem
from modeldeck.core.config.paths import Paths
from modeldeck.core.formats.hub_names import is_address
from modeldeck.core.schema import (
    AuditEntry,
    CacheListing,
    CacheSelection,
    Card,
    Chunk,
    DeletionPlan,
    DeletionReceipt,
    Download,
    Fit,
    GenerateRequest,
    Instance,
    LoadOptions,
    LoadPlan,
    LoadRecord,
    LoadWish,
    LogLine,
    Manifest,
    Model,
    ModelSeed,
    NewToken,
    QueueMove,
    Repository,
    Scope,
    SearchResult,
    Settings,
    TextVector,
    Token,
    Undoable,
    UnloadReceipt,
    Verification,
)
from modeldeck.core.schema.state import (
    HostChanged,
    State,
)
from modeldeck.core.service.bandwidth import AttachedClient
from modeldeck.core.service.counters import Counters
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.health import Health, judge, waits
from modeldeck.core.service.library import chat_templates, model_cards
from modeldeck.core.service.library.chat_templates import Template
from modeldeck.core.service.library.copying import OpenBlob
from modeldeck.core.service.library.deletion import deletion_error
from modeldeck.core.service.loading.fit import BUDGET_KEY, check_budget
from modeldeck.core.service.wiring import ServiceParts
from modeldeck.core.storage.api_tokens import ApiTokens
from modeldeck.core.storage.foreign_files import in_thread

logger = logging.getLogger(__name__)

T = TypeVar("T")


def _names(what: CacheSelection) -> str:
    """A selection in the audit trail."""
    kinds = ("partials", "orphans", "detached")
    named = {kind: getattr(what, kind) for kind in kinds}
    words = [*what.models, *what.revisions, *what.repositories]
    return ", ".join([*words, *(name for name, is_meant in named.items() if is_meant)])


class Deck:
    """The service of one machine. Use as an async context manager."""

    def __init__(self, paths: Paths, config: Config, problems: Sequence[Problem] = ()) -> None:
        self.paths = paths
        self.config = config
        self._parts = ServiceParts(paths, config, problems)
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._parts.open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        self._parts.audit.close()
        return await self._stack.__aexit__(kind, error, trace)

    @property
    def host_id(self) -> str:
        """A UUID of this installation, kept across restarts."""
        return self._parts.host_id

    @property
    def feed(self) -> Feed:
        """State and its changes."""
        return self._parts.feed

    def announce(self, urls: tuple[str, ...], socket_path: str | None) -> None:
        """Put into State where the API answers."""
        self.feed.commit(HostChanged, host=replace(self.state.host, urls=urls, socket=socket_path))

    def request_stop(self) -> None:
        """Ask whoever runs this core to end it."""
        self._parts.audit.close()
        self._stop.set()

    async def stopped(self) -> None:
        """Return once somebody asked for the end."""
        await self._stop.wait()

    # Looking

    def health(self) -> Health:
        """Whether the database and the files of models answer. Never waits."""
        return judge(waits(self._parts.store.waiting_s))

    @property
    def state(self) -> State:
        """Everything this machine has and does, as last seen. Never waits."""
        return self.feed.state

    async def refresh(self) -> State:
        """The State, with memory no older than a second."""
        await self._parts.sampler.refresh()
        return self.state

    def model(self, ref: str) -> Model:
        """The model with this id, unique name or short name. Raises NotFound or Ambiguous."""
        return self._parts.library.find(ref)

    async def resolve(self, ref: str) -> Model:
        """As `model`; a Hub name that is not listed is looked up and added to the list."""
        return await self._parts.hub_status.ask(self._parts.library.resolve(ref))

    def instance_of(self, model_id: str) -> Instance | None:
        """The instance of a model that is loaded or being loaded."""
        return self._parts.instance_of(model_id)

    async def search(self, query: str, limit: int | None = None) -> SearchResult:
        """What the Hub has for the words; what it said earlier when it cannot be reached."""
        if is_address(query):  # a person pasted where it is
            query = self._parts.library.repository_of(query)
        result = await self._parts.hub.search(query, limit or self.config.hub.search_limit)
        self._parts.hub_status.note(result.error)
        return result

    async def repository(self, repo: str, revision: str | None = None) -> Repository:
        """What a repository holds; any name of a model in it will do.

        Raises NotFound, Gated, HubUnavailable.
        """
        repo = self._parts.library.repository_of(repo)
        found = await self._parts.hub_status.ask(self._parts.hub.repository(repo, revision))
        return await self._parts.forecaster.judged(found)

    async def card(self, repo: str, revision: str | None = None) -> Card:
        """The model card of a repository. Raises NotFound, Gated, HubUnavailable."""
        snapshots = self._parts.library.snapshots
        repo = self._parts.library.repository_of(repo)
        return await self._parts.hub_status.ask(
            model_cards.find(self._parts.hub, snapshots, repo, revision)
        )

    async def chat_template(self, model: Model) -> Template | None:
        """The template that a downloaded model brings; None where there is none."""
        if model.path is None:
            return None
        read = partial(chat_templates.read, Path(model.path), model.format)
        return await in_thread(read, model.path, custom=model.local)

    async def fit(self, ref: str, context_length: int | None = None) -> Fit:
        """Whether a model would fit the memory that is free now, listed or on the Hub."""
        model = await self._parts.hub_status.ask(self._parts.library.look_up(ref))
        return await self._parts.fit_checker.fit(model, context_length)

    async def fits(self, context_length: int | None = None) -> dict[str, Fit]:
        """Whether each listed model would fit, by id, without asking the Hub.

        Of what is not downloaded only the size is known, so those are estimates until `fit` was
        asked of them.
        """
        return await self._parts.fit_checker.fits(list(self.state.models.values()), context_length)

    def log(self, after: int = 0, limit: int = 500, source: str | None = None) -> list[LogLine]:
        """Lines of the log with a number above `after`, oldest first."""
        return list(self._parts.log.lines(after, limit, source))

    async def audit_trail(self, limit: int = 200) -> list[AuditEntry]:
        """The newest entries of the audit trail, newest first."""
        return await self._parts.audit.trail(limit)

    @property
    def counters(self) -> Counters:
        """What was done since the core started."""
        return self._parts.counters

    # Tokens

    @property
    def tokens(self) -> ApiTokens:
        """Who may use the API from beyond this machine. Changed by `create_token` and the like."""
        return self._parts.tokens

    async def create_token(
        self, name: str, scopes: Sequence[Scope], expires_s: float | None, origin: str
    ) -> NewToken:
        """Make a token. Raises InvalidRequest, or Conflict for a name that is taken."""
        async with self._parts.audit.action(origin, "create token", name[:80]):
            return await self._parts.tokens.create(name, scopes, expires_s)

    async def revoke_token(self, ref: str, origin: str) -> Token:
        """Take a token away; who uses it is cut off at once. Raises NotFound."""
        async with self._parts.audit.action(origin, "revoke token", ref[:80]):
            return await self._parts.tokens.revoke(ref)

    # Custom models

    async def create_model(self, seed: ModelSeed, origin: str) -> Model:
        """Add a custom model. Raises Conflict for a duplicate, InvalidRequest for a bad name."""
        async with self._parts.audit.action(origin, "create", seed.unique or seed.name or ""):
            return await self._parts.library.added.create(seed)

    async def update_model(self, model_id: str, changes: Mapping[str, Any], origin: str) -> Model:
        """Change a custom model. Raises NotFound, Conflict, InvalidRequest."""
        async with self._parts.audit.action(origin, "update", model_id):
            return await self._parts.library.added.update(model_id, changes)

    async def delete_model(self, model_id: str, origin: str) -> None:
        """Unload a custom model, delete its files from the cache, and take it off the list."""
        async with self._parts.audit.action(origin, "delete", model_id):
            model = self._parts.library.added.custom(model_id)
            await self._parts.users.release([model])
            if not model.local:
                what = CacheSelection(models=(model.id,), every_revision=True)
                receipt = await self._parts.deletion.delete(what, force=True)
                if receipt.failed:
                    raise deletion_error(receipt)
            entry = await self._parts.library.added.delete(model_id)
            back = partial(self._parts.library.added.restore, entry)
            self._parts.undo.offer(f"took {entry.name} off the list", back)

    # Downloads

    async def download(self, ref: str, origin: str, *, force: bool = False) -> Download | None:
        """Start to fetch a model, or join the download that runs; None when it is here already.

        Journaled when it returns. One that could not be loaded here is only begun with `force`:
        raises EngineFailed, Corrupt or Forbidden otherwise. Raises NotFound, Gated, HubUnavailable
        and NotEnoughDisk as well.
        """
        async with self._parts.audit.action(origin, "download", ref):
            return await self._parts.model_downloads.start(await self.resolve(ref), force=force)

    def manifest(self, ref: str) -> Manifest:
        """What a downloaded model consists of, for another machine. Raises NotDownloaded."""
        return self._parts.copying.manifest(self.model(ref))

    async def content(self, repo: str, blob: str) -> OpenBlob:
        """A content of the cache by its hash, to be read and closed. Raises NotFound."""
        return await in_thread(partial(self._parts.copying.open, repo, blob), f"{repo} {blob}")

    async def take(
        self, manifest: Manifest, peer: str, origin: str
    ) -> tuple[Model, Download | None]:
        """Begin to copy a model from another machine, to which the socket `peer` leads.

        Journaled when it returns; None when it is here already. Raises Forbidden, NotEnoughDisk.
        """
        async with self._parts.audit.action(origin, "copy", manifest.model.unique):
            return await self._parts.copying.take(manifest, peer)

    async def cancel_download(
        self, download_id: str, origin: str, *, discard: bool = False
    ) -> Download:
        """Stop a download; what arrived stays for the next one, unless `discard`."""
        async with self._parts.audit.action(origin, "cancel", download_id):
            downloads = self._parts.downloads
            before = downloads.jobs.get(download_id)
            job = await downloads.cancel(download_id, discard=discard)
            was_going = before is not None and before.state not in ("canceled", "failed")
            if job.state == "canceled" and was_going and not discard:
                back = partial(downloads.resume, download_id)
                self._parts.undo.offer(f"called the download of {job.unique} off", back)
            return job

    async def pause_download(self, download_id: str, origin: str) -> Download:
        """Stop a download until it is resumed."""
        async with self._parts.audit.action(origin, "pause", download_id):
            return await self._parts.downloads.pause(download_id)

    async def resume_download(self, download_id: str, origin: str) -> Download:
        """Go on with a download that is paused, failed or canceled."""
        async with self._parts.audit.action(origin, "resume", download_id):
            return await self._parts.downloads.resume(download_id)

    async def remove_download(self, download_id: str, origin: str) -> None:
        """Take an ended download off the list."""
        async with self._parts.audit.action(origin, "forget", download_id):
            job = await self._parts.model_downloads.forget(download_id)
            if job is not None:
                back = partial(self._parts.downloads.restore, job)
                self._parts.undo.offer(f"cleared the download of {job.unique}", back)

    async def move_download(self, download_id: str, to: QueueMove, origin: str) -> Download:
        """Let a download come sooner or later; it runs when it is among the first."""
        async with self._parts.audit.action(origin, f"move {to}", download_id):
            return await self._parts.downloads.move(download_id, to)

    async def limit_download(
        self, download_id: str, bytes_per_s: int | None, origin: str
    ) -> Download:
        """Let a download take no more than this; None lifts its own limit."""
        async with self._parts.audit.action(origin, "limit", download_id):
            return await self._parts.downloads.set_job_limit(download_id, bytes_per_s)

    async def change_settings(self, changes: Mapping[str, Any], origin: str) -> Settings:
        """Change on what terms downloads run, and what models may take: remembered, and in force.

        Raises InvalidRequest for a bad value, StorageFailed when it cannot be remembered.
        """
        terms = {key: value for key, value in changes.items() if key != BUDGET_KEY}
        async with self._parts.audit.action(origin, "settings", ", ".join(changes)):
            if BUDGET_KEY in changes:  # all is checked before any of it is changed
                check_budget(changes[BUDGET_KEY])
            if terms:
                await self._parts.bandwidth.change(terms)
            if BUDGET_KEY in changes:
                await self._parts.budget.change(changes[BUDGET_KEY])
                with contained("sampling memory"):
                    await self._parts.sampler.sample()
            return self.state.settings

    def listening(self) -> AbstractContextManager[AttachedClient]:
        """A front end that is attached for as long as the block runs: how long it waits counts."""
        return self._parts.bandwidth.listening()

    @property
    def ping_s(self) -> float | None:
        """Seconds between pings to attached front ends; None while nobody needs the answers."""
        return self._parts.bandwidth.ping_s

    # Cache

    async def cache(self) -> CacheListing:
        """All that the cache holds: sizes, what is shared, when it was last used."""
        return await self._parts.verification.listing()

    async def verify(self, what: CacheSelection, origin: str) -> Verification:
        """Begin to check what lies in the cache, all of it where nothing is named."""
        async with self._parts.audit.action(origin, "verify", _names(what)):
            return await self._parts.verification.verify(what)

    async def cancel_verification(self, key: str, origin: str) -> Verification:
        """Call a check of the cache off."""
        async with self._parts.audit.action(origin, "cancel", key):
            return await self._parts.verification.cancel(key)

    async def plan_deletion(self, what: CacheSelection) -> DeletionPlan:
        """What deleting this would remove, keep and give back."""
        return await self._parts.deletion.plan(what)

    async def delete_cached(
        self, what: CacheSelection, origin: str, *, force: bool = False, whole: bool = False
    ) -> DeletionReceipt:
        """Delete files from the cache, partial ones of the models too; the entries stay.

        Raises InUse when a model of it is loaded, unless `force`: then it is unloaded first. A
        download of one is cancelled. Raises StorageFailed where nothing could be deleted; what of
        several things deletion_error is in the receipt, or raised as well where it is to go `whole`.
        """
        async with self._parts.audit.action(origin, "delete files", _names(what)):
            receipt = await self._parts.deletion.delete(what, force=force)
            await self._parts.verification.forget(receipt.model_ids)
            with contained("counting the disk"):
                await self._parts.sampler.count_disk()
            if whole and receipt.failed:
                raise deletion_error(receipt)
            return receipt

    def undoable(self) -> tuple[Undoable, ...]:
        """What can be taken back at no cost, newest first, for as long as the core runs."""
        return self._parts.undo.steps

    async def undo(self, key: str | None, origin: str) -> Undoable:
        """Take an action back, the newest without a key. Raises NotFound, Conflict."""
        async with self._parts.audit.action(origin, "undo", key or "the newest"):
            return await self._parts.undo.undo(key)

    # Runtime

    async def plan_load(self, ref: str, wish: LoadWish) -> LoadPlan:
        """What a load would do now: options, forecast, room, what would go first, or why not."""
        return await self._parts.loader.plan(ref, wish)

    async def load(self, ref: str, wish: LoadWish, origin: str) -> Instance:
        """Begin to load a model; a loaded one is returned as it is.

        Raises InvalidRequest, NotDownloaded, EngineMissing, NotEnoughMemory.
        """
        model = await self.resolve(ref)
        with self._parts.on_demand.waiting(model.id):
            instance = await self._parts.loader.load(model.id, wish, origin)
            self._parts.on_demand.keep(instance.id)
        return instance

    async def loaded(self, ref: str, wish: LoadWish, origin: str) -> Instance:
        """As `load`, and wait until it is ready. Raises EngineFailed when it never will be."""
        instance = await self.load(ref, wish, origin)
        return await self._parts.engines.ready(instance.id)

    def loads(self, limit: int = 200) -> list[LoadRecord]:
        """What earlier loads were forecast to take and what they took, newest first."""
        return list(reversed(self._parts.history.records))[:limit]

    def using(
        self,
        model: Model,
        options: LoadOptions,
        origin: str,
        keep_alive_s: float | None = None,
    ) -> AbstractAsyncContextManager[Instance]:
        """A ready instance for as long as the block runs; a downloaded model is loaded on demand.

        Options count for a load only. After the block the instance may idle for `keep_alive_s`: 0
        ends it, a negative number keeps it. Raises as `loaded` does, and Conflict where
        `api.load_on_demand` is off.
        """
        return self._parts.on_demand.using(model, options, origin, keep_alive_s)

    async def change_instance(
        self, instance_id: str, changes: Mapping[str, Any], origin: str
    ) -> Instance:
        """Change `pinned` or `idle_ttl_s` of an instance that is loaded or being loaded.

        Raises NotFound, InvalidRequest, and Conflict for one that is not.
        """
        words = ", ".join(f"{name} {value}" for name, value in changes.items())
        async with self._parts.audit.action(origin, f"change {words}".rstrip(), instance_id):
            return self._parts.engines.change(instance_id, changes)

    async def unload(self, instance_id: str, origin: str) -> UnloadReceipt:
        """End an instance, or call off its load. The receipt says what came back."""
        return await self._parts.loader.unload(instance_id, origin)

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
        return self._parts.counters.answer(self._parts.engines.generate(instance_id, request))

    async def embed(self, instance_id: str, texts: Sequence[str]) -> list[TextVector]:
        """One vector per text, from an instance that was loaded for embeddings."""
        return await self._parts.engines.embed(instance_id, texts)
