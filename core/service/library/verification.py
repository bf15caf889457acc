"""Upkeep of the cache: what it holds, and whether that is still what it should be.

A check reads everything again, so it may take minutes: it is accepted at once, checks run one after
the other, and how they go is in `State.verifications`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from modeldeck.core.cache import orphans, scan
from modeldeck.core.cache.deletion_plan import FileSet
from modeldeck.core.cache.inventory import inventory
from modeldeck.core.cache.stores import CacheStores
from modeldeck.core.catalog.listing import from_snapshot
from modeldeck.core.concurrency import BackgroundTasks, DaemonThreadPool
from modeldeck.core.errors import Conflict, DeckError, NotFound, StorageFailed, StorageTimeout
from modeldeck.core.schema import CacheListing, CacheSelection, Model, Verification
from modeldeck.core.schema.clock import now
from modeldeck.core.schema.errors import to_info
from modeldeck.core.schema.state import VerificationChanged, VerificationRemoved
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.library.deletion import ResolvedSelection
from modeldeck.core.service.library.entries import url_name
from modeldeck.core.service.library.library import ModelLibrary
from modeldeck.core.storage.foreign_files import SCAN_S, in_thread

logger = logging.getLogger(__name__)

TICK_S = 0.25
"""How often progress is told."""

STALL_S = 30.0
"""Seconds without a byte after which a check gives up: the disk or network mount hangs."""

LEAVE_S = 5.0
"""Seconds for the reader of a check that was called off to hear of it."""

READERS = DaemonThreadPool(4, "checks of the cache")
"""Threads of checks: one at a time reads, further ones are those that hang."""

KEPT = 10
"""Ended checks that stay on the list."""


class _Stopped(Exception):
    """The check was called off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    path: Path
    blob: str
    size_bytes: int
    models: set[str] = field(default_factory=set)
    """Ids of those that have it."""


@dataclass(slots=True)
class _CheckWork:
    """What a check's thread and the loop tell each other."""

    done_bytes: int = 0
    stopped: bool = False
    path: Path | None = None
    """The file that is being read."""
    _seen: tuple[int, Path | None] = (0, None)
    _seen_at: float = field(default_factory=time.monotonic)

    def is_stalled(self, clock: float) -> bool:
        """Whether nothing was read for `STALL_S`."""
        if (now := (self.done_bytes, self.path)) != self._seen:
            self._seen, self._seen_at = now, clock
        return clock - self._seen_at >= STALL_S

    def read(self, count: int) -> None:
        """Count what was read. Raises _Stopped when it is to end."""
        self.done_bytes += count
        if self.stopped:
            raise _Stopped


class CacheVerification:
    """Lists and checks what the cache holds."""

    def __init__(
        self,
        *,
        feed: Feed,
        library: ModelLibrary,
        cache: CacheStores,
        choose: Callable[[CacheSelection], Awaitable[ResolvedSelection]],
        tasks: BackgroundTasks,
    ) -> None:
        self._feed = feed
        self._library = library
        self._cache = cache
        self._choose = choose
        self._tasks = tasks
        self._check_lock = asyncio.Lock()
        self._works: dict[str, _CheckWork] = {}

    async def listing(self) -> CacheListing:
        """All that the cache holds, as it lies there now."""
        await self._library.look(force=True)
        partials: dict[tuple[str, str], int] = {}
        alone: dict[tuple[str, str], int] = {}
        for root in self._cache.roots:
            partials |= await in_thread(partial(scan.partials, root), root, limit_s=SCAN_S)
            alone |= await in_thread(partial(orphans.find, root), root, limit_s=SCAN_S)
        urls = {name.repo: name.url for name in map(url_name, self._uniques()) if name}
        held = inventory(
            self._library.snapshots,
            partials,
            lambda snapshot: [model.unique for model in from_snapshot(snapshot)],
            alone,
        )
        listed = [replace(repo, url=urls.get(repo.repo)) for repo in held]
        return CacheListing(path=str(self._cache.hub.root), repositories=tuple(listed))

    def _uniques(self) -> list[str]:
        """Names of what is listed or being fetched."""
        state = self._feed.state
        models, jobs = state.models.values(), state.downloads.values()
        return [*(model.unique for model in models), *(job.unique for job in jobs)]

    async def verify(self, what: CacheSelection) -> Verification:
        """Begin to check what is named, all of the cache where nothing is. Raises as `choose`."""
        everything = what == CacheSelection()
        for ref in what.models:
            if (model := self._library.find(ref)).local:
                raise Conflict(
                    f"{model.name} lies at {model.path}, outside the cache: there is no hash to"
                    " check it against."
                )
        chosen = await self._choose(what)
        models = self._feed.state.models.values() if everything else chosen.models
        owned = [model for model in models if model.downloaded and not model.local]
        files, unchecked = self._files(None if everything else chosen.wanted, owned)
        if not files and not unchecked:
            raise NotFound("There is nothing of that in the cache.", "GET /deck/cache lists it.")
        check = Verification(
            id=str(uuid.uuid4()),
            what=_words(what),
            model_ids=tuple(model.id for model in owned),
            state="queued",
            total_bytes=sum(file.size_bytes for file in files),
            files=len(files),
            unchecked=unchecked,
            started_at=now(),
        )
        self._works[check.id] = _CheckWork()
        self._tell(check)
        self._forget_old()
        self._tasks.start(self._run(check, files), name=f"checking {check.what}")
        return check

    def _files(
        self, meant: Iterable[FileSet] | None, models: Iterable[Model]
    ) -> tuple[list[_File], tuple[str, ...]]:
        """What is to be read, each content once, and the paths that there is no hash for.

        All that the cache holds where `meant` is None; `models` are those that may have it.
        """
        owners: dict[tuple[str | None, str, str], list[str]] = {}
        for model in models:
            for revision, paths in self._library.files(model, every_revision=True):
                for path in paths:
                    owners.setdefault((model.repo, revision, path), []).append(model.id)
        wanted = {(w.repo, w.revision, path) for w in meant or () for path in w.paths}
        files: dict[object, _File] = {}
        unchecked = []
        for snapshot in self._library.snapshots:
            for file in snapshot.files:
                place = snapshot.repo, snapshot.revision, file.path
                if meant is not None and place not in wanted:
                    continue
                where = Path(snapshot.folder).joinpath(*file.path.split("/"))
                if not file.blob:
                    unchecked.append(str(where))
                    continue
                content = _File(path=where, blob=file.blob, size_bytes=file.size_bytes)
                content = files.setdefault(file.shared or (snapshot.repo, file.blob), content)
                content.models.update(owners.get(place, ()))
        return list(files.values()), tuple(unchecked)

    async def cancel(self, key: str) -> Verification:
        """Call a check off; one that has ended stays as it is. Raises NotFound."""
        check = self._feed.state.verifications.get(key)
        if check is None:
            raise NotFound(f"There is no check {key}.", "GET /deck/state lists them.")
        if (work := self._works.get(key)) is not None:
            work.stopped = True
            check = replace(check, state="canceled", finished_at=now())
            self._tell(replace(check, rate_bytes_per_s=None, eta_s=None))
        return self._feed.state.verifications[key]

    async def forget(self, model_ids: Iterable[str]) -> None:
        """Take what was deleted out of what ended checks found."""
        gone, root = set(model_ids), self._cache.hub.root
        for key, check in self._feed.state.verifications.items():
            if key in self._works or not gone & set(check.model_ids):
                continue
            try:
                wrong = await in_thread(partial(_left, check.wrong), root)
            except StorageTimeout:
                wrong = check.wrong
            if self._feed.state.verifications.get(key) is check:
                left = tuple(model for model in check.model_ids if model not in gone)
                corrupt = tuple(model for model in check.corrupt if model not in gone)
                self._tell(replace(check, model_ids=left, wrong=wrong, corrupt=corrupt))

    def _tell(self, check: Verification) -> None:
        if self._feed.state.verifications.get(check.id) != check:
            self._feed.commit(VerificationChanged, verification=check)

    def _forget_old(self) -> None:
        ended = [key for key in self._feed.state.verifications if key not in self._works]
        for key in ended[:-KEPT]:
            self._feed.commit(VerificationRemoved, id=key)

    async def _run(self, check: Verification, files: list[_File]) -> None:
        work = self._works[check.id]
        try:
            async with self._check_lock:
                if not work.stopped:
                    await self._read(replace(check, state="verifying"), files, work)
        finally:
            del self._works[check.id]

    async def _read(self, check: Verification, files: list[_File], work: _CheckWork) -> None:
        """Read all files in a thread, and tell how far it is. Cancelled, the thread ends first."""
        self._tell(check)
        began = time.monotonic()
        reading = asyncio.create_task(READERS.run(partial(_wrong, files, work)))
        try:
            while not (await asyncio.wait([reading], timeout=TICK_S))[0]:
                if not work.stopped:
                    self._tell(_progress(check, work.done_bytes, time.monotonic() - began))
                if work.is_stalled(time.monotonic()):
                    reading.cancel()
        finally:
            work.stopped = work.stopped or not reading.done()
            await asyncio.wait([reading], timeout=LEAVE_S)
            reading.cancel()  # its thread is left behind where it hangs
            await asyncio.wait([reading])
        ended = replace(check, done_bytes=work.done_bytes, finished_at=now())
        try:
            wrong = reading.result()
        except _Stopped:
            return
        except (OSError, asyncio.CancelledError) as error:
            failed = _failure(error, work)
            self._tell(replace(ended, state="failed", error=to_info(failed)))
            return
        except Exception as error:  # a bug, which the owner of the task reports
            bug = DeckError(
                f"modeldeck itself failed: {type(error).__name__}.", "Please report it."
            )
            self._tell(replace(ended, state="failed", error=to_info(bug)))
            raise
        for file in wrong:
            logger.warning("%s is corrupt: its content is not what its hash says.", file.path)
        if not work.stopped:
            paths = tuple(str(file.path) for file in wrong)
            corrupt = {model for file in wrong for model in file.models}
            self._tell(
                replace(ended, state="completed", wrong=paths, corrupt=tuple(sorted(corrupt)))
            )


def _wrong(files: list[_File], work: _CheckWork) -> list[_File]:
    """Files whose content has another hash. Raises OSError, _Stopped. Blocks."""
    wrong = []
    for file in files:
        work.path = file.path
        try:
            found = scan.digest(file.path, file.blob, work.read)
        except FileNotFoundError:
            continue  # deleted meanwhile, by whatever tool
        if found != file.blob:
            wrong.append(file)
    return wrong


def _failure(error: BaseException, work: _CheckWork) -> StorageFailed:
    """What a person is told when a check could not read on."""
    if isinstance(error, OSError):
        return StorageFailed(
            f"{error.filename} cannot be read: {error.strerror}.", "Check the disk."
        )
    return StorageTimeout(
        f"{work.path or 'The cache'} did not answer within {STALL_S:g} s.",
        "Its disk or network mount hangs: check that, then try again.",
    )


def _left(paths: Iterable[str]) -> tuple[str, ...]:
    """The paths where something is. Blocks."""
    return tuple(path for path in paths if os.path.lexists(path))


def _progress(check: Verification, done_bytes: int, seconds: float) -> Verification:
    rate = done_bytes / seconds if seconds > 0 else 0.0
    left = max(0, check.total_bytes - done_bytes)
    return replace(
        check,
        done_bytes=done_bytes,
        rate_bytes_per_s=rate or None,
        eta_s=left / rate if rate >= 1 else None,
    )


def _words(what: CacheSelection) -> str:
    names = [*what.models, *what.revisions, *what.repositories]
    if what.detached:
        names.append("detached revisions")
    return ", ".join(names) or "the whole cache"
