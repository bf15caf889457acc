"""Table of the blobs that jobs download: locks, claims, progress, verification, publishing.

A content is one blob of one repository. It has one partial file, one claim, one progress and one
transfer at a time, shared by all jobs that need it: a second job waits for the first one's result.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from modeldeck.core.concurrency import in_thread
from modeldeck.core.config import config
from modeldeck.core.downloads.http.peer import PeerSource
from modeldeck.core.downloads.http.responses import FileLocation
from modeldeck.core.downloads.http.source import DownloadSource
from modeldeck.core.downloads.job_records import DownloadJob, DurableRanges, FileProgress, Key
from modeldeck.core.downloads.journal import DownloadJournal
from modeldeck.core.downloads.ranges import covered
from modeldeck.core.downloads.transfer.bandwidth_limit import RateLimits
from modeldeck.core.downloads.transfer.fallocate import allocated
from modeldeck.core.downloads.transfer.file_transfer import FileTransfer
from modeldeck.core.downloads.transfer.partial_file import disk_failure
from modeldeck.core.downloads.transfer.verifier import verified
from modeldeck.core.errors import Corrupt, NotEnoughDisk, StorageFailed, StorageTimeout
from modeldeck.core.schema import RepoFile
from modeldeck.core.storage import foreign_files

logger = logging.getLogger(__name__)

Check = Callable[[Path], None]
"""Raises Corrupt for a file that is no model. Blocks."""

LOCK_POLL_S = 0.5
"""Seconds between two tries of a lock that another program holds."""


class ProcessLock(Protocol):
    """A lock between processes."""

    def try_acquire(self) -> bool:
        """Take the lock if it is free; return whether it was."""

    def release(self) -> None:
        """Release the lock."""


class Target(Protocol):
    """The operations of a cache that downloads need. All of them block."""

    def partial(self, repo: str, blob: str) -> Path:
        """Path of the partial file of a blob."""

    def blob(self, repo: str, blob: str) -> Path:
        """Path of a published blob."""

    def present(self, repo: str, revision: str, file: RepoFile) -> Path | None:
        """Path of the published file if its size is right; its content is not checked."""

    def lock(self, repo: str, blob: str) -> ProcessLock:
        """The lock that every tool takes to write this blob."""

    def prepare(self, repo: str) -> None:
        """Create the folders of a partial file."""

    def publish(
        self, repo: str, revision: str, file: RepoFile, *, fresh: bool, content: str = ""
    ) -> Path:
        """Make a verified file visible to every tool; `fresh`: move the partial file.

        `content` is the hash of a file that is not `verifiable`.
        """

    def set_ref(self, repo: str, ref: str, revision: str) -> None:
        """Record the commit of a branch."""

    def discard(self, repo: str, blob: str) -> None:
        """Delete a partial file, and its folders if they are empty then."""


class BlobTable:
    """All blobs that jobs need, or that have a partial file."""

    def __init__(
        self,
        *,
        cache: Target,
        journal: DownloadJournal,
        source: DownloadSource,
        settings: config.DownloadSettings,
        limits: RateLimits,
        free_bytes: Callable[[str], int | None],
        check: Check,
    ) -> None:
        self._cache = cache
        self._journal = journal
        self._source = source
        self._settings = settings
        self._limits = limits
        self._free_bytes = free_bytes
        self._check = check
        self._claims: dict[Key, DurableRanges] = {}
        self._progress: dict[Key, FileProgress] = {}
        self._proved: dict[Key, str] = {}
        """Verified contents in the cache, with their hashes."""
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    async def open(self, claims: Iterable[DurableRanges]) -> None:
        """Load the journal's claims whose partial files still exist."""
        for claim in claims:
            if await self._may_be_there(claim):
                self._claims[claim.key] = claim
            else:
                await self._forget_missing_claim(claim.key)

    async def _may_be_there(self, claim: DurableRanges) -> bool:
        """Whether the file of a claim exists; True as well while the disk does not respond."""
        path = self._cache.partial(*claim.key)
        try:
            return await foreign_files.in_file_thread(partial(self._is_there, claim), path)
        except StorageTimeout as error:
            logger.warning("A partial file cannot be checked: %s", error)
            return True

    def _is_there(self, claim: DurableRanges) -> bool:
        """Whether the partial file of a claim exists, or the blob that it was moved to."""
        if self._cache.partial(*claim.key).is_file():
            return True
        return bool(claim.content) and self._cache.blob(claim.repo, claim.content).is_file()

    async def recount(self) -> None:
        """Delete the claims of partial files that were deleted."""
        for key in [key for key in self._claims if key not in self._progress]:
            if not await self._may_be_there(self._claims[key]):
                self._claims.pop(key, None)
                await self._forget_missing_claim(key)

    async def _forget_missing_claim(self, key: Key) -> None:
        """Delete the claim of a missing partial file; the next `open` does so if that fails."""
        try:
            await self._journal.forget_claim(key)
        except StorageFailed as error:
            logger.warning("The claim of a partial file that is gone stays for now: %s", error)

    def holds(self, job: DownloadJob) -> bool:
        """Whether a job has partial files."""
        return any(key in self._claims for key in job.keys)

    def progress(self, job: DownloadJob) -> dict[str, FileProgress]:
        """Progress of the contents of a job, by blob."""
        progress = {}
        for file in job.contents:
            key = (job.repo, file.blob)
            if (live := self._progress.get(key)) is not None:
                progress[file.blob] = live
            elif (claim := self._claims.get(key)) is not None:
                progress[file.blob] = FileProgress(
                    received_bytes=covered(claim.durable),
                    hashed_bytes=file.size_bytes if claim.verified else 0,
                )
        return progress

    def end(self, keys: Iterable[Key]) -> None:
        """Drop the progress of contents that no job works on; their claims remain."""
        for key in keys:
            self._progress.pop(key, None)

    async def need(self, jobs: Iterable[DownloadJob]) -> int:
        """Disk space that jobs still need: missing bytes that are not reserved yet."""

        def action() -> int:
            need = 0
            for job in jobs:
                for file in job.contents:
                    if self._cache.present(job.repo, job.revision, file) is None:
                        path = self._cache.partial(job.repo, file.blob)
                        need += max(0, file.size_bytes - allocated(path))
            return need

        return await in_thread(action)

    async def prepare(self, job: DownloadJob) -> None:
        """Create the folders of a job's repository."""
        await in_thread(lambda: self._cache.prepare(job.repo))

    async def obtain(self, job: DownloadJob, file: RepoFile) -> None:
        """Return when the content is verified, in the cache or in its partial file.

        The caller holds its lock (`alone`). Raises the errors of `FileTransfer.run`. Corrupt
        content is deleted.
        """
        key = (job.repo, file.blob)
        progress = self._progress.setdefault(key, FileProgress())
        self._proved.pop(key, None)
        if is_ready := await self._is_ready(key, file):
            progress.received_bytes = progress.hashed_bytes = file.size_bytes
        elif await self._is_published(job, file, progress):
            await self._forget(key)
            return
        try:
            if not is_ready:
                await self._transfer(job, file, progress).run()
            if not file.verifiable:
                path = self._cache.partial(*key)
                await in_thread(lambda: self._check(path))
        except Corrupt:
            await self._forget(key)
            raise

    async def _is_published(self, job: DownloadJob, file: RepoFile, progress: FileProgress) -> bool:
        """Whether the cache has the content already, with the right hash.

        It is hashed here, because other tools do not verify their downloads.
        """
        key = (job.repo, file.blob)
        claim = self._claims.get(key)
        content = claim.content if claim is not None else ""
        at = replace(file, blob=content) if content else file
        path = await in_thread(lambda: self._cache.present(job.repo, job.revision, at))
        if path is None:
            return False
        if not file.verifiable:
            # Its blob has the hash of its content as name.
            at = replace(file, blob=(await in_thread(path.resolve)).name)
        if not await verified(path, at, progress):
            logger.warning("%s is corrupt, and is downloaded again.", path)
            return False
        self._proved[key] = at.blob
        return True

    def _transfer(self, job: DownloadJob, file: RepoFile, progress: FileProgress) -> FileTransfer:
        key = (job.repo, file.blob)
        claim = new = DurableRanges(repo=job.repo, blob=file.blob, size_bytes=file.size_bytes)
        if (known := self._claims.get(key)) is not None:
            # Without a hash or a validator a change of the file would go unnoticed: start over.
            claim = known if file.verifiable or known.validator else new
        peer = PeerSource(job.peer, self._settings.stall_s) if job.peer else None
        return FileTransfer(
            source=peer or self._source,
            location=FileLocation(repo=job.repo, revision=job.revision, file=file, url=job.url),
            path=self._cache.partial(*key),
            claim=claim,
            progress=progress,
            settings=self._settings,
            limiter=self._limits.of(job.id),
            save=self._save,
            check_floor=lambda: self._check_floor(job.repo),
        )

    async def _save(self, claim: DurableRanges) -> None:
        await self._journal.write(claim)
        self._claims[claim.key] = claim

    async def _check_floor(self, repo: str) -> None:
        free = await in_thread(lambda: self._free_bytes(repo))
        if free is not None and free < self._settings.disk_floor_bytes:
            raise NotEnoughDisk(
                f"Only {free / 1e9:.2f} GB are free on the disk of the cache.",
                "Free disk space: the download then continues by itself, and keeps its data."
                " downloads.disk_floor_bytes says how much stays free.",
            )

    async def _is_ready(self, key: Key, file: RepoFile) -> bool:
        """Whether a verified partial file waits to be published."""
        claim, path = self._claims.get(key), self._cache.partial(*key)
        if claim is None or not claim.verified:
            return False
        try:
            return (await in_thread(path.stat)).st_size == file.size_bytes
        except FileNotFoundError:
            return False
        except OSError as error:
            raise disk_failure(path, error) from error

    async def publish(self, job: DownloadJob, file: RepoFile) -> None:
        """Publish a file after `obtain`; the caller still holds its lock."""
        key = (job.repo, file.blob)
        fresh = await self._is_ready(key, file)
        if not fresh and key not in self._proved:
            raise StorageFailed(
                f"{self._cache.partial(*key)} was removed by another program.",
                "Resume the download to fetch it again.",
            )
        claim = self._claims.get(key)
        content = claim.content if fresh and claim else self._proved.get(key, "")
        if file.verifiable:
            content = ""
        await in_thread(
            lambda: self._cache.publish(job.repo, job.revision, file, fresh=fresh, content=content)
        )
        self._proved[key] = content or file.blob
        if key in self._claims:
            await self._journal.forget_claim(key)
            self._claims.pop(key, None)

    async def publish_ref(self, job: DownloadJob) -> None:
        """Record the commit of the job's branch, after all its files are published."""
        if (ref := job.ref) is not None:
            await in_thread(lambda: self._cache.set_ref(job.repo, ref, job.revision))

    async def drop(self, keys: Collection[Key]) -> None:
        """Delete partial files that no job needs; those that are locked stay."""
        for key in keys:
            async with self.alone(key, wait=False) as is_held:
                if is_held:
                    await self._forget(key)

    async def _forget(self, key: Key) -> None:
        """Delete a claim, then its partial file, so that a claim never names a missing file.

        Where the disk is too full for that, the partial file is deleted first.
        """
        if key in self._claims:
            try:
                await self._journal.forget_claim(key)
            except NotEnoughDisk:
                await in_thread(lambda: self._cache.discard(*key))
                self._claims.pop(key, None)
                await self._forget_missing_claim(key)
                return
            self._claims.pop(key, None)
        await in_thread(lambda: self._cache.discard(*key))

    @asynccontextmanager
    async def alone(self, key: Key, *, wait: bool = True) -> AsyncIterator[bool]:
        """Hold the lock of a content against other jobs and programs.

        Without `wait`, yields False where another program holds it. Several locks must be taken in
        the order of their keys, which rules out deadlocks.
        """
        own = self._locks.setdefault(key, asyncio.Lock())
        async with own:
            lock = self._cache.lock(*key)

            def give_back(taken: bool) -> None:
                if taken:
                    lock.release()

            try:
                taken = await in_thread(lock.try_acquire, give_back)
                while wait and not taken:
                    # Another program sends no signal on release: poll its lock.
                    await asyncio.sleep(LOCK_POLL_S)
                    taken = await in_thread(lock.try_acquire, give_back)
            except OSError as error:
                raise disk_failure(self._cache.partial(*key), error) from error
            try:
                yield taken
            finally:
                if taken:
                    await in_thread(lock.release)
