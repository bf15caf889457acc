"""Delete models from the cache: resolve a selection, plan, execute, and offer to undo.

A selection names models, revisions, repositories, or unused data: partial files, orphaned blobs and
detached revisions. All of it becomes one plan and one receipt.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from modeldeck.core.concurrency import contained, whole
from modeldeck.core.downloads.queue import DownloadQueue
from modeldeck.core.errors import (
    Ambiguous,
    InUse,
    InvalidRequest,
    NotFound,
    StorageFailed,
)
from modeldeck.core.formats.unique_names import hub_name, url_name
from modeldeck.core.hub_cache import orphans, scan
from modeldeck.core.hub_cache import undo as cache_undo
from modeldeck.core.hub_cache.deletion import execute
from modeldeck.core.hub_cache.deletion_plan import FileSet
from modeldeck.core.hub_cache.deletion_plan import plan as plan_deletion
from modeldeck.core.hub_cache.stores import CacheStores
from modeldeck.core.runtime.prefix_folder import saved_prefixes
from modeldeck.core.schema import (
    CachedSnapshot,
    CacheSelection,
    DeletionItem,
    DeletionPlan,
    DeletionReceipt,
    DeletionUnload,
    Instance,
    KeptItem,
    Model,
)
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.library.library import ModelLibrary
from modeldeck.core.service.library.other_tools import deletion_refused
from modeldeck.core.service.undo_log import UndoLog
from modeldeck.core.storage.foreign_files import SCAN_S, in_file_thread

logger = logging.getLogger(__name__)
T = TypeVar("T")

EXECUTE_S = 600.0
"""Time limit in seconds for deleting; generous, since the thread goes on after it anyway."""
MOST_TOLD = 20
"""Number of items that an error lists."""

Revision = tuple[str, str]
"""Repository and commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSelection:
    """A selection, resolved to the present content of the cache."""

    models: tuple[Model, ...]
    """Models that lose files: the named ones, and those in a selected revision."""
    wanted: tuple[FileSet, ...]
    revisions: frozenset[Revision]
    """Revisions that are deleted completely."""
    partials: tuple[DeletionItem, ...] = ()
    """Partial files, blobs that no revision needs, saved conversations."""
    kept: tuple[KeptItem, ...] = ()


class ModelDeletion:
    """Plans and executes deletions."""

    def __init__(
        self,
        *,
        feed: Feed,
        library: ModelLibrary,
        downloads: DownloadQueue,
        cache: CacheStores,
        prefixes: Path,
        release: Callable[[Sequence[Model]], Awaitable[None]],
        users: Callable[[Model], Sequence[Instance]],
        load_lock: asyncio.Lock,
        undo: UndoLog,
    ) -> None:
        """Create it without side effects.

        Args:
            feed: The State.
            library: Finds models and their files.
            downloads: The download queue.
            cache: The folders of models.
            prefixes: The folder of saved conversations.
            release: Cancels the downloads of models and unloads their instances.
            users: Returns the live instances that have a model's files open.
            load_lock: Held while files are deleted, and while a load is decided.
            undo: Keeps the actions that can be undone.
        """
        self._feed = feed
        self._library = library
        self._downloads = downloads
        self._cache = cache
        self._prefixes = prefixes
        self._release = release
        self._users = users
        self._load_lock = load_lock
        self._undo = undo

    async def choose(self, what: CacheSelection) -> ResolvedSelection:
        """Resolve a selection. Raises NotFound, Ambiguous, InvalidRequest.

        Raises Conflict for a custom model outside the cache, which is never deleted.
        """
        what = self._normalised(what)
        named = [self._library.find(ref) for ref in what.models]
        for model in named:
            if model.local:
                raise deletion_refused(model)
        await self._library.look(force=True)
        partials, kept = await self._in_thread(partial(self._leftovers, what))
        snapshots = self._snapshots(what, {repo.casefold() for repo in self._repos(partials)})
        revisions = frozenset((s.repo, s.revision) for s in snapshots)
        held = [
            model
            for model in self._feed.state.models.values()
            if model.downloaded and (model.repo, model.revision) in revisions
        ]
        wanted = [want for model in named for want in self._files(model, what.every_revision)]
        wanted += [
            FileSet(repo=s.repo, revision=s.revision, paths=tuple(file.path for file in s.files))
            for s in snapshots
        ]
        return ResolvedSelection(
            models=tuple({model.id: model for model in (*named, *held)}.values()),
            wanted=tuple(wanted),
            revisions=revisions,
            partials=tuple(partials),
            kept=tuple(kept),
        )

    def _normalised(self, what: CacheSelection) -> CacheSelection:
        """Return the selection with its repositories as `owner/repo`."""
        return replace(
            what,
            repositories=tuple(self._library.whole_repository(text) for text in what.repositories),
            revisions=tuple(self._library.revision_name(text) for text in what.revisions),
        )

    def _repos(self, leftovers: Sequence[DeletionItem]) -> set[str]:
        """Return the repositories of these items."""
        folders = {Path(item.path).parent.parent.name for item in leftovers}
        return {name.removeprefix("models--").replace("--", "/", 1) for name in folders}

    def _snapshots(self, what: CacheSelection, others: Collection[str]) -> list[CachedSnapshot]:
        """Return the revisions that are selected completely, each once.

        `others` are repositories (in lower case) with partial files or blobs but no revision.
        Raises NotFound for a repository of which the cache has nothing.
        """
        held = self._library.snapshots
        found = []
        for repo in what.repositories:
            mine = [s for s in held if s.repo.casefold() == repo.casefold()]
            if not mine and repo.casefold() not in others:
                raise NotFound(f"The cache holds nothing of {repo}.", "GET /deck/cache lists it.")
            found += mine
        for text in what.revisions:
            found.append(_revision(held, text))
        if what.detached:
            needed = self._needed_revisions()
            found += [s for s in held if not s.refs and (s.repo, s.revision) not in needed]
        return list({(s.repo, s.revision): s for s in found}.values())

    def _needed_revisions(self) -> set[Revision]:
        """Return the revisions that a model pins by its commit, or that are being downloaded."""
        state = self._feed.state
        needed = {
            (job.repo, job.revision)
            for job in state.downloads.values()
            if job.state not in ("completed", "canceled")
        }
        for model in state.models.values():
            name = hub_name(model.unique)
            if name is not None and name.revision is not None:
                needed |= {
                    (s.repo, s.revision)
                    for s in self._library.snapshots
                    if s.repo == name.repo and s.revision.startswith(name.revision)
                }
        return needed

    def _leftovers(self, what: CacheSelection) -> tuple[list[DeletionItem], list[KeptItem]]:
        """Return the selected files that belong to no model, and those that are kept. Blocks.

        Those of downloads that go on are kept.
        """
        repos = {repo.casefold() for repo in what.repositories}
        owners = self._downloads.wanted
        deleted: list[DeletionItem] = []
        kept: list[KeptItem] = []

        def sort(found: Mapping[orphans.Blob, int], kind: Literal["partial", "blob"]) -> None:
            every = what.partials if kind == "partial" else what.orphans
            place = self._cache.partial if kind == "partial" else self._cache.blob
            for (repo, blob), size in found.items():
                if not every and repo.casefold() not in repos:
                    continue
                path = str(place(repo, blob))
                if owner := owners.get((repo, blob)):
                    reason = f"the download of {owner} goes on with it"
                    kept.append(KeptItem(path=path, size_bytes=size, reason=reason))
                else:
                    deleted.append(DeletionItem(path=path, size_bytes=size, kind=kind))

        for root in self._cache.roots:
            sort(scan.partials(root), "partial")
            if what.orphans or repos:
                sort(orphans.find(root), "blob")
        if what.partials:
            deleted += [
                DeletionItem(path=path, size_bytes=size, kind="partial")
                for path, size in scan.foreign_partials(self._cache.hub.root).items()
            ]
        if what.prefixes:
            deleted += [
                DeletionItem(path=str(path), size_bytes=size, kind="prefix")
                for path, size in saved_prefixes(self._prefixes).items()
            ]
        return deleted, kept

    async def plan(self, what: CacheSelection) -> DeletionPlan:
        """Plan a deletion on the present content of the cache. Raises as `choose`."""
        return await self._plan(await self.choose(what))

    async def _plan(self, chosen: ResolvedSelection) -> DeletionPlan:
        going = {model.id for model in chosen.models}
        others = [
            want
            for other in self._feed.state.models.values()
            if other.downloaded and not other.local and other.id not in going
            for want in self._files(other, every_revision=True)
            if (want.repo, want.revision) not in chosen.revisions
        ]
        needed = set(self._downloads.wanted)
        plans = [
            await in_file_thread(
                partial(plan_deletion, root, chosen.wanted, others, needed),
                root,
                limit_s=SCAN_S,
            )
            for root in self._cache.roots
        ]
        leftovers = {item.path for item in chosen.partials}
        delete = [i for plan in plans for i in plan.delete if i.path not in leftovers]
        return DeletionPlan(
            model_ids=tuple(model.id for model in chosen.models),
            delete=(*chosen.partials, *delete),
            keep=(*(item for plan in plans for item in plan.keep), *chosen.kept),
            freed_bytes=sum(item.size_bytes for item in (*chosen.partials, *delete)),
            blocked=self._blocked(chosen.models),
            unloads=self._unloads(chosen.models),
        )

    def _files(self, model: Model, every_revision: bool) -> list[FileSet]:
        name = url_name(model.unique)
        return [
            FileSet(
                repo=name.repo if name else model.repo or "",
                revision=revision,
                paths=tuple(paths),
                reason=model.unique,
            )
            for revision, paths in self._library.files(model, every_revision=every_revision)
        ]

    @whole
    async def delete(self, what: CacheSelection, *, force: bool) -> DeletionReceipt:
        """Delete a selection; the entries of models stay.

        Raises InUse if one of its models is loaded, unless `force`, and as `choose`.
        """
        async with self._load_lock:  # no load begins until the files are gone
            return await self._delete(await self.choose(what), force=force)

    async def _delete(self, chosen: ResolvedSelection, *, force: bool) -> DeletionReceipt:
        blocked = self._blocked(chosen.models)
        if blocked and not force:
            raise InUse(f"{'; '.join(blocked)}.", "Unload it first, or say force.")
        await self._release(chosen.models)
        plan = await self._plan(chosen)  # only now: releasing changed the content of the cache
        unkept = [model for model in chosen.models if not await self._keep(model)]
        removed = await self._in_thread(partial(cache_undo.remember, plan))
        receipt = await self._in_thread(partial(self._execute, plan), limit_s=EXECUTE_S)
        for model in unkept:  # the disk may have space now
            await self._keep(model)
        with contained("scanning the cache after a deletion"):  # it is done all the same
            await self._downloads.recount()
            await self._library.look(force=True)
        if receipt.failed and not receipt.deleted:
            raise deletion_error(receipt)
        if removed is None or receipt.failed:
            return receipt
        count = len(removed.links)
        key = self._undo.offer(
            f"removed {count} links to shared files",
            f"{count} links to shared files are back",
            lambda: self._restore(removed),
        )
        return replace(receipt, undo=key)

    async def _keep(self, model: Model) -> bool:
        """Store the entry of a model. Returns whether that succeeded.

        Deleting goes on if it fails: on a full disk, deleting is what frees space.
        """
        try:
            await self._library.added.keep(model)
        except StorageFailed as error:
            logger.warning("%s leaves the list with its files: %s", model.unique, error)
            return False
        return True

    def _blocked(self, models: Sequence[Model]) -> tuple[str, ...]:
        """Return in words why the files of models must not be deleted now."""
        return tuple(
            f"{model.unique} is loaded"
            if user.model_id == model.id
            else f"{model.unique} is loaded as the draft model of {user.unique}"
            for model in models
            for user in self._users(model)
        )

    def _unloads(self, models: Sequence[Model]) -> tuple[DeletionUnload, ...]:
        """Return what `force` unloads first, with the answers that end."""
        users = {user.id: user for model in models for user in self._users(model)}
        answering = [r for r in self._feed.state.requests.values() if r.live]
        return tuple(
            DeletionUnload(
                instance_id=user.id,
                model_id=user.model_id,
                unique=user.unique,
                answers=user.running,
                who=tuple(dict.fromkeys(r.who for r in answering if r.instance_id == user.id)),
            )
            for user in users.values()
        )

    def _execute(self, plan: DeletionPlan) -> DeletionReceipt:
        """Execute the parts of the plan in each folder. Blocks."""
        receipts = []
        for root in (self._prefixes, *self._cache.roots):
            mine = tuple(item for item in plan.delete if Path(item.path).is_relative_to(root))
            if mine or root == self._cache.hub.root:
                receipts.append(execute(root, replace(plan, delete=mine)))
        disk = receipts[-1]  # the disk of files from URLs
        return DeletionReceipt(
            model_ids=plan.model_ids,
            freed_bytes=sum(receipt.freed_bytes for receipt in receipts),
            deleted=sum(receipt.deleted for receipt in receipts),
            failed=tuple(text for receipt in receipts for text in receipt.failed),
            free_before_bytes=disk.free_before_bytes,
            free_after_bytes=disk.free_after_bytes,
        )

    async def _in_thread(self, work: Callable[[], T], limit_s: float = SCAN_S) -> T:
        """Run blocking work on the cache in a thread. Raises StorageTimeout."""
        return await in_file_thread(work, self._cache.hub.root, limit_s=limit_s)

    @whole
    async def _restore(self, removed: cache_undo.RemovedLinks) -> None:
        async with self._load_lock:  # no deletion may remove the content meanwhile
            await self._in_thread(partial(cache_undo.restore, removed))
            await self._library.look(force=True)


def deletion_error(receipt: DeletionReceipt) -> StorageFailed:
    """Return the error for a deletion that failed for some items, listing them with reasons."""
    count = len(receipt.failed)
    things = "1 thing" if count == 1 else f"{count} things"
    message = f"Nothing was deleted: {receipt.failed[0]}."
    if receipt.deleted:
        message = f"{things} could not be deleted; {receipt.deleted} were."
    return StorageFailed(
        message,
        "Check the permissions there, and whether its disk is mounted for reading only.",
        details=receipt.failed[:MOST_TOLD],
    )


def _revision(snapshots: Sequence[CachedSnapshot], text: str) -> CachedSnapshot:
    """Return the revision that `owner/repo@name` selects; a branch goes before a commit."""
    repo, _, name = text.partition("@")
    if not name:
        raise InvalidRequest(f"{text!r} names no revision.", "Write it as owner/repo@1a2b3c4.")
    mine = [s for s in snapshots if s.repo.casefold() == repo.casefold()]
    found = [s for s in mine if name in s.refs] or [s for s in mine if s.revision.startswith(name)]
    if len(found) > 1:
        names = ", ".join(s.revision[:8] for s in found)
        raise Ambiguous(f"{text} fits several revisions: {names}.", "Give more of the commit.")
    if not found:
        raise NotFound(f"The cache holds no revision {text}.", "`modeldeck cache ls` lists them.")
    return found[0]
