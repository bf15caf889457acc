"""List the cache, and verify its files against their hashes.

A check reads all files, which may take minutes. So it is accepted at once, checks run one after
another, and their progress is in `State.verifications`.
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

from modeldeck.core.catalog.listing import from_snapshot
from modeldeck.core.concurrency import BackgroundTasks, DaemonThreadPool
from modeldeck.core.errors import Conflict, DeckError, NotFound, StorageFailed, StorageTimeout
from modeldeck.core.formats.unique_names import url_name
from modeldeck.core.hub_cache import orphans, scan
from modeldeck.core.hub_cache.deletion_plan import FileSet
from modeldeck.core.hub_cache.inventory import inventory
from modeldeck.core.hub_cache.stores import CacheStores
from modeldeck.core.runtime.prefix_folder import saved_prefixes
from modeldeck.core.schema import CacheListing, CacheSelection, Model, Verification
from modeldeck.core.schema.clock import now
from modeldeck.core.schema.errors import to_info
from modeldeck.core.schema.state import VerificationChanged, VerificationRemoved
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.library.deletion import ResolvedSelection
from modeldeck.core.service.library.library import ModelLibrary
from modeldeck.core.service.library.other_tools import content_hashes
from modeldeck.core.storage.foreign_files import SCAN_S, in_file_thread, stat_regular

logger = logging.getLogger(__name__)

TICK_S = 0.25
"""Seconds between updates of the progress."""

STALL_S = 30.0
"""Seconds without a byte after which a check gives up: the disk or network mount hangs."""

LEAVE_S = 5.0
"""Seconds to wait for the thread of a canceled check to stop."""

READERS = DaemonThreadPool(4, "checks of the cache")
"""Threads of checks: one reads, the others are abandoned ones that hang."""

KEPT = 10
"""Number of ended checks that stay on the list."""


class _Stopped(Exception):
    """The check was canceled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    path: Path
    blob: str
    size_bytes: int
    models: set[str] = field(default_factory=set)
    """Ids of the models that have this file."""


@dataclass(slots=True)
class _CheckWork:
    """State shared by a check's thread and the event loop."""

    done_bytes: int = 0
    stopped: bool = False
    path: Path | None = None
    """The file being read."""
    _progress: tuple[int, Path | None] = (0, None)
    _progress_at: float = field(default_factory=time.monotonic)

    def is_stalled(self, clock: float) -> bool:
        """Whether nothing was read for `STALL_S` seconds."""
        if (now := (self.done_bytes, self.path)) != self._progress:
            self._progress, self._progress_at = now, clock
        return clock - self._progress_at >= STALL_S

    def add_read(self, count: int) -> None:
        """Count bytes that were read. Raises _Stopped when the check was canceled."""
        self.done_bytes += count
        if self.stopped:
            raise _Stopped


class CacheVerification:
    """Lists and verifies the files of the cache."""

    def __init__(
        self,
        *,
        feed: Feed,
        library: ModelLibrary,
        cache: CacheStores,
        prefixes: Path,
        choose: Callable[[CacheSelection], Awaitable[ResolvedSelection]],
        tasks: BackgroundTasks,
    ) -> None:
        self._feed = feed
        self._library = library
        self._cache = cache
        self._prefixes = prefixes
        self._choose = choose
        self._tasks = tasks
        self._check_lock = asyncio.Lock()
        self._works: dict[str, _CheckWork] = {}

    async def listing(self) -> CacheListing:
        """Scan the cache and list everything that it holds."""
        await self._library.look(force=True)
        partials: dict[tuple[str, str], int] = {}
        alone: dict[tuple[str, str], int] = {}
        for root in self._cache.roots:
            partials |= await in_file_thread(partial(scan.partials, root), root, limit_s=SCAN_S)
            alone |= await in_file_thread(partial(orphans.find, root), root, limit_s=SCAN_S)
        urls = {name.repo: name.url for name in map(url_name, self._uniques()) if name}
        held = inventory(
            self._library.snapshots,
            partials,
            lambda snapshot: [model.unique for model in from_snapshot(snapshot)],
            alone,
        )
        listed = [replace(repo, url=urls.get(repo.repo)) for repo in held]
        saved = await in_file_thread(partial(saved_prefixes, self._prefixes), self._prefixes)
        return CacheListing(
            path=str(self._cache.hub.root),
            repositories=tuple(listed),
            prefix_cache_bytes=sum(saved.values()),
        )

    def _uniques(self) -> list[str]:
        """Return the unique names of all models and downloads."""
        state = self._feed.state
        models, jobs = state.models.values(), state.downloads.values()
        return [*(model.unique for model in models), *(job.unique for job in jobs)]

    async def verify(self, what: CacheSelection) -> Verification:
        """Begin to verify a selection; an empty one means the whole cache. Raises as `choose`."""
        everything = what == CacheSelection()
        foreign = self._foreign(what)
        names = {model.id for model in foreign}
        ours = tuple(ref for ref in what.models if self._library.find(ref).id not in names)
        chosen = await self._choose(replace(what, models=ours))
        models = self._feed.state.models.values() if everything else chosen.models
        owned = [model for model in models if model.downloaded and not model.local]
        files, unchecked = self._files(None if everything else chosen.wanted, owned)
        files += await in_file_thread(partial(_foreign_files, foreign), "blobs", custom=True)
        owned += foreign
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
        self._publish(check)
        self._forget_old()
        self._tasks.start(self._run(check, files), name=f"checking {check.what}")
        return check

    def _foreign(self, what: CacheSelection) -> list[Model]:
        """Return the selected models outside the cache. Raises Conflict for one without a hash."""
        foreign = [m for m in map(self._library.find, what.models) if m.local]
        for model in foreign:
            if not content_hashes(model):
                raise Conflict(
                    f"{model.name} lies at {model.path}, outside the cache: there is no hash to"
                    " check it against."
                )
        return foreign

    def _files(
        self, selected: Iterable[FileSet] | None, models: Iterable[Model]
    ) -> tuple[list[_File], tuple[str, ...]]:
        """Return the files to read, each content once, and the paths without a hash.

        `selected` None means the whole cache; `models` are the possible owners of the files.
        """
        owners: dict[tuple[str | None, str, str], list[str]] = {}
        for model in models:
            for revision, paths in self._library.files(model, every_revision=True):
                for path in paths:
                    owners.setdefault((model.repo, revision, path), []).append(model.id)
        wanted = {(w.repo, w.revision, path) for w in selected or () for path in w.paths}
        files: dict[object, _File] = {}
        unchecked = []
        for snapshot in self._library.snapshots:
            for file in snapshot.files:
                place = snapshot.repo, snapshot.revision, file.path
                if selected is not None and place not in wanted:
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
        """Cancel a check; an ended one stays as it is. Raises NotFound."""
        check = self._feed.state.verifications.get(key)
        if check is None:
            raise NotFound(
                f"There is no check {key}.",
                "It may have ended long ago; `modeldeck verify` checks again.",
            )
        if (work := self._works.get(key)) is not None:
            work.stopped = True
            check = replace(check, state="canceled", finished_at=now())
            self._publish(replace(check, rate_bytes_per_s=None, eta_s=None))
        return self._feed.state.verifications[key]

    async def forget(self, model_ids: Iterable[str]) -> None:
        """Remove deleted models and files from the results of ended checks."""
        deleted, root = set(model_ids), self._cache.hub.root
        for key, check in self._feed.state.verifications.items():
            if key in self._works or not deleted & set(check.model_ids):
                continue
            try:
                wrong = await in_file_thread(partial(_existing, check.wrong), root)
            except StorageTimeout:
                wrong = check.wrong
            if self._feed.state.verifications.get(key) is check:
                left = tuple(model for model in check.model_ids if model not in deleted)
                corrupt = tuple(model for model in check.corrupt if model not in deleted)
                self._publish(replace(check, model_ids=left, wrong=wrong, corrupt=corrupt))

    def _publish(self, check: Verification) -> None:
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
        """Read all files in a thread and publish the progress. Cancelled, it stops the thread."""
        self._publish(check)
        began = time.monotonic()
        reading = asyncio.create_task(READERS.run(partial(_wrong, files, work)))
        try:
            while not (await asyncio.wait([reading], timeout=TICK_S))[0]:
                if not work.stopped:
                    self._publish(_progress(check, work.done_bytes, time.monotonic() - began))
                if work.is_stalled(time.monotonic()):
                    reading.cancel()
        finally:
            work.stopped = work.stopped or not reading.done()
            await asyncio.wait([reading], timeout=LEAVE_S)
            reading.cancel()  # a thread that hangs is abandoned
            await asyncio.wait([reading])
        ended = replace(check, done_bytes=work.done_bytes, finished_at=now())
        try:
            wrong = reading.result()
        except _Stopped:
            return
        except (OSError, asyncio.CancelledError) as error:
            failed = _failure(error, work)
            self._publish(replace(ended, state="failed", error=to_info(failed)))
            return
        except Exception as error:  # a bug, which the task's owner reports
            bug = DeckError(
                f"modeldeck itself failed: {type(error).__name__}.", "Please report it."
            )
            self._publish(replace(ended, state="failed", error=to_info(bug)))
            raise
        for file in wrong:
            logger.warning("%s is corrupt: its content is not what its hash says.", file.path)
        if not work.stopped:
            paths = tuple(str(file.path) for file in wrong)
            corrupt = {model for file in wrong for model in file.models}
            self._publish(
                replace(ended, state="completed", wrong=paths, corrupt=tuple(sorted(corrupt)))
            )


def _foreign_files(models: Iterable[Model]) -> list[_File]:
    """Return the files of models of other tools. Raises StorageFailed. Blocks."""
    try:
        return [
            _File(
                path=Path(path), blob=blob, size_bytes=stat_regular(path).st_size, models={model.id}
            )
            for model in models
            for path, blob in content_hashes(model).items()
        ]
    except OSError as error:
        raise StorageFailed(
            f"{error.filename} cannot be read: {error.strerror}.", "See whether it is still there."
        ) from error


def _wrong(files: list[_File], work: _CheckWork) -> list[_File]:
    """Return the files whose content has another hash. Raises OSError, _Stopped. Blocks."""
    wrong = []
    for file in files:
        work.path = file.path
        try:
            found = scan.digest(file.path, file.blob, work.add_read)
        except FileNotFoundError:
            continue  # deleted meanwhile
        if found != file.blob:
            wrong.append(file)
    return wrong


def _failure(error: BaseException, work: _CheckWork) -> StorageFailed:
    """Return the error for a check that could not read a file."""
    if isinstance(error, OSError):
        return StorageFailed(
            f"{error.filename} cannot be read: {error.strerror}.", "Check the disk."
        )
    return StorageTimeout(
        f"{work.path or 'The cache'} did not answer within {STALL_S:g} s.",
        "Its disk or network mount hangs: check that, then try again.",
    )


def _existing(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the paths that exist. Blocks."""
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
