"""The service behind the API: one method per command.

Every change appears in State through the feed. A method returns once the action is accepted, or
done where its docstring says so (`loaded`, `unload`, `delete_cached`). Each action that changes
state is recorded in the audit trail with its origin, the client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
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
from modeldeck.core.errors import NotFound
from modeldeck.core.formats.unique_names import is_address
from modeldeck.core.schema import (
    AuditEntry,
    CacheListing,
    CacheSelection,
    Card,
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
    Priority,
    QueueMove,
    Repository,
    Requester,
    RequestInfo,
    Scope,
    SearchResult,
    Settings,
    TextScore,
    Token,
    TokenizedText,
    TokenQuery,
    Undoable,
    UnloadReceipt,
    Verification,
)
from modeldeck.core.schema.state import (
    HostChanged,
    State,
)
from modeldeck.core.service.answers.running import KeptAnswers
from modeldeck.core.service.bandwidth import AttachedClient
from modeldeck.core.service.counters import Counters
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.health import Health, judge, waits
from modeldeck.core.service.inference.answers import EmbeddingReply, ModelReply
from modeldeck.core.service.library import chat_templates, model_cards
from modeldeck.core.service.library.aliases import alias_of
from modeldeck.core.service.library.chat_templates import Template
from modeldeck.core.service.library.copying import OpenBlob
from modeldeck.core.service.library.deletion import deletion_error
from modeldeck.core.service.loading.fit import BUDGET_KEY, check_budget
from modeldeck.core.service.wiring import ServiceParts
from modeldeck.core.storage.api_tokens import ApiTokens
from modeldeck.core.storage.foreign_files import in_file_thread

logger = logging.getLogger(__name__)

T = TypeVar("T")


def _names(what: CacheSelection) -> str:
    """Return the text of a selection for the audit trail."""
    kinds = ("partials", "orphans", "detached")
    named = {kind: getattr(what, kind) for kind in kinds}
    words = [*what.models, *what.revisions, *what.repositories]
    return ", ".join([*words, *(name for name, is_selected in named.items() if is_selected)])


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
    def answers(self) -> KeptAnswers:
        """Answers that clients may name again."""
        return self._parts.answers

    @property
    def feed(self) -> Feed:
        """State and its changes."""
        return self._parts.feed

    def announce(self, urls: tuple[str, ...], socket_path: str | None) -> None:
        """Set the addresses of the API in State."""
        self.feed.commit(HostChanged, host=replace(self.state.host, urls=urls, socket=socket_path))

    def request_stop(self) -> None:
        """Request the end of the core; `stopped` returns."""
        self._parts.audit.close()
        self._stop.set()

    async def stopped(self) -> None:
        """Wait until `request_stop` is called."""
        await self._stop.wait()

    # Reading

    def health(self) -> Health:
        """Return whether the database and the files of models answer. Never waits."""
        return judge(waits(self._parts.store.waiting_s))

    @property
    def state(self) -> State:
        """The current State. Never waits."""
        return self.feed.state

    async def refresh(self) -> State:
        """Return the State with memory no older than a second."""
        await self._parts.sampler.refresh()
        return self.state

    def model(self, ref: str) -> Model:
        """Return the model with this id, unique name, short name or alias.

        Raises NotFound or Ambiguous.
        """
        try:
            return self._parts.library.find(ref)
        except NotFound:
            if (other := alias_of(ref, self.config.api.aliases)) is None:
                raise
            return self._parts.library.find(other)

    async def resolve(self, ref: str) -> Model:
        """Find a model as `model` does; one that is only on the Hub is added to the list."""
        return await self._parts.hub_status.ask(self._parts.library.resolve(ref))

    def instance_of(self, model_id: str) -> Instance | None:
        """Return the instance of a model that is loaded or being loaded, or None."""
        return self._parts.instance_of(model_id)

    async def search(self, query: str, limit: int | None = None) -> SearchResult:
        """Search the Hub; return the cached result when it cannot be reached."""
        if is_address(query):  # the address of a repository was pasted
            query = self._parts.library.repository_of(query)
        result = await self._parts.hub.search(query, limit or self.config.hub.search_limit)
        self._parts.hub_status.note(result.error)
        return result

    async def repository(self, repo: str, revision: str | None = None) -> Repository:
        """Return a repository with its variants; it may be given by any name of a model in it.

        Raises NotFound, Gated, HubUnavailable.
        """
        repo = self._parts.library.repository_of(repo)
        found = await self._parts.hub_status.ask(self._parts.hub.repository(repo, revision))
        return await self._parts.forecaster.judged(found)

    async def card(self, repo: str, revision: str | None = None) -> Card:
        """Return the model card of a repository. Raises NotFound, Gated, HubUnavailable."""
        snapshots = self._parts.library.snapshots
        repo = self._parts.library.repository_of(repo)
        return await self._parts.hub_status.ask(
            model_cards.find(self._parts.hub, snapshots, repo, revision)
        )

    async def chat_template(self, model: Model) -> Template | None:
        """Return the chat template of a downloaded model; None if it has none."""
        if model.path is None:
            return None
        read = partial(chat_templates.read, Path(model.path), model.format)
        return await in_file_thread(read, model.path, custom=model.local)

    async def fit(self, ref: str, context_length: int | None = None) -> Fit:
        """Return whether a model, listed or on the Hub, would fit the free memory."""
        model = await self._parts.hub_status.ask(self._parts.library.look_up(ref))
        return await self._parts.fit_checker.fit(model, context_length)

    async def fits(self, context_length: int | None = None) -> dict[str, Fit]:
        """Return whether each listed model would fit, by id, without asking the Hub.

        For models that are not downloaded this is an estimate by size, until `fit` was called for
        them.
        """
        return await self._parts.fit_checker.fits(list(self.state.models.values()), context_length)

    def log(self, after: int = 0, limit: int = 500, source: str | None = None) -> list[LogLine]:
        """Return the lines of the log with a number above `after`, oldest first."""
        return list(self._parts.log.lines(after, limit, source))

    async def audit_trail(self, limit: int = 200) -> list[AuditEntry]:
        """Return the newest entries of the audit trail, newest first."""
        return await self._parts.audit.trail(limit)

    @property
    def counters(self) -> Counters:
        """Counters since the start of the core."""
        return self._parts.counters

    # Tokens

    @property
    def tokens(self) -> ApiTokens:
        """The API tokens; change them with `create_token` and `revoke_token`."""
        return self._parts.tokens

    async def create_token(
        self,
        name: str,
        scopes: Sequence[Scope],
        expires_s: float | None,
        origin: str,
        *,
        priority: Priority = "interactive",
    ) -> NewToken:
        """Create an API token. Raises InvalidRequest, and Conflict for a name in use."""
        async with self._parts.audit.action(origin, "create token", name[:80]):
            return await self._parts.tokens.create(name, scopes, expires_s, priority)

    async def revoke_token(self, ref: str, origin: str) -> Token:
        """Revoke an API token; its connections are closed at once. Raises NotFound."""
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
        """Unload a custom model, delete its files from the cache, and remove it from the list."""
        async with self._parts.audit.action(origin, "delete", model_id):
            model = self._parts.library.added.custom(model_id)
            await self._parts.users.release([model])
            if not model.local:
                selection = CacheSelection(models=(model.id,), every_revision=True)
                receipt = await self._parts.deletion.delete(selection, force=True)
                if receipt.failed:
                    raise deletion_error(receipt)
            entry = await self._parts.library.added.delete(model_id)
            undo = partial(self._parts.library.added.restore, entry)
            self._parts.undo.offer(f"removed {entry.name} from the list", undo)

    # Downloads

    async def download(self, ref: str, origin: str, *, force: bool = False) -> Download | None:
        """Start to download a model, or return the running download; None if it is downloaded.

        Journaled when it returns. A model that cannot be loaded on this machine is downloaded only
        with `force`: else raises EngineFailed, Corrupt or Forbidden. Raises NotFound, Gated,
        HubUnavailable and NotEnoughDisk as well.
        """
        async with self._parts.audit.action(origin, "download", ref):
            return await self._parts.model_downloads.start(await self.resolve(ref), force=force)

    def manifest(self, ref: str) -> Manifest:
        """Return the files of a downloaded model, for another machine. Raises NotDownloaded."""
        return self._parts.copying.manifest(self.model(ref))

    async def content(self, repo: str, blob: str) -> OpenBlob:
        """Open a blob of the cache by its hash; the caller closes it. Raises NotFound."""
        return await in_file_thread(partial(self._parts.copying.open, repo, blob), f"{repo} {blob}")

    async def take(
        self, manifest: Manifest, peer: str, origin: str
    ) -> tuple[Model, Download | None]:
        """Begin to copy a model from another machine through the socket `peer`.

        Journaled when it returns; the download is None if the model is here already. Raises
        Forbidden, NotEnoughDisk.
        """
        async with self._parts.audit.action(origin, "copy", manifest.model.unique):
            return await self._parts.copying.take(manifest, peer)

    async def cancel_download(
        self, download_id: str, origin: str, *, discard: bool = False
    ) -> Download:
        """Cancel a download; its data stays for resuming, unless `discard`."""
        async with self._parts.audit.action(origin, "cancel", download_id):
            downloads = self._parts.downloads
            before = downloads.jobs.get(download_id)
            job = await downloads.cancel(download_id, discard=discard)
            was_going = before is not None and before.state not in ("canceled", "failed")
            if job.state == "canceled" and was_going and not discard:
                undo = partial(downloads.resume, download_id)
                self._parts.undo.offer(f"canceled the download of {job.unique}", undo)
            return job

    async def pause_download(self, download_id: str, origin: str) -> Download:
        """Pause a download until it is resumed."""
        async with self._parts.audit.action(origin, "pause", download_id):
            return await self._parts.downloads.pause(download_id)

    async def resume_download(self, download_id: str, origin: str) -> Download:
        """Resume a download that is paused, failed or canceled."""
        async with self._parts.audit.action(origin, "resume", download_id):
            return await self._parts.downloads.resume(download_id)

    async def remove_download(self, download_id: str, origin: str) -> None:
        """Remove an ended download from the list."""
        async with self._parts.audit.action(origin, "forget", download_id):
            job = await self._parts.model_downloads.forget(download_id)
            if job is not None:
                undo = partial(self._parts.downloads.restore, job)
                self._parts.undo.offer(f"cleared the download of {job.unique}", undo)

    async def move_download(self, download_id: str, to: QueueMove, origin: str) -> Download:
        """Move a download in the queue; the first ones run."""
        async with self._parts.audit.action(origin, f"move {to}", download_id):
            return await self._parts.downloads.move(download_id, to)

    async def limit_download(
        self, download_id: str, bytes_per_s: int | None, origin: str
    ) -> Download:
        """Limit the rate of one download; None removes its own limit."""
        async with self._parts.audit.action(origin, "limit", download_id):
            return await self._parts.downloads.set_job_limit(download_id, bytes_per_s)

    async def change_settings(self, changes: Mapping[str, Any], origin: str) -> Settings:
        """Change settings of downloads, and the memory budget; saved, and in force at once.

        Raises InvalidRequest for a bad value, StorageFailed when it cannot be saved.
        """
        download_settings = {key: value for key, value in changes.items() if key != BUDGET_KEY}
        async with self._parts.audit.action(origin, "settings", ", ".join(changes)):
            if BUDGET_KEY in changes:  # all is checked before any of it is changed
                check_budget(changes[BUDGET_KEY])
            if download_settings:
                await self._parts.bandwidth.change(download_settings)
            if BUDGET_KEY in changes:
                await self._parts.budget.change(changes[BUDGET_KEY])
                with contained("sampling memory"):
                    await self._parts.sampler.sample()
            return self.state.settings

    def listening(self) -> AbstractContextManager[AttachedClient]:
        """Measure the latency of an attached front end while the block runs."""
        return self._parts.bandwidth.listening()

    @property
    def ping_s(self) -> float | None:
        """Seconds between pings to attached front ends; None while they are not needed."""
        return self._parts.bandwidth.ping_s

    # Cache

    async def cache(self) -> CacheListing:
        """List the content of the cache: sizes, shared files, and times of last use."""
        return await self._parts.verification.listing()

    async def verify(self, what: CacheSelection, origin: str) -> Verification:
        """Begin to verify files of the cache; an empty selection means all of it."""
        async with self._parts.audit.action(origin, "verify", _names(what)):
            return await self._parts.verification.verify(what)

    async def cancel_verification(self, key: str, origin: str) -> Verification:
        """Cancel a verification of the cache."""
        async with self._parts.audit.action(origin, "cancel", key):
            return await self._parts.verification.cancel(key)

    async def plan_deletion(self, what: CacheSelection) -> DeletionPlan:
        """Return what a deletion would remove and keep, and the bytes it would free."""
        return await self._parts.deletion.plan(what)

    async def delete_cached(
        self, what: CacheSelection, origin: str, *, force: bool = False, whole: bool = False
    ) -> DeletionReceipt:
        """Delete files from the cache, also the models' partial files; the entries stay.

        Downloads of the models are canceled. Raises InUse if a model is loaded, unless `force`:
        then it is unloaded first. Raises StorageFailed if nothing could be deleted; failures of
        single items are in the receipt, and raised too if `whole`.
        """
        async with self._parts.audit.action(origin, "delete files", _names(what)):
            receipt = await self._parts.deletion.delete(what, force=force)
            await self._parts.verification.forget(receipt.model_ids)
            with contained("measuring the disk usage"):
                await self._parts.sampler.count_disk()
            if whole and receipt.failed:
                raise deletion_error(receipt)
            return receipt

    def undoable(self) -> tuple[Undoable, ...]:
        """Return the actions that can be undone, newest first."""
        return self._parts.undo.steps

    async def undo(self, key: str | None, origin: str) -> Undoable:
        """Undo the action with this key, or the newest for None. Raises NotFound, Conflict."""
        async with self._parts.audit.action(origin, "undo", key or "the newest"):
            return await self._parts.undo.undo(key)

    # Runtime

    async def plan_load(self, ref: str, wish: LoadWish) -> LoadPlan:
        """Plan a load: options, forecast, free memory, instances to unload, or the refusal."""
        return await self._parts.loader.plan(ref, wish)

    async def load(self, ref: str, wish: LoadWish, origin: str) -> Instance:
        """Begin to load a model; return the instance of a loaded one unchanged.

        Raises InvalidRequest, NotDownloaded, EngineMissing, NotEnoughMemory.
        """
        model = await self.resolve(ref)
        with self._parts.on_demand.waiting(model.id):
            instance = await self._parts.loader.load(model.id, wish, origin)
            self._parts.on_demand.keep(instance.id)
        return instance

    async def loaded(self, ref: str, wish: LoadWish, origin: str) -> Instance:
        """Load a model and wait until it is ready. Raises as `load`, and EngineFailed."""
        instance = await self.load(ref, wish, origin)
        return await self._parts.engines.ready(instance.id)

    def loads(self, limit: int = 200) -> list[LoadRecord]:
        """Return forecast and measured memory of earlier loads, newest first."""
        return list(reversed(self._parts.history.records))[:limit]

    def using(
        self,
        model: Model,
        options: LoadOptions,
        requester: Requester,
        keep_alive_s: float | None = None,
    ) -> AbstractAsyncContextManager[Instance]:
        """Provide a ready instance while the block runs; a downloaded model is loaded on demand.

        Options apply to a new load only, but a model with a shorter context than `context_length`
        is loaded again where nothing else uses it. `keep_alive_s` is the idle timeout after the
        block: 0 unloads it, a negative number keeps it. Raises as `loaded`, and Conflict if
        `api.load_on_demand` is off or a longer context is not possible now.
        """
        return self._parts.on_demand.using(model, options, requester, keep_alive_s)

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
        """End an instance, or cancel its load. The receipt tells the memory that came back."""
        return await self._parts.loader.unload(instance_id, origin)

    async def unload_all(self, origin: str) -> list[UnloadReceipt]:
        """End every instance that is not pinned."""
        wanted = [
            i.id for i in self.state.instances.values() if i.state.live and not i.options.pinned
        ]
        return list(await asyncio.gather(*(self.unload(key, origin) for key in wanted)))

    # Answers

    def answer(
        self,
        model: Model,
        request: GenerateRequest,
        requester: Requester,
        *,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
    ) -> AbstractAsyncContextManager[ModelReply]:
        """Generate an answer, chunk by chunk, with a model that is loaded on demand.

        Leaving the block cancels it. Options and `keep_alive_s` are those of `using`, and so are
        its errors; raises InvalidRequest, Busy, EngineFailed and Cancelled as well.
        """
        given = options or LoadOptions()
        return self._parts.model_answers.text(model, request, requester, given, keep_alive_s)

    async def embed(
        self,
        model: Model,
        texts: Sequence[str],
        requester: Requester,
        *,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
        truncate: bool = False,
    ) -> EmbeddingReply:
        """Return one vector per text, from an embedding model that is loaded on demand.

        `truncate` cuts off what the model cannot read; else a text that is too long is refused. The
        other arguments, and the errors, are those of `answer`.
        """
        given = options or LoadOptions()
        return await self._parts.model_answers.vectors(
            model, texts, requester, given, keep_alive_s, truncate=truncate
        )

    async def rank(
        self,
        model: Model,
        query: str,
        texts: Sequence[str],
        requester: Requester,
        *,
        keep_alive_s: float | None = None,
    ) -> list[TextScore]:
        """Return how well each text answers a query, by a reranker that is loaded on demand.

        Arguments and errors are those of `answer`.
        """
        return await self._parts.model_answers.scores(model, query, texts, requester, keep_alive_s)

    async def tokenize(
        self,
        model: Model,
        query: TokenQuery,
        requester: Requester,
        *,
        keep_alive_s: float | None = None,
    ) -> TokenizedText:
        """Return the tokens of a text, or the text of tokens, by a model loaded on demand.

        Arguments and errors are those of `answer`.
        """
        return await self._parts.model_answers.tokens(model, query, requester, keep_alive_s)

    def requests(self) -> tuple[RequestInfo, ...]:
        """Return the requests that run or wait and the last that ended, in order of arrival."""
        return self._parts.requests.list()

    async def cancel_request(self, request_id: str, requester: Requester) -> RequestInfo:
        """Cancel a request to a model. Raises NotFound, and Conflict for one that has ended."""
        async with self._parts.audit.action(requester.origin, "cancel request", request_id[:40]):
            return self._parts.requests.cancel(request_id, requester.who)
