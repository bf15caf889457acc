"""The download queue: jobs that outlive the core, and can be stopped at any time.

Theory of operation. A job is journaled before anything else happens, and every change of its state
goes through `_record`: the journal first, then everybody else. A running job is one task. It
obtains its contents, the small ones side by side, each until it is verified; what is received lies
in partial files that no other tool reads. Only when all are verified are they published, links
after blobs and the ref last, and only then the job is completed. So nobody ever sees a part of a
model, and cancelling is ending a task and keeping or deleting its partials.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from core import config
from core.downloads.contents import Contents, Target
from core.downloads.journal import Journal
from core.downloads.limiter import Limits
from core.downloads.order import moved
from core.downloads.partial import in_thread, settled, whole
from core.downloads.parts import ACTIVE, RESUMABLE, Job, Key, Pace, check_room, view
from core.downloads.sidebyside import SideBySide
from core.downloads.source import Source
from core.errors import (
    Conflict,
    DeckError,
    InvalidRequest,
    NotEnoughDisk,
    NotFound,
    ShuttingDown,
    to_info,
)
from core.log import now
from core.names import check_blob, check_paths, check_repo, check_revision, is_commit
from core.schema import Download, DownloadState, Model, QueueMove, RepoFile
from core.store import Store

logger = logging.getLogger(__name__)

TICK_S = 0.25
"""How often progress is told: as often as a person can read it."""


@dataclass(slots=True)
class _Run:
    """A job that is being worked on."""

    task: asyncio.Task[None]
    pace: Pace
    ending: bool = False
    """Whether its outcome is being recorded."""


class Downloads:
    """All downloads of one core."""

    def __init__(
        self,
        *,
        store: Store,
        cache: Target,
        settings: config.Downloads,
        endpoint: str,
        token: Callable[[], str | None],
        free_bytes: Callable[[], int | None],
        on_change: Callable[[Download], None],
    ) -> None:
        self._settings = settings
        self._free_bytes = free_bytes
        self._on_change = on_change
        self._journal = Journal(store)
        self._limits = Limits()
        self._source = Source(endpoint, token, settings.stall_s)
        self._contents = Contents(
            cache=cache,
            journal=self._journal,
            source=self._source,
            settings=settings,
            limits=self._limits,
            free_bytes=free_bytes,
        )
        self._jobs: dict[str, Job] = {}
        self._views: dict[str, Download] = {}
        self._runs: dict[str, _Run] = {}
        self._changing = asyncio.Lock()
        self._busy = asyncio.Event()
        self._teller: asyncio.Task[None] | None = None
        self._closed = True
        self._jobs_at_once = settings.jobs_at_once

    @property
    def jobs(self) -> Mapping[str, Download]:
        """Every job that is not forgotten, the oldest first."""
        return MappingProxyType(self._views)

    @property
    def wanted(self) -> Mapping[Key, str]:
        """Contents that a job goes on with, by itself or when it is resumed, and whose it is."""
        return {
            key: job.unique
            for job in self._jobs.values()
            if job.state not in ("completed", "canceled")
            for key in job.keys
        }

    async def recount(self) -> None:
        """Look what is left of the partials that no job works on: some were deleted."""
        async with self._changing:
            await self._contents.recount()
            for job_id in self._jobs:
                self._announce(job_id)

    async def open(self) -> None:
        """Read the journal; jobs that were under way when the core ended go on."""
        jobs, claims = await self._journal.read()
        await self._contents.open(claims)
        for job in jobs:
            self._jobs[job.id] = replace(job, state="queued") if job.state in ACTIVE else job
            self._limits.of(job.id).set(job.rate_limit_bytes_per_s)
            self._announce(job.id)
        self._closed = False
        self._teller = asyncio.create_task(self._tell())
        self._teller.add_done_callback(_report)
        self._schedule()

    async def close(self) -> None:
        """Stop everything, durably; the jobs go on with the next `open`."""
        self._closed = True
        async with self._changing:
            for job_id in list(self._runs):
                await self._stop(job_id)
        if self._teller is not None:
            self._teller.cancel()
            await settled(self._teller)
        await self._source.close()

    # What a person can do

    @whole
    async def start(
        self, model: Model, revision: str, files: Sequence[RepoFile], *, ref: str | None = "main"
    ) -> Download:
        """Download these files of a commit, journaled when this returns; or join the job that runs.

        `ref` is the branch that the commit is the head of, None for a commit that was asked for by
        name. Raises NotEnoughDisk before the first byte, InvalidRequest, StorageFailed.
        """
        async with self._changing:
            known = next((job for job in self._jobs.values() if job.model_id == model.id), None)
            if known is not None and known.state in ACTIVE:
                return self._views[known.id]
            job = Job(
                id=known.id if known else str(uuid.uuid4()),
                model_id=model.id,
                unique=model.unique,
                repo=model.repo or "",
                revision=revision,
                ref=ref,
                files=tuple(files),
                position=max((job.position for job in self._jobs.values()), default=0) + 1,
                rate_limit_bytes_per_s=known.rate_limit_bytes_per_s if known else None,
                created_at=now(),
            )
            check(job)
            if known is not None:
                await self._drop(known, known.keys - job.keys)
            return await self._enqueue(job)

    @whole
    async def cancel(self, job_id: str, discard: bool = False) -> Download:
        """Stop a job for good; what arrived stays for the next time, unless `discard`.

        Returns when nothing of it moves any more. A completed job stays completed.
        """
        async with self._changing:
            job = await self._stop(job_id)
            if job.state != "completed":
                if discard:
                    await self._drop(job, job.keys)
                await self._record(_ended(job, "canceled"))
            return self._views[job_id]

    @whole
    async def pause(self, job_id: str) -> Download:
        """Stop a job until it is resumed. Raises Conflict for a failed or canceled one."""
        async with self._changing:
            job = await self._stop(job_id)
            if job.state in ("failed", "canceled"):
                raise Conflict(f"{job.unique} is {job.state}.", "Resume the download to go on.")
            if job.state in ACTIVE:
                await self._record(replace(job, state="paused", error=None))
            return self._views[job_id]

    @whole
    async def resume(self, job_id: str) -> Download:
        """Go on with a job that is paused, failed or canceled. Raises NotEnoughDisk."""
        async with self._changing:
            job = self._job(job_id)
            if job.state not in RESUMABLE:
                return self._views[job_id]
            return await self._enqueue(replace(job, state="queued", error=None, finished_at=None))

    @whole
    async def remove(self, job_id: str) -> None:
        """Forget a job that has ended, and delete its partials. Raises Conflict while it runs."""
        async with self._changing:
            job = self._job(job_id)
            if job.state in ACTIVE:
                raise Conflict(f"{job.unique} is being downloaded.", "Cancel the download first.")
            await self._drop(job, job.keys)
            await self._journal.forget_job(job_id)
            del self._jobs[job_id], self._views[job_id]
            self._limits.forget(job_id)

    # Order

    @whole
    async def move(self, job_id: str, to: QueueMove) -> Download:
        """Let a job come sooner or later; it runs when it is among the first.

        Raises Conflict for a job that has ended: it stands in no queue.
        """
        async with self._changing:
            job = self._job(job_id)
            queue = {
                other.id: other.position
                for other in self._jobs.values()
                if other.state in ACTIVE or other.state == "paused"
            }
            if job_id not in queue:
                raise Conflict(f"{job.unique} is {job.state}.", "Only what waits can be moved.")
            for key, position in moved(queue, job_id, to).items():
                await self._amend(key, position=position)
            await self._give_places()
            return self._views[job_id]

    @whole
    async def set_jobs_at_once(self, count: int) -> None:
        """Let so many jobs run at once from now on; the last of those that are too many wait."""
        async with self._changing:
            self._jobs_at_once = count
            await self._give_places()

    async def _give_places(self) -> None:
        """Put running jobs back that are not among the first any more, and start those that are.

        One that only has to be verified keeps its place: it takes nothing from the line.
        """
        active = [job for job in self._jobs.values() if job.state in ACTIVE]
        active.sort(key=lambda job: job.position)
        first = {job.id for job in active[: self._jobs_at_once]}
        for job_id in [key for key in self._runs if key not in first]:
            if self._views[job_id].state != "verifying":
                job = await self._stop(job_id)
                if job.state in ACTIVE:
                    await self._record(replace(job, state="queued"))
        self._schedule()

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
            self._job(job_id)
            self._limits.of(job_id).set(bytes_per_s)
            await self._amend(job_id, rate_limit_bytes_per_s=bytes_per_s)
            return self._views[job_id]

    # State

    def _job(self, job_id: str) -> Job:
        if (job := self._jobs.get(job_id)) is None:
            raise NotFound(f"There is no download {job_id}.", "GET /deck/state lists them.")
        return job

    async def _enqueue(self, job: Job) -> Download:
        if self._closed:
            raise ShuttingDown("The core is ending.", "Start it again.")
        await self._check_room(
            job, [other for other in self._jobs.values() if other.state in ACTIVE]
        )
        await self._record(job)
        await self._give_places()
        return self._views[job.id]

    async def _check_room(self, job: Job, others: Sequence[Job]) -> None:
        """Raise NotEnoughDisk unless the job fits beside what the others will still write."""
        need = await self._contents.need([job])
        promised = await self._contents.need([other for other in others if other.id != job.id])
        free = await in_thread(self._free_bytes)
        check_room(need, free, promised, self._settings.disk_floor_bytes)

    async def _record(self, job: Job) -> None:
        """Change a job: the journal first, then everybody else."""
        await self._journal.write(job)
        self._jobs[job.id] = job
        self._announce(job.id)

    async def _amend(self, job_id: str, **changes: Any) -> None:
        """Change what a job was told, while it runs too: its state is its run's to change.

        Memory comes first here, so that a run that ends meanwhile records the change as well.
        """
        if (run := self._runs.get(job_id)) is not None and run.ending:
            await settled(run.task)
        self._jobs[job_id] = job = replace(self._jobs[job_id], **changes)
        await self._journal.write(job)
        self._announce(job_id)

    def _announce(self, job_id: str) -> None:
        job, run = self._jobs[job_id], self._runs.get(job_id)
        new = view(job, self._contents.progress(job), run.pace.rate if run else None)
        if self._views.get(job_id) != new:
            self._views[job_id] = new
            self._on_change(new)

    async def _tell(self) -> None:
        """Tell how far the running jobs are, while there are any."""
        while True:
            await self._busy.wait()
            await asyncio.sleep(TICK_S)
            for job_id, run in list(self._runs.items()):
                self._announce(job_id)
                received = self._views[job_id].received_bytes
                run.pace = run.pace.after(received, time.monotonic())

    async def _drop(self, job: Job, keys: Collection[Key]) -> None:
        """Delete partials that no other job will go on with."""
        others = [j for j in self._jobs.values() if j.id != job.id and j.state != "completed"]
        await self._contents.drop(set(keys).difference(*(other.keys for other in others)))

    # Running

    def _schedule(self) -> None:
        """Start the first queued jobs, as many as may run at once."""
        queued = [j for j in self._jobs.values() if j.state == "queued" and j.id not in self._runs]
        for job in sorted(queued, key=lambda job: job.position):
            if self._closed or len(self._runs) >= self._jobs_at_once:
                break
            received = self._views[job.id].received_bytes
            task = asyncio.create_task(self._run(job.id), name=f"download {job.unique}")
            self._runs[job.id] = _Run(
                task=task, pace=Pace(received_bytes=received, at=time.monotonic())
            )
            task.add_done_callback(partial(self._ran, job.id))
        if self._runs:
            self._busy.set()
        else:
            self._busy.clear()

    def _ran(self, job_id: str, task: asyncio.Task[None]) -> None:
        self._runs.pop(job_id, None)
        _report(task)
        self._schedule()

    async def _stop(self, job_id: str) -> Job:
        """End the task of a job, if it has one; its state is left to the caller."""
        self._job(job_id)
        if (run := self._runs.get(job_id)) is not None:
            run.task.cancel()
            await settled(run.task)
        return self._job(job_id)

    async def _run(self, job_id: str) -> None:
        """Work on a job until it has ended, whichever way."""
        job = self._jobs[job_id] = replace(self._jobs[job_id], state="downloading")
        self._announce(job_id)
        began, bug = time.monotonic(), None
        try:
            await self._fetch(job)
            outcome = _ended(job, "completed")
        except NotEnoughDisk as error:
            outcome = replace(job, state="paused", error=to_info(error))
        except DeckError as error:
            logger.warning("%s: %s", job.unique, error)
            outcome = replace(_ended(job, "failed"), error=to_info(error))
        except Exception as error:
            # A bug. It goes on to whoever owns this task; the job must not look alive.
            bug = DeckError(f"modeldeck itself failed: {error!r}.", "Please report it.")
            outcome = replace(_ended(job, "failed"), error=to_info(bug))
            bug.__cause__ = error
        finally:
            seconds = job.seconds + time.monotonic() - began
            told = self._jobs[job_id] = replace(self._jobs[job_id], seconds=seconds)
            busy = [self._jobs[other].keys for other in self._runs if other != job_id]
            self._contents.end(job.keys.difference(*busy))
        outcome = replace(
            told, state=outcome.state, error=outcome.error, finished_at=outcome.finished_at
        )
        # What is published must be recorded as completed, even if it is cancelled just now.
        self._runs[job_id].ending = True
        end = asyncio.create_task(self._end(outcome))
        await settled(end)
        end.result()
        if bug is not None:
            raise bug

    async def _end(self, outcome: Job) -> None:
        try:
            await self._record(outcome)
        except DeckError:
            # The disk may be full for the journal too. After a restart the job is looked at again.
            logger.exception("%s: the journal cannot be written.", outcome.unique)
            self._jobs[outcome.id] = outcome
            self._announce(outcome.id)

    async def _fetch(self, job: Job) -> None:
        """Obtain every content, then publish every file."""
        await self._contents.prepare(job)
        await self._check_room(job, [self._jobs[other] for other in self._runs])
        async with AsyncExitStack() as held:
            # All stay held until they are published: whoever waits for one finds it, and does not
            # fetch it a second time. They are taken in one order, and fetched side by side.
            work = SideBySide()
            async with work:
                for file in sorted(job.contents, key=lambda file: file.blob):
                    await held.enter_async_context(self._contents.alone((job.repo, file.blob)))
                    await work.start(file.size_bytes, partial(self._contents.obtain, job, file))
            self._announce(job.id)
            for file in job.files:
                await self._contents.publish(job, file)
            await self._contents.publish_ref(job)


def _report(task: asyncio.Task[None]) -> None:
    """Let a bug be seen. Expected failures are in the jobs' records, and never get here."""
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler(
            {"message": "the downloads met a bug", "exception": error, "task": task}
        )


def _ended(job: Job, state: DownloadState) -> Job:
    return replace(job, state=state, error=None, finished_at=now())


def check(job: Job) -> None:
    """Raise InvalidRequest unless every name of the job may be used in a URL and on disk."""
    check_repo(job.repo)
    if not is_commit(job.revision):
        raise InvalidRequest(f"{job.revision!r} is not a commit: 40 hexadecimal digits.")
    if job.ref is not None:
        check_revision(job.ref)
    if not job.files:
        raise InvalidRequest(f"{job.unique} names no files to download.")
    check_paths(file.path for file in job.files)
    for file in job.files:
        check_blob(file.blob)
        if file.size_bytes < 0 or file.lfs != (len(file.blob) == 64):
            raise InvalidRequest(f"The listing of {file.path} makes no sense.")
