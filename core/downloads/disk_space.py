"""Checks free disk space before a job begins, and resumes jobs that a full disk paused.

A paused job is tried again when its missing bytes fit. The waits between tries grow where the
system reports space that cannot be used, as under a quota.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence

from modeldeck.core.concurrency import Repeated, in_thread, settled
from modeldeck.core.downloads.job_records import DownloadJob, check_room, wait_s
from modeldeck.core.downloads.jobs import JobTable
from modeldeck.core.downloads.runner import report
from modeldeck.core.downloads.transfer.blobs import BlobTable
from modeldeck.core.errors import DeckError

logger = logging.getLogger(__name__)


class DiskSpaceGuard:
    """Refuses jobs that do not fit on the disk, and retries those that a full disk paused."""

    def __init__(
        self,
        *,
        table: JobTable,
        blobs: BlobTable,
        free_bytes: Callable[[str], int | None],
        floor_bytes: int,
        first_wait_s: float,
        retry: Callable[[str], Awaitable[None]],
    ) -> None:
        """`free_bytes` returns the free space of a repository's disk, None for unknown.

        `retry` resumes a job; it raises DeckError when the job cannot continue.
        """
        self._table = table
        self._blobs = blobs
        self._free_bytes = free_bytes
        self._floor_bytes = floor_bytes
        self._first_wait_s = first_wait_s
        self._retry = retry
        self._full = asyncio.Event()
        self._tries: dict[str, tuple[int, int]] = {}
        """By job: failed tries in a row, and the bytes received at the last one."""
        self._watching: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start to watch the jobs that wait for disk space."""
        self._full.set()
        self._watching = asyncio.create_task(self._watch(), name="waiting for room on the disk")
        self._watching.add_done_callback(report)

    async def close(self) -> None:
        """Stop watching."""
        if self._watching is not None:
            self._watching.cancel()
            await settled(self._watching)

    def ran_out(self) -> None:
        """Tell the guard that a job was paused by a full disk."""
        self._full.set()

    async def check(self, job: DownloadJob, others: Sequence[DownloadJob]) -> None:
        """Raise NotEnoughDisk unless the job fits beside the missing bytes of the others."""
        need = await self._blobs.need([job])
        promised = await self._blobs.need([other for other in others if other.id != job.id])
        free = await in_thread(lambda: self._free_bytes(job.repo))
        check_room(need, free, promised, self._floor_bytes)

    async def _watch(self) -> None:
        trying = Repeated("trying downloads again that wait for room")
        while True:
            await self._full.wait()
            waiting = [job for job in self._table.jobs.values() if job.waits_for_room]
            self._tries = {job.id: self._tries.get(job.id, (0, -1)) for job in waiting}
            if not waiting:
                self._full.clear()
                continue
            failures = min(failures for failures, _ in self._tries.values())
            chance = random.random()  # noqa: S311 - spreads tries, hides nothing
            await asyncio.sleep(wait_s(failures + 1, self._first_wait_s, chance))
            for job in waiting:
                with trying.turn():
                    await self._try(job.id)

    async def _try(self, job_id: str) -> None:
        job = self._table.jobs.get(job_id)
        if job is None or not job.waits_for_room:
            return
        failures, received = self._tries.get(job_id, (0, -1))
        received_now = self._table.views[job_id].received_bytes
        self._tries[job_id] = (failures + 1 if received_now <= received else 1, received_now)
        try:
            await self._retry(job_id)
        except DeckError as error:
            logger.debug("%s still waits: %s", job.unique, error)
        else:
            logger.info("%s goes on: there is room again.", job.unique)
