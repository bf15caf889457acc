"""The download queue: jobs that survive a restart of the core, and can be stopped at any time.

The actions of users, each atomic: a job is written to the journal first, and a client that
disconnects leaves no job between two states. `DownloadRunner` runs the jobs, `JobTable` holds their
states.
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
from modeldeck.core.downloads.http.peer import existing_peer
from modeldeck.core.downloads.http.source import DownloadSource
from modeldeck.core.downloads.job_records import ACTIVE, RESUMABLE, DownloadJob, Key
from modeldeck.core.downloads.jobs import JobTable
from modeldeck.core.downloads.journal import DownloadJournal
from modeldeck.core.downloads.queue_order import moved
from modeldeck.core.downloads.runner import DownloadRunner, ended
from modeldeck.core.downloads.transfer.bandwidth_limit import RateLimits
from modeldeck.core.downloads.transfer.blobs import BlobTable, Check, Target
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
        """`free_bytes` returns the free space of a repository's disk, None for unknown.

        `check` raises Corrupt for a file that is no model; it is called for files without a known
        hash. Blocks.
        """
        journal = DownloadJournal(store)
        self._journal = journal
        self._limits = RateLimits()
        self._source = source
        self._blobs = BlobTable(
            cache=cache,
            journal=journal,
            source=source,
            settings=settings,
            limits=self._limits,
            free_bytes=free_bytes,
            check=check,
        )
        self._table = JobTable(journal=journal, progress=self._blobs.progress, on_change=on_change)
        self._disk_space = DiskSpaceGuard(
            table=self._table,
            blobs=self._blobs,
            free_bytes=free_bytes,
            floor_bytes=settings.disk_floor_bytes,
            first_wait_s=settings.retry_wait_s,
            retry=self._retry,
        )
        self._runner = DownloadRunner(
            table=self._table,
            blobs=self._blobs,
            check_room=self._disk_space.check,
            on_full=self._disk_space.ran_out,
            jobs_at_once=settings.jobs_at_once,
        )
        self._changing = asyncio.Lock()

    @property
    def jobs(self) -> Mapping[str, Download]:
        """All jobs that were not removed, the oldest first."""
        return MappingProxyType(self._table.views)

    @property
    def wanted(self) -> Mapping[Key, str]:
        """Contents that an unfinished job needs, with the name of its model."""
        return self._table.wanted

    def warm(self) -> None:
        """Prepare proxies and certificates in the background, before `start`."""
        self._source.warm()

    async def recount(self) -> None:
        """Check again which partial files of stopped jobs exist, after a deletion."""
        async with self._changing:
            await self._blobs.recount()
            for job_id in self._table.jobs:
                self._table.announce(job_id)

    async def open(self) -> None:
        """Read the journal; jobs that ran when the core ended continue."""
        jobs, claims = await self._journal.read()
        await self._blobs.open(claims)
        for job in jobs:
            self._limits.of(job.id).set(job.rate_limit_bytes_per_s)
            self._table.put(replace(job, state="queued") if job.state in ACTIVE else job)
        self._runner.open()
        self._disk_space.open()

    async def close(self) -> None:
        """Stop all jobs and make their content durable; they continue after the next `open`."""
        self._runner.closed = True
        await self._disk_space.close()
        async with self._changing:
            await self._runner.close()
        await self._source.close()

    # Actions on jobs

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
        """Download these files of a commit; or return the job that does so already.

        The job is in the journal when this returns. `ref` is the branch whose head the commit is,
        None for a commit given by its hash. `repo` is the cache's repository where that is not the
        model's; `url` is the source of the only file where that is not the Hub; `peer` is a socket
        to a machine that has the files: a running job continues from there. Raises NotEnoughDisk
        before the first byte, InvalidRequest, StorageFailed.
        """
        async with self._changing:
            jobs = self._table.jobs.values()
            known = next((job for job in jobs if job.model_id == model.id), None)
            is_active = known is not None and known.state in ACTIVE
            if known is not None and is_active and (peer is None or known.peer == peer):
                return self._table.views[known.id]
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
        """Stop a job for good; its partial files are kept, unless `discard`.

        Returns when its task has ended. A completed job stays completed.
        """
        async with self._changing:
            async with self._stopped(job_id) as job:
                if job.state != "completed":
                    if discard:
                        await self._drop(job, job.keys)
                    await self._table.record(ended(job, "canceled"))
            return self._table.views[job_id]

    @whole
    async def pause(self, job_id: str) -> Download:
        """Stop a job until it is resumed, also one that waits for disk space.

        Raises Conflict for a failed or canceled job.
        """
        async with self._changing:
            async with self._stopped(job_id) as job:
                if job.state in ("failed", "canceled"):
                    raise Conflict(f"{job.unique} is {job.state}.", "Resume the download to go on.")
                if job.state in ACTIVE or job.waits_for_room:
                    await self._table.record(replace(job, state="paused", error=None))
            return self._table.views[job_id]

    @whole
    async def resume(self, job_id: str) -> Download:
        """Continue a paused, failed or canceled job. Raises NotEnoughDisk."""
        async with self._changing:
            job = self._table.job(job_id)
            if job.state not in RESUMABLE:
                return self._table.views[job_id]
            peer = await existing_peer(job.peer)
            return await self._enqueue(
                replace(job, state="queued", error=None, finished_at=None, peer=peer)
            )

    @whole
    async def remove(self, job_id: str) -> DownloadJob | None:
        """Delete a job that has ended, and its partial files. Raises Conflict while it runs.

        Returns the job for `restore`, None where partial files were deleted with it.
        """
        async with self._changing:
            job = self._table.job(job_id)
            if job.state in ACTIVE:
                raise Conflict(f"{job.unique} is being downloaded.", "Cancel the download first.")
            lost = self._blobs.holds(job)
            await self._drop(job, job.keys)
            await self._table.forget(job_id)
            self._limits.forget(job_id)
            return None if lost else job

    @whole
    async def restore(self, job: DownloadJob) -> Download:
        """Put back a job that `remove` returned. Raises Conflict when its model has a new one."""
        async with self._changing:
            if any(other.model_id == job.model_id for other in self._table.jobs.values()):
                raise Conflict(f"There is another download of {job.unique} by now.")
            await self._table.record(job)
            self._limits.of(job.id).set(job.rate_limit_bytes_per_s)
            return self._table.views[job.id]

    # Order

    @whole
    async def move(self, job_id: str, to: QueueMove) -> Download:
        """Move a job in the queue; it runs when it is among the first.

        Raises Conflict for a job that has ended.
        """
        async with self._changing:
            job = self._table.job(job_id)
            queue = {
                other.id: other.position
                for other in self._table.jobs.values()
                if other.state in ACTIVE or other.state == "paused"
            }
            if job_id not in queue:
                raise Conflict(
                    f"{job.unique} is {job.state}.", "Only a waiting download can be moved."
                )
            positions = moved(queue, job_id, to)
            await self._amend({key: {"position": position} for key, position in positions.items()})
            await self._runner.reschedule()
            return self._table.views[job_id]

    @whole
    async def set_jobs_at_once(self, count: int) -> None:
        """Change how many jobs run at once; the last ones beyond `count` go back to waiting."""
        async with self._changing:
            self._runner.jobs_at_once = count
            await self._runner.reschedule()

    # Limits

    def set_limit(self, bytes_per_s: int | None) -> None:
        """Limit all downloads together, in bytes per second; None for no limit.

        It applies at once to running transfers, and is kept within 5 % over a few seconds. It is
        not in the journal: the caller sets it again after every `open`. Raises InvalidRequest
        below 1.
        """
        self._limits.all.set(bytes_per_s)

    @whole
    async def set_job_limit(self, job_id: str, bytes_per_s: int | None) -> Download:
        """Limit one job, in bytes per second, below the limit of all downloads.

        As `set_limit`, but in the journal: the job may run, wait or have ended, and the limit
        applies until it is changed. Content of two jobs counts for the job that downloads it.
        Raises NotFound, and InvalidRequest below 1.
        """
        async with self._changing:
            before = self._table.job(job_id).rate_limit_bytes_per_s
            limiter = self._limits.of(job_id)
            limiter.set(bytes_per_s)
            try:
                await self._amend({job_id: {"rate_limit_bytes_per_s": bytes_per_s}})
            except StorageFailed:
                limiter.set(before)
                raise
            return self._table.views[job_id]

    # Helpers

    @asynccontextmanager
    async def _stopped(self, job_id: str) -> AsyncIterator[DownloadJob]:
        """Stop the job for the duration of the block.

        When the block fails, a job that ran continues: the requested change did not happen.
        """
        job = await self._runner.stop(job_id)
        try:
            yield job
        except BaseException:
            left = self._table.jobs.get(job_id)
            if left is not None and left.state in ACTIVE:
                self._table.put(replace(left, state="queued"))
                await self._runner.reschedule()
            raise

    async def _enqueue(self, job: DownloadJob) -> Download:
        if self._runner.closed:
            raise ShuttingDown("The core is ending.", "Start it again.")
        await self._disk_space.check(job, self._table.active())
        await self._table.record(job)
        await self._runner.reschedule()
        return self._table.views[job.id]

    async def _retry(self, job_id: str) -> None:
        """Continue a job that waits for disk space, unless its state has changed."""
        async with self._changing:
            job = self._table.jobs.get(job_id)
            if job is not None and job.waits_for_room and not self._runner.closed:
                await self._enqueue(replace(job, state="queued", error=None))

    async def _amend(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Change fields of all given jobs or of none, also while they run.

        Memory is changed first, so that a run that ends meanwhile records the change as well; it is
        undone when the journal cannot be written. The state of a job is changed by its run only.
        """
        await self._runner.wait_for_outcomes(changes)
        jobs = self._table.jobs
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
            self._table.announce(key)

    async def _drop(self, job: DownloadJob, keys: Collection[Key]) -> None:
        """Delete partial files that no other unfinished job needs."""
        others = [j for j in self._table.jobs.values() if j.id != job.id and j.state != "completed"]
        await self._blobs.drop(set(keys).difference(*(other.keys for other in others)))


def check(job: DownloadJob) -> None:
    """Raise InvalidRequest unless all names of the job are safe in URLs and paths."""
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
