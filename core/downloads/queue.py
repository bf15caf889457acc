"""The download queue: jobs that outlive the core, and can be stopped at any time.

What a person can do with it, each verb whole: a job is journaled before anything else happens, and
a client that hangs up leaves none between two states. What runs is `running`'s, what is known of
each job is in the `book`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from modeldeck.core.concurrency import whole
from modeldeck.core.config import config
from modeldeck.core.downloads.disk_space import DiskSpaceGuard
from modeldeck.core.downloads.http.peer import still_there
from modeldeck.core.downloads.http.source import DownloadSource
from modeldeck.core.downloads.job_records import ACTIVE, RESUMABLE, DownloadJob, Key
from modeldeck.core.downloads.jobs import JobTable
from modeldeck.core.downloads.journal import DownloadJournal
from modeldeck.core.downloads.queue_order import moved
from modeldeck.core.downloads.runner import DownloadRunner, ended
from modeldeck.core.downloads.transfer.blobs import BlobTable, Check, Target
from modeldeck.core.downloads.transfer.rate_limit import RateLimits
from modeldeck.core.errors import Conflict, InvalidRequest, ShuttingDown, StorageFailed
from modeldeck.core.formats.hub_names import (
    check_blob,
    check_paths,
    check_repo,
    check_revision,
    is_commit,
    is_web,
)
from modeldeck.core.schema import Download, Model, QueueMove, RepoFile
from modeldeck.core.schema.clock import now
from modeldeck.core.storage.database import Database


class DownloadQueue:
    """All downloads of one core."""

    def __init__(
        self,
        *,
        store: Database,
        cache: Target,
        settings: config.DownloadSettings,
        source: DownloadSource,
        free_bytes: Callable[[str], int | None],
        on_change: Callable[[Download], None],
        check: Check,
    ) -> None:
        """`free_bytes` is of the disk that a repository's content goes to.

        `check` raises Corrupt for a file that is no model; it is asked of what nobody said the hash
        of. Blocks.
        """
        journal = DownloadJournal(store)
        self._journal = journal
        self._limits = RateLimits()
        self._source = source
        self._contents = BlobTable(
            cache=cache,
            journal=journal,
            source=source,
            settings=settings,
            limits=self._limits,
            free_bytes=free_bytes,
            check=check,
        )
        self._book = JobTable(
            journal=journal, progress=self._contents.progress, on_change=on_change
        )
        self._room = DiskSpaceGuard(
            book=self._book,
            contents=self._contents,
            free_bytes=free_bytes,
            floor_bytes=settings.disk_floor_bytes,
            first_wait_s=settings.retry_wait_s,
            retry=self._retry,
        )
        self._running = DownloadRunner(
            book=self._book,
            contents=self._contents,
            check_room=self._room.check,
            on_full=self._room.ran_out,
            jobs_at_once=settings.jobs_at_once,
        )
        self._changing = asyncio.Lock()

    @property
    def jobs(self) -> Mapping[str, Download]:
        """Every job that is not forgotten, the oldest first."""
        return MappingProxyType(self._book.views)

    @property
    def wanted(self) -> Mapping[Key, str]:
        """Contents that a job goes on with, by itself or when it is resumed, and whose it is."""
        return self._book.wanted

    def warm(self) -> None:
        """Expect a `start` soon: what the first download needs takes a moment."""
        self._source.warm()

    async def recount(self) -> None:
        """Look what is left of the partials that no job works on: some were deleted."""
        async with self._changing:
            await self._contents.recount()
            for job_id in self._book.jobs:
                self._book.announce(job_id)

    async def open(self) -> None:
        """Read the journal; jobs that were under way when the core ended go on."""
        jobs, claims = await self._journal.read()
        await self._contents.open(claims)
        for job in jobs:
            self._limits.of(job.id).set(job.rate_limit_bytes_per_s)
            self._book.put(replace(job, state="queued") if job.state in ACTIVE else job)
        self._running.open()
        self._room.open()

    async def close(self) -> None:
        """Stop everything, durably; the jobs go on with the next `open`."""
        self._running.closed = True
        await self._room.close()
        async with self._changing:
            await self._running.close()
        await self._source.close()

    # What a person can do

    @whole
    async def start(
        self,
        model: Model,
        revision: str,
        files: Sequence[RepoFile],
        *,
        ref: str | None = "main",
        repo: str | None = None,
        url: str | None = None,
        peer: str | None = None,
    ) -> Download:
        """Download these files of a commit, journaled when this returns; or join the job that runs.

        `ref` is the branch that the commit is the head of, None for a commit that was asked for by
        name. `repo` says where the files go when that is not the model's repository; `url` is where
        the one file comes from when that is not the Hub; `peer` is a socket to a machine that has
        the files: a job that runs goes on from there. Raises NotEnoughDisk before the first byte,
        InvalidRequest, StorageFailed.
        """
        async with self._changing:
            jobs = self._book.jobs.values()
            known = next((job for job in jobs if job.model_id == model.id), None)
            is_active = known is not None and known.state in ACTIVE
            if known is not None and is_active and (peer is None or known.peer == peer):
                return self._book.views[known.id]
            job = DownloadJob(
                id=known.id if known else str(uuid.uuid4()),
                model_id=model.id,
                unique=model.unique,
                repo=repo or model.repo or "",
                url=url,
                peer=peer,
                revision=revision,
                ref=ref,
                files=tuple(files),
                position=max((job.position for job in jobs), default=0) + 1,
                rate_limit_bytes_per_s=known.rate_limit_bytes_per_s if known else None,
                created_at=now(),
            )
            check(job)
            if known is None:
                return await self._enqueue(job)
            async with self._stopped(known.id):
                await self._drop(known, known.keys - job.keys)
                return await self._enqueue(job)

    @whole
    async def cancel(self, job_id: str, discard: bool = False) -> Download:
        """Stop a job for good; what arrived stays for the next time, unless `discard`.

        Returns when nothing of it moves any more. A completed job stays completed.
        """
        async with self._changing:
            async with self._stopped(job_id) as job:
                if job.state != "completed":
                    if discard:
                        await self._drop(job, job.keys)
                    await self._book.record(ended(job, "canceled"))
            return self._book.views[job_id]

    @whole
    async def pause(self, job_id: str) -> Download:
        """Stop a job until it is resumed, also one that waits for room on the disk.

        Raises Conflict for a failed or canceled one.
        """
        async with self._changing:
            async with self._stopped(job_id) as job:
                if job.state in ("failed", "canceled"):
                    raise Conflict(f"{job.unique} is {job.state}.", "Resume the download to go on.")
                if job.state in ACTIVE or job.waits_for_room:
                    await self._book.record(replace(job, state="paused", error=None))
            return self._book.views[job_id]

    @whole
    async def resume(self, job_id: str) -> Download:
        """Go on with a job that is paused, failed or canceled. Raises NotEnoughDisk."""
        async with self._changing:
            job = self._book.job(job_id)
            if job.state not in RESUMABLE:
                return self._book.views[job_id]
            peer = await still_there(job.peer)
            return await self._enqueue(
                replace(job, state="queued", error=None, finished_at=None, peer=peer)
            )

    @whole
    async def remove(self, job_id: str) -> DownloadJob | None:
        """Forget a job that has ended, and delete its partials. Raises Conflict while it runs.

        Returns the job where nothing was lost with it, for `restore`.
        """
        async with self._changing:
            job = self._book.job(job_id)
            if job.state in ACTIVE:
                raise Conflict(f"{job.unique} is being downloaded.", "Cancel the download first.")
            lost = self._contents.holds(job)
            await self._drop(job, job.keys)
            await self._book.forget(job_id)
            self._limits.forget(job_id)
            return None if lost else job

    @whole
    async def restore(self, job: DownloadJob) -> Download:
        """Take a job back that `remove` gave. Raises Conflict when its model has another one."""
        async with self._changing:
            if any(other.model_id == job.model_id for other in self._book.jobs.values()):
                raise Conflict(f"There is another download of {job.unique} by now.")
            await self._book.record(job)
            self._limits.of(job.id).set(job.rate_limit_bytes_per_s)
            return self._book.views[job.id]

    # Order

    @whole
    async def move(self, job_id: str, to: QueueMove) -> Download:
        """Let a job come sooner or later; it runs when it is among the first.

        Raises Conflict for a job that has ended: it stands in no queue.
        """
        async with self._changing:
            job = self._book.job(job_id)
            queue = {
                other.id: other.position
                for other in self._book.jobs.values()
                if other.state in ACTIVE or other.state == "paused"
            }
            if job_id not in queue:
                raise Conflict(f"{job.unique} is {job.state}.", "Only what waits can be moved.")
            places = moved(queue, job_id, to)
            await self._amend({key: {"position": place} for key, place in places.items()})
            await self._running.give_places()
            return self._book.views[job_id]

    @whole
    async def set_jobs_at_once(self, count: int) -> None:
        """Let so many jobs run at once from now on; the last of those that are too many wait."""
        async with self._changing:
            self._running.jobs_at_once = count
            await self._running.give_places()

    # Limits

    def set_limit(self, bytes_per_s: int | None) -> None:
        """Let all downloads together receive no more than this; None for no limit.

        In force at once, for transfers that run too, and kept within 5 % over a few seconds. It is
        not journaled: whoever keeps the settings calls this after every `open`. Raises
        InvalidRequest below 1.
        """
        self._limits.all.set(bytes_per_s)

    @whole
    async def set_job_limit(self, job_id: str, bytes_per_s: int | None) -> Download:
        """Let one job receive no more than this, and never more than the limit of all.

        As `set_limit`, for one job, and journaled: it may run, wait or have ended, and the limit
        stands until it is removed. Content that two jobs want counts for the one that fetches it.
        Raises NotFound, and InvalidRequest below 1.
        """
        async with self._changing:
            before = self._book.job(job_id).rate_limit_bytes_per_s
            limiter = self._limits.of(job_id)
            limiter.set(bytes_per_s)
            try:
                await self._amend({job_id: {"rate_limit_bytes_per_s": bytes_per_s}})
            except StorageFailed:
                limiter.set(before)
                raise
            return self._book.views[job_id]

    # Parts of verbs

    @asynccontextmanager
    async def _stopped(self, job_id: str) -> AsyncIterator[DownloadJob]:
        """The job, of which nothing moves during the block.

        When the block fails, a job that was under way goes on: what was asked of it did not happen.
        """
        job = await self._running.stop(job_id)
        try:
            yield job
        except BaseException:
            left = self._book.jobs.get(job_id)
            if left is not None and left.state in ACTIVE:
                self._book.put(replace(left, state="queued"))
                await self._running.give_places()
            raise

    async def _enqueue(self, job: DownloadJob) -> Download:
        if self._running.closed:
            raise ShuttingDown("The core is ending.", "Start it again.")
        await self._room.check(job, self._book.active())
        await self._book.record(job)
        await self._running.give_places()
        return self._book.views[job.id]

    async def _retry(self, job_id: str) -> None:
        """Let a job go on that waits for room, unless something became of it meanwhile."""
        async with self._changing:
            job = self._book.jobs.get(job_id)
            if job is not None and job.waits_for_room and not self._running.closed:
                await self._enqueue(replace(job, state="queued", error=None))

    async def _amend(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Change fields of jobs, all of them or none, also while they run.

        Memory comes first here, so that a run that ends meanwhile records the change as well; it
        is taken back when the journal cannot be written. A job's state is its run's to change.
        """
        await self._running.steady(changes)
        jobs = self._book.jobs
        before = {key: jobs[key] for key in changes}
        jobs.update({key: replace(jobs[key], **fields) for key, fields in changes.items()})
        try:
            await self._journal.write(*(jobs[key] for key in changes))
        except StorageFailed:
            for key, fields in changes.items():
                old = {name: getattr(before[key], name) for name in fields}
                jobs[key] = replace(jobs[key], **old)
            raise
        for key in changes:
            self._book.announce(key)

    async def _drop(self, job: DownloadJob, keys: Collection[Key]) -> None:
        """Delete partials that no other job will go on with."""
        others = [j for j in self._book.jobs.values() if j.id != job.id and j.state != "completed"]
        await self._contents.drop(set(keys).difference(*(other.keys for other in others)))


def check(job: DownloadJob) -> None:
    """Raise InvalidRequest unless every name of the job may be used in a URL and on disk."""
    check_repo(job.repo)
    if not is_commit(job.revision):
        raise InvalidRequest(f"{job.revision!r} is not a commit: 40 hexadecimal digits.")
    if job.ref is not None:
        check_revision(job.ref)
    if not job.files:
        raise InvalidRequest(f"{job.unique} names no files to download.")
    if (job.url is not None) != is_web(job.repo):
        raise InvalidRequest(f"{job.repo} is not where files from {job.url or 'the Hub'} go.")
    check_paths(file.path for file in job.files)
    for file in job.files:
        check_blob(file.blob)
        if file.size_bytes < 0 or file.lfs != (len(file.blob) == 64):
            raise InvalidRequest(f"The listing of {file.path} makes no sense.")
