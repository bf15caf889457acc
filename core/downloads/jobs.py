"""Table of all jobs of a queue, with their public views.

A change is written to the journal first and announced then, so no subscriber learns of a change
that a power loss would undo. A view is announced only if it differs from the previous one.
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
    """All jobs of the queue that were not removed."""

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
        """Public views by job id, as last announced."""
        self.rates: dict[str, AverageRate] = {}
        """Average rates of running jobs, by job id."""

    def job(self, job_id: str) -> DownloadJob:
        """The job with this id. Raises NotFound."""
        if (job := self.jobs.get(job_id)) is None:
            raise NotFound(f"There is no download {job_id}.", "`modeldeck downloads` lists them.")
        return job

    def active(self) -> list[DownloadJob]:
        """Jobs that are queued or running, in queue order."""
        jobs = [job for job in self.jobs.values() if job.state in ACTIVE]
        return sorted(jobs, key=lambda job: job.position)

    @property
    def wanted(self) -> dict[Key, str]:
        """Contents that an unfinished job needs, with the name of its model."""
        return {
            key: job.unique
            for job in self.jobs.values()
            if job.state not in ("completed", "canceled")
            for key in job.keys
        }

    def put(self, job: DownloadJob) -> None:
        """Change a job in memory only: the journal has it already, or cannot be written."""
        self.jobs[job.id] = job
        self.announce(job.id)

    async def record(self, job: DownloadJob) -> None:
        """Change a job: write the journal, then announce it. Raises StorageFailed."""
        await self._journal.write(job)
        self.put(job)

    async def forget(self, job_id: str) -> None:
        """Delete a job."""
        await self._journal.forget_job(job_id)
        del self.jobs[job_id], self.views[job_id]

    def announce(self, job_id: str) -> None:
        """Announce the view of a job if it has changed."""
        job, average = self.jobs[job_id], self.rates.get(job_id)
        new = view(job, self._progress(job), average.rate if average else None)
        if self.views.get(job_id) != new:
            self.views[job_id] = new
            try:
                self._on_change(new)
            except Exception as error:  # a subscriber must not end the run of a job
                report_failure(f"announcing the download of {job.unique}", error)

    def announce_progress(self, now: float) -> None:
        """Announce running jobs, and update their average rates to `now`."""
        for job_id, average in list(self.rates.items()):
            self.announce(job_id)
            self.rates[job_id] = average.after(self.views[job_id].received_bytes, now)

    def start_rate(self, job_id: str, now: float) -> None:
        """Start the average rate of a job that begins to run."""
        self.rates[job_id] = AverageRate(received_bytes=self.views[job_id].received_bytes, at=now)

    def add_seconds(self, job_id: str, seconds: float) -> DownloadJob:
        """Add to the running time of a job."""
        job = self.jobs[job_id]
        self.jobs[job_id] = job = replace(job, seconds=job.seconds + seconds)
        return job
