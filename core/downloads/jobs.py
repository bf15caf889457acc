"""The book of a queue: every job as the journal has it, and as front ends see it.

A change goes into the journal first and then to everybody else, so that nobody is told what a power
loss would take back. What is told is told once: a view that is as before is no news.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from modeldeck.core.concurrency import report_failure
from modeldeck.core.downloads.job_records import (
    ACTIVE,
    AverageRate,
    DownloadJob,
    FileProgress,
    Key,
    view,
)
from modeldeck.core.downloads.journal import DownloadJournal
from modeldeck.core.errors import NotFound
from modeldeck.core.schema import Download


class JobTable:
    """All jobs that are not forgotten."""

    def __init__(
        self,
        *,
        journal: DownloadJournal,
        progress: Callable[[DownloadJob], Mapping[str, FileProgress]],
        on_change: Callable[[Download], None],
    ) -> None:
        self._journal = journal
        self._progress = progress
        self._on_change = on_change
        self.jobs: dict[str, DownloadJob] = {}
        """By id, the oldest first."""
        self.views: dict[str, Download] = {}
        """The same, as they were last told."""
        self.paces: dict[str, AverageRate] = {}
        """How fast those are that run."""

    def job(self, job_id: str) -> DownloadJob:
        """The job with this id. Raises NotFound."""
        if (job := self.jobs.get(job_id)) is None:
            raise NotFound(f"There is no download {job_id}.", "GET /deck/state lists them.")
        return job

    def active(self) -> list[DownloadJob]:
        """Jobs that go on by themselves, in the order of the queue."""
        jobs = [job for job in self.jobs.values() if job.state in ACTIVE]
        return sorted(jobs, key=lambda job: job.position)

    @property
    def wanted(self) -> dict[Key, str]:
        """Contents that a job goes on with, by itself or when it is resumed, and whose it is."""
        return {
            key: job.unique
            for job in self.jobs.values()
            if job.state not in ("completed", "canceled")
            for key in job.keys
        }

    def put(self, job: DownloadJob) -> None:
        """Change a job in memory alone, where the journal has it already or cannot be written."""
        self.jobs[job.id] = job
        self.announce(job.id)

    async def record(self, job: DownloadJob) -> None:
        """Change a job: the journal first, then everybody else. Raises StorageFailed."""
        await self._journal.write(job)
        self.put(job)

    async def forget(self, job_id: str) -> None:
        """Strike a job out."""
        await self._journal.forget_job(job_id)
        del self.jobs[job_id], self.views[job_id]

    def announce(self, job_id: str) -> None:
        """Tell how a job is now, if that is news."""
        job, pace = self.jobs[job_id], self.paces.get(job_id)
        new = view(job, self._progress(job), pace.rate if pace else None)
        if self.views.get(job_id) != new:
            self.views[job_id] = new
            try:
                self._on_change(new)
            except Exception as error:  # it must not end the run that told it
                report_failure(f"telling how the download of {job.unique} is", error)

    def tell(self, now: float) -> None:
        """Tell how far those are that run, and bring their paces up to `now`."""
        for job_id, pace in list(self.paces.items()):
            self.announce(job_id)
            self.paces[job_id] = pace.after(self.views[job_id].received_bytes, now)

    def began(self, job_id: str, now: float) -> None:
        """A job runs from now on."""
        self.paces[job_id] = AverageRate(received_bytes=self.views[job_id].received_bytes, at=now)

    def spent(self, job_id: str, seconds: float) -> DownloadJob:
        """Add to the time that a job took."""
        job = self.jobs[job_id]
        self.jobs[job_id] = job = replace(job, seconds=job.seconds + seconds)
        return job
