"""The jobs that run: which of them, one task each, and what becomes of them.

A job obtains its contents, the small ones side by side, each until it is verified; what is received
lies in partial files that no other tool reads. Only when all are verified are they published, links
after blobs and the ref last, and only then the job is completed. So nobody ever sees a part of a
model, and stopping a job is ending its task.
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
"""How often progress is told: as often as a person can read it."""


@dataclass(slots=True)
class _RunningJob:
    """A job that is being worked on."""

    task: asyncio.Task[None]
    ending: bool = False
    """Whether its outcome is being recorded."""


class DownloadRunner:
    """Works on the first jobs of a queue, as many at once as may be."""

    def __init__(
        self,
        *,
        book: JobTable,
        contents: BlobTable,
        check_room: Callable[[DownloadJob, Sequence[DownloadJob]], Awaitable[None]],
        on_full: Callable[[], None],
        jobs_at_once: int,
    ) -> None:
        """`on_full` is called when a job was paused for want of room on the disk."""
        self._book = book
        self._contents = contents
        self._check_room = check_room
        self._on_full = on_full
        self._runs: dict[str, _RunningJob] = {}
        self._busy = asyncio.Event()
        self._teller: asyncio.Task[None] | None = None
        self.jobs_at_once = jobs_at_once
        self.closed = True
        """Whether nothing is begun any more."""

    def open(self) -> None:
        """Begin."""
        self.closed = False
        self._teller = asyncio.create_task(self._tell(), name="telling the progress of downloads")
        self._teller.add_done_callback(report)
        self._schedule()

    async def close(self) -> None:
        """Stop everything, durably. Nothing is begun any more: set `closed` first."""
        for job_id in list(self._runs):
            await self.stop(job_id)
        if self._teller is not None:
            self._teller.cancel()
            await settled(self._teller)

    async def _tell(self) -> None:
        """Tell how far the running jobs are, while there are any."""
        telling = Repeated("telling the progress of downloads")
        while True:
            await self._busy.wait()
            await asyncio.sleep(TICK_S)
            with telling.turn():
                self._book.tell(time.monotonic())

    # Places

    async def give_places(self) -> None:
        """Put running jobs back that are not among the first any more, and start those that are.

        One that only has to be verified keeps its place: it takes nothing from the line.
        """
        first = {job.id for job in self._book.active()[: self.jobs_at_once]}
        for job_id in [key for key in self._runs if key not in first]:
            if self._book.views[job_id].state != "verifying":
                job = await self.stop(job_id)
                if job.state in ACTIVE:
                    # In memory alone: to the journal both states mean that it goes on.
                    self._book.put(replace(job, state="queued"))
        self._schedule()

    def _schedule(self) -> None:
        """Start the first queued jobs, as many as may run at once."""
        for job in self._book.active():
            if self.closed or len(self._runs) >= self.jobs_at_once:
                break
            if job.state != "queued" or job.id in self._runs:
                continue
            task = asyncio.create_task(self._run(job.id), name=f"download {job.unique}")
            self._runs[job.id] = _RunningJob(task=task)
            self._book.began(job.id, time.monotonic())
            task.add_done_callback(partial(self._ran, job.id))
        if self._runs:
            self._busy.set()
        else:
            self._busy.clear()

    def _ran(self, job_id: str, task: asyncio.Task[None]) -> None:
        self._runs.pop(job_id, None)
        self._book.paces.pop(job_id, None)
        report(task)
        self._schedule()

    async def stop(self, job_id: str) -> DownloadJob:
        """End the task of a job, if it has one; its state is left to the caller. NotFound."""
        self._book.job(job_id)
        if (run := self._runs.get(job_id)) is not None:
            run.task.cancel()
            await settled(run.task)
        return self._book.job(job_id)

    async def steady(self, job_ids: Collection[str]) -> None:
        """Return when no outcome of these jobs is just being recorded."""
        while ending := [
            run.task for key in job_ids if (run := self._runs.get(key)) is not None and run.ending
        ]:
            await settled(asyncio.gather(*ending, return_exceptions=True))

    # One job

    async def _run(self, job_id: str) -> None:
        """Work on a job until it has ended, whichever way."""
        job = replace(self._book.jobs[job_id], state="downloading")
        self._book.put(job)
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
            # A bug. It goes on to whoever owns this task; the job must not look alive.
            # Its type alone: the text of an error may quote a header.
            bug = DeckError(
                f"modeldeck itself failed ({type(error).__name__}).",
                "Please report it; the log has the details.",
            )
            outcome = replace(ended(job, "failed"), error=to_info(bug))
            bug.__cause__ = error
        finally:
            told = self._book.spent(job_id, time.monotonic() - began)
            busy = [self._book.jobs[other].keys for other in self._runs if other != job_id]
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

    async def _end(self, outcome: DownloadJob) -> None:
        try:
            await self._book.record(outcome)
        except DeckError as error:
            # The disk may be full for the journal too. After a restart the job is looked at again.
            logger.warning("%s: the journal cannot be written: %s", outcome.unique, error)
            self._book.put(outcome)
        if outcome.waits_for_room:
            self._on_full()

    async def _fetch(self, job: DownloadJob) -> None:
        """Obtain every content, then publish every file."""
        await self._contents.prepare(job)
        await self._check_room(job, [self._book.jobs[other] for other in self._runs])
        async with AsyncExitStack() as held:
            # All stay held until they are published: whoever waits for one finds it, and does not
            # fetch it a second time. They are taken in one order, and fetched side by side.
            work = ParallelTasks()
            async with work:
                for file in sorted(job.contents, key=lambda file: file.blob):
                    await held.enter_async_context(self._contents.alone((job.repo, file.blob)))
                    await work.start(file.size_bytes, partial(self._contents.obtain, job, file))
            self._book.announce(job.id)
            for file in job.files:
                await self._contents.publish(job, file)
            await self._contents.publish_ref(job)


def report(task: asyncio.Task[None]) -> None:
    """Let a bug be seen. Expected failures are in the jobs' records, and never get here."""
    if not task.cancelled() and (error := task.exception()) is not None:
        report_bug(task.get_name(), error)


def ended(job: DownloadJob, state: DownloadState) -> DownloadJob:
    """The job, over for now."""
    return replace(job, state=state, error=None, finished_at=now())
