"""Runs the first jobs of the queue, each in a task, and records their outcomes.

A job obtains its contents in partial files that no other tool reads. When all are verified they are
published, blobs before links and the ref last; then the job is completed. So no tool ever sees part
of a model, and a job is stopped by cancelling its task.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

from modeldeck.core.concurrency import Repeated, report_bug, settled
from modeldeck.core.downloads.job_records import ACTIVE, DownloadJob
from modeldeck.core.downloads.jobs import JobTable
from modeldeck.core.downloads.transfer.blobs import BlobTable
from modeldeck.core.downloads.transfer.parallel import ParallelTasks
from modeldeck.core.errors import DeckError, NotEnoughDisk
from modeldeck.core.schema import DownloadState
from modeldeck.core.schema.clock import now
from modeldeck.core.schema.errors import to_info

logger = logging.getLogger(__name__)

TICK_S = 0.25
"""Seconds between two announcements of progress."""


@dataclass(slots=True)
class _RunningJob:
    """The task of a running job."""

    task: asyncio.Task[None]
    ending: bool = False
    """Whether its outcome is being recorded."""


class DownloadRunner:
    """Runs the first `jobs_at_once` jobs of the queue."""

    def __init__(
        self,
        *,
        table: JobTable,
        blobs: BlobTable,
        check_room: Callable[[DownloadJob, Sequence[DownloadJob]], Awaitable[None]],
        on_full: Callable[[], None],
        jobs_at_once: int,
    ) -> None:
        """`on_full` is called when a full disk paused a job."""
        self._table = table
        self._blobs = blobs
        self._check_room = check_room
        self._on_full = on_full
        self._runs: dict[str, _RunningJob] = {}
        self._busy = asyncio.Event()
        self._announcer: asyncio.Task[None] | None = None
        self.jobs_at_once = jobs_at_once
        self.closed = True
        """Whether no further job may be started."""

    def open(self) -> None:
        """Start queued jobs."""
        self.closed = False
        self._announcer = asyncio.create_task(
            self._announce_progress(), name="announcing download progress"
        )
        self._announcer.add_done_callback(report)
        self._schedule()

    async def close(self) -> None:
        """Stop all jobs and make their content durable. Set `closed` first: no job starts then."""
        for job_id in list(self._runs):
            await self.stop(job_id)
        if self._announcer is not None:
            self._announcer.cancel()
            await settled(self._announcer)

    async def _announce_progress(self) -> None:
        """Announce the progress of running jobs."""
        announcing = Repeated("announcing download progress")
        while True:
            await self._busy.wait()
            await asyncio.sleep(TICK_S)
            with announcing.turn():
                self._table.announce_progress(time.monotonic())

    # Schedule

    async def reschedule(self) -> None:
        """Put running jobs back in the queue that are no longer among the first; start the first.

        A job that only verifies continues: it uses no bandwidth.
        """
        first = {job.id for job in self._table.active()[: self.jobs_at_once]}
        for job_id in [key for key in self._runs if key not in first]:
            if self._table.views[job_id].state != "verifying":
                job = await self.stop(job_id)
                if job.state in ACTIVE:
                    # In memory only: after a restart both states mean that the job continues.
                    self._table.put(replace(job, state="queued"))
        self._schedule()

    def _schedule(self) -> None:
        """Start the first queued jobs, up to `jobs_at_once`."""
        for job in self._table.active():
            if self.closed or len(self._runs) >= self.jobs_at_once:
                break
            if job.state != "queued" or job.id in self._runs:
                continue
            task = asyncio.create_task(self._run(job.id), name=f"download {job.unique}")
            self._runs[job.id] = _RunningJob(task=task)
            self._table.start_rate(job.id, time.monotonic())
            task.add_done_callback(partial(self._ran, job.id))
        if self._runs:
            self._busy.set()
        else:
            self._busy.clear()

    def _ran(self, job_id: str, task: asyncio.Task[None]) -> None:
        self._runs.pop(job_id, None)
        self._table.rates.pop(job_id, None)
        report(task)
        self._schedule()

    async def stop(self, job_id: str) -> DownloadJob:
        """Cancel the task of a job if it has one; the caller sets the state. Raises NotFound."""
        self._table.job(job_id)
        if (run := self._runs.get(job_id)) is not None:
            run.task.cancel()
            await settled(run.task)
        return self._table.job(job_id)

    async def wait_for_outcomes(self, job_ids: Collection[str]) -> None:
        """Wait while outcomes of these jobs are being recorded."""
        while ending := [
            run.task for key in job_ids if (run := self._runs.get(key)) is not None and run.ending
        ]:
            await settled(asyncio.gather(*ending, return_exceptions=True))

    # One job

    async def _run(self, job_id: str) -> None:
        """Run a job to its end, and record the outcome."""
        job = replace(self._table.jobs[job_id], state="downloading")
        self._table.put(job)
        began, bug = time.monotonic(), None
        try:
            await self._fetch(job)
            outcome = ended(job, "completed")
        except NotEnoughDisk as error:
            outcome = replace(job, state="paused", error=to_info(error))
        except DeckError as error:
            logger.warning("%s: %s", job.unique, error)
            outcome = replace(ended(job, "failed"), error=to_info(error))
        except Exception as error:
            # A bug: the task's owner logs it; the job is recorded as failed, not left running.
            # Only the type is shown: the message of an error may quote a header.
            bug = DeckError(
                f"modeldeck itself failed ({type(error).__name__}).",
                "Please report it; the log has the details.",
            )
            outcome = replace(ended(job, "failed"), error=to_info(bug))
            bug.__cause__ = error
        finally:
            timed = self._table.add_seconds(job_id, time.monotonic() - began)
            busy = [self._table.jobs[other].keys for other in self._runs if other != job_id]
            self._blobs.end(job.keys.difference(*busy))
        outcome = replace(
            timed, state=outcome.state, error=outcome.error, finished_at=outcome.finished_at
        )
        # A published job must be recorded as completed, even if it is being cancelled.
        self._runs[job_id].ending = True
        end = asyncio.create_task(self._end(outcome))
        await settled(end)
        end.result()
        if bug is not None:
            raise bug

    async def _end(self, outcome: DownloadJob) -> None:
        try:
            await self._table.record(outcome)
        except DeckError as error:
            # The disk may be full for the journal too. A restart runs the job again.
            logger.warning("%s: the journal cannot be written: %s", outcome.unique, error)
            self._table.put(outcome)
        if outcome.waits_for_room:
            self._on_full()

    async def _fetch(self, job: DownloadJob) -> None:
        """Download and verify every content, then publish every file."""
        await self._blobs.prepare(job)
        await self._check_room(job, [self._table.jobs[other] for other in self._runs])
        async with AsyncExitStack() as held:
            # All locks are held until the files are published, so another job that waits for a
            # content finds it complete. They are taken in one order, which rules out deadlocks.
            work = ParallelTasks()
            async with work:
                for file in sorted(job.contents, key=lambda file: file.blob):
                    await held.enter_async_context(self._blobs.alone((job.repo, file.blob)))
                    await work.start(file.size_bytes, partial(self._blobs.obtain, job, file))
            self._table.announce(job.id)
            for file in job.files:
                await self._blobs.publish(job, file)
            await self._blobs.publish_ref(job)


def report(task: asyncio.Task[None]) -> None:
    """Log a bug. Expected failures are recorded in the jobs, and are no task errors."""
    if not task.cancelled() and (error := task.exception()) is not None:
        report_bug(task.get_name(), error)


def ended(job: DownloadJob, state: DownloadState) -> DownloadJob:
    """The job with a final state."""
    return replace(job, state=state, error=None, finished_at=now())
