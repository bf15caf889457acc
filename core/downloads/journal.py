"""Persists download jobs and claims on durable ranges in the database."""

from __future__ import annotations

import logging

import msgspec

from modeldeck.core.downloads.job_records import DownloadJob, DurableRanges, JournalEntry, Key
from modeldeck.core.errors import StorageFailed
from modeldeck.core.storage.database import Database

logger = logging.getLogger(__name__)

KEPT_COMPLETED = 50
"""Completed jobs that are kept over a restart: about a screen."""


class DownloadJournal:
    """The documents of one download queue. Writes are durable when a method returns."""

    def __init__(self, store: Database) -> None:
        self._store = store

    async def read(self) -> tuple[list[DownloadJob], list[DurableRanges]]:
        """All jobs in queue order and all claims; the oldest completed jobs are deleted.

        A document that this version cannot read is left where it is, with a warning.
        """
        entries = [entry for _, entry in await self._store.records("jobs", JournalEntry)]
        jobs = [entry.job for entry in entries if entry.job is not None]
        completed = [job for job in jobs if job.state == "completed"]
        completed.sort(key=lambda job: job.finished_at or "")
        old = {job.id for job in completed[:-KEPT_COMPLETED]}
        try:
            for key in old:
                await self._store.remove("jobs", key)
        except StorageFailed as error:
            logger.warning("Old downloads stay in the journal for now: %s", error)
        claims = [entry.claim for entry in entries if entry.claim is not None]
        return [job for job in jobs if job.id not in old], claims

    async def write(self, *records: DownloadJob | DurableRanges) -> None:
        """Write records in one transaction. Raises StorageFailed."""
        documents = []
        for record in records:
            if isinstance(record, DownloadJob):
                entry, position = JournalEntry(job=record), record.position
            else:
                entry, position = JournalEntry(claim=record), 0
            documents.append((entry.key, msgspec.json.encode(entry), position))
        await self._store.put_all("jobs", documents)

    async def forget_job(self, job_id: str) -> None:
        """Delete a job."""
        await self._store.remove("jobs", job_id)

    async def forget_claim(self, key: Key) -> None:
        """Delete a claim."""
        await self._store.remove("jobs", "/".join(key))
