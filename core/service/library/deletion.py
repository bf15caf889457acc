"""Removal from the cache: what is meant, what would go, what stays because others need it.

A selection names models, revisions, repositories, or what nobody needs: partial files and detached
revisions. All of them become one plan, and one receipt.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from modeldeck.core.cache import orphans, scan
from modeldeck.core.cache import undo as cache_undo
from modeldeck.core.cache.deletion import execute
from modeldeck.core.cache.deletion_plan import FileSet
from modeldeck.core.cache.deletion_plan import plan as plan_deletion
from modeldeck.core.cache.stores import CacheStores
from modeldeck.core.concurrency import contained, whole
from modeldeck.core.downloads.queue import DownloadQueue
from modeldeck.core.errors import (
    Ambiguous,
    Conflict,
    InUse,
    InvalidRequest,
    NotFound,
    StorageFailed,
)
from modeldeck.core.schema import (
    CachedSnapshot,
    CacheSelection,
    DeletionItem,
    DeletionPlan,
    DeletionReceipt,
    Instance,
    KeptItem,
    Model,
)
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.library.entries import hub_name, url_name
from modeldeck.core.service.library.library import ModelLibrary
from modeldeck.core.service.undo import UndoLog
from modeldeck.core.storage.foreign_files import SCAN_S, in_thread

logger = logging.getLogger(__name__)
T = TypeVar("T")

EXECUTE_S = 600.0
"""Time limit in seconds for deleting: what was begun goes on behind it, so it is generous."""
MOST_TOLD = 20
"""Things that stayed which an error names; more are no help."""

Revision = tuple[str, str]
"""Repository and commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSelection:
    """What a selection means in the cache as it lies there now."""

    models: tuple[Model, ...]
    """Whose files go: those that were named, and those that a named revision holds."""
    wanted: tuple[FileSet, ...]
    revisions: frozenset[Revision]
    """Revisions that go whole."""
    partials: tuple[DeletionItem, ...] = ()
    """Partial files, and blobs that no revision needs."""
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
        release: Callable[[Sequence[Model]], Awaitable[None]],
        users: Callable[[Model], Sequence[Instance]],
        load_lock: asyncio.Lock,
        undo: UndoLog,
    ) -> None:
        """Wire it up.

        Args:
            feed: The State.
            library: What is listed, and where its files are.
            downloads: What is being fetched.
            cache: The folders of models.
            release: Lets go of models' files: downloads are cancelled, instances unloaded.
            users: Live instances that have a model's files open.
            load_lock: Held while files are deleted, and by loads while they are decided.
            undo: What can be taken back.
        """
        self._feed = feed
        self._library = library
        self._downloads = downloads
        self._cache = cache
        self._release = release
        self._users = users
        self._load_lock = load_lock
        self._undo = undo

    async def choose(self, what: CacheSelection) -> ResolvedSelection:
        """What a selection means. Raises NotFound, Ambiguous, InvalidRequest.

        Raises Conflict for a model at a path of the person's own: that is never deleted.
        """
        what = self._named(what)
        named = [self._library.find(ref) for ref in what.models]
        for model in named:
            if model.local:
                raise Conflict(
                    f"{model.name} lies at {model.path}: that is yours, never deleted from here.",
                    "Delete the file yourself, or take the entry off the list.",
                )
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

    def _named(self, what: CacheSelection) -> CacheSelection:
        """A selection with its repositories in the form that the cache has them in."""
        return replace(
            what,
            repositories=tuple(self._library.whole_repository(text) for text in what.repositories),
            revisions=tuple(self._library.revision_name(text) for text in what.revisions),
        )

    def _repos(self, leftovers: Sequence[DeletionItem]) -> set[str]:
        """The repositories in whose folders these lie."""
        folders = {Path(item.path).parent.parent.name for item in leftovers}
        return {name.removeprefix("models--").replace("--", "/", 1) for name in folders}

    def _snapshots(self, what: CacheSelection, others: Collection[str]) -> list[CachedSnapshot]:
        """Revisions that are meant whole, each once.

        Raises NotFound for a repository of which nothing is there; `others` have no revision, but
        something else (in lower case).
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
        """Revisions without a branch that somebody asked for by their commit, or fetches now."""
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
        """Partial files, and blobs that no revision needs, as far as they are meant. Blocks.

        Those of downloads that go on are kept.
        """
        repos = {repo.casefold() for repo in what.repositories}
        owners = self._downloads.wanted
        going: list[DeletionItem] = []
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
                    going.append(DeletionItem(path=path, size_bytes=size, kind=kind))

        for root in self._cache.roots:
            sort(scan.partials(root), "partial")
            if what.orphans or repos:
                sort(orphans.find(root), "blob")
        if what.partials:
            going += [
                DeletionItem(path=path, size_bytes=size, kind="partial")
                for path, size in scan.strangers(self._cache.hub.root).items()
            ]
        return going, kept

    async def plan(self, what: CacheSelection) -> DeletionPlan:
        """What deleting this would do to the cache as it lies there now. Raises as `choose`."""
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
            await in_thread(
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
        """Delete what is meant; the entries of models stay.

        Raises InUse when a model of it is loaded, unless `force`, and as `choose`.
        """
        async with self._load_lock:  # no load begins until the files are gone
            return await self._delete(await self.choose(what), force=force)

    async def _delete(self, chosen: ResolvedSelection, *, force: bool) -> DeletionReceipt:
        blocked = self._blocked(chosen.models)
        if blocked and not force:
            raise InUse(f"{'; '.join(blocked)}.", "Unload it first, or say force.")
        await self._release(chosen.models)
        plan = await self._plan(chosen)  # only now: what was released changed what lies there
        unkept = [model for model in chosen.models if not await self._keep(model)]
        taken = await self._in_thread(partial(cache_undo.remember, plan))
        receipt = await self._in_thread(partial(self._execute, plan), limit_s=EXECUTE_S)
        for model in unkept:  # there may be room now
            await self._keep(model)
        with contained("looking what the deletion left"):  # it is done all the same
            await self._downloads.recount()
            await self._library.look(force=True)
        if receipt.failed and not receipt.deleted:
            raise stayed(receipt)
        if taken is None or receipt.failed:
            return receipt
        done = f"removed {len(taken.links)} links to content that others use"
        return replace(receipt, undo=self._undo.offer(done, lambda: self._restore(taken)))

    async def _keep(self, model: Model) -> bool:
        """Keep the entry of a model; whether that could be written down.

        Deleting goes on without it: on a full disk it is what makes room.
        """
        try:
            await self._library.added.keep(model)
        except StorageFailed as error:
            logger.warning("%s leaves the list with its files: %s", model.unique, error)
            return False
        return True

    def _blocked(self, models: Sequence[Model]) -> tuple[str, ...]:
        """Why models must not lose their files now, in words."""
        return tuple(
            f"{model.unique} is loaded"
            if user.model_id == model.id
            else f"{model.unique} is loaded as the draft model of {user.unique}"
            for model in models
            for user in self._users(model)
        )

    def _execute(self, plan: DeletionPlan) -> DeletionReceipt:
        """Execute what of the plan is in each folder. Blocks."""
        receipts = []
        for root in self._cache.roots:
            mine = tuple(item for item in plan.delete if Path(item.path).is_relative_to(root))
            if mine or root == self._cache.hub.root:
                receipts.append(execute(root, replace(plan, delete=mine)))
        disk = receipts[-1]  # where a URL's file was
        return DeletionReceipt(
            model_ids=plan.model_ids,
            freed_bytes=sum(receipt.freed_bytes for receipt in receipts),
            deleted=sum(receipt.deleted for receipt in receipts),
            failed=tuple(text for receipt in receipts for text in receipt.failed),
            free_before_bytes=disk.free_before_bytes,
            free_after_bytes=disk.free_after_bytes,
        )

    async def _in_thread(self, work: Callable[[], T], limit_s: float = SCAN_S) -> T:
        """Work on the cache in a thread. Raises StorageTimeout."""
        return await in_thread(work, self._cache.hub.root, limit_s=limit_s)

    @whole
    async def _restore(self, taken: cache_undo.RemovedLinks) -> None:
        async with self._load_lock:  # no deletion takes the content between a look and a link
            await self._in_thread(partial(cache_undo.restore, taken))
            await self._library.look(force=True)


def stayed(receipt: DeletionReceipt) -> StorageFailed:
    """The error for a deletion that left something, naming what stayed and why."""
    count = len(receipt.failed)
    things = "1 thing" if count == 1 else f"{count} things"
    message = f"Nothing was deleted: {receipt.failed[0]}."
    if receipt.deleted:
        message = f"{things} could not be deleted; {receipt.deleted} went."
    return StorageFailed(
        message,
        "Check the permissions there, and whether its disk is mounted for reading only.",
        details=receipt.failed[:MOST_TOLD],
    )


def _revision(snapshots: Sequence[CachedSnapshot], text: str) -> CachedSnapshot:
    """The one revision that `owner/repo@name` means; a branch counts before a commit."""
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
