"""Room on the disk: looked at before a job begins, and waited for when it ran out.

A job that met a full disk is paused, says so, and goes on by itself: it is tried again when its
rest fits, with longer and longer pauses where the system's figures promise room that is not there,
as under a quota.
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
    """Keeps jobs from filling the disk, and lets those go on that found it full."""

    def __init__(
        self,
        *,
        book: JobTable,
        contents: BlobTable,
        free_bytes: Callable[[str], int | None],
        floor_bytes: int,
        first_wait_s: float,
        retry: Callable[[str], Awaitable[None]],
    ) -> None:
        """`free_bytes` is of the disk that a repository's content goes to.

        `retry` lets a job go on; it raises what keeps it from that.
        """
        self._book = book
        self._contents = contents
        self._free_bytes = free_bytes
        self._floor_bytes = floor_bytes
        self._first_wait_s = first_wait_s
        self._retry = retry
        self._full = asyncio.Event()
        self._tries: dict[str, tuple[int, int]] = {}
        """By job: how often it was tried in vain, and what it had received then."""
        self._watching: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to watch over the jobs that wait for room."""
        self._full.set()
        self._watching = asyncio.create_task(self._watch(), name="waiting for room on the disk")
        self._watching.add_done_callback(report)

    async def close(self) -> None:
        """End watching."""
        if self._watching is not None:
            self._watching.cancel()
            await settled(self._watching)

    def ran_out(self) -> None:
        """Some job met a full disk."""
        self._full.set()

    async def check(self, job: DownloadJob, others: Sequence[DownloadJob]) -> None:
        """Raise NotEnoughDisk unless the job fits beside what the others will still write."""
        need = await self._contents.need([job])
        promised = await self._contents.need([other for other in others if other.id != job.id])
        free = await in_thread(lambda: self._free_bytes(job.repo))
        check_room(need, free, promised, self._floor_bytes)

    async def _watch(self) -> None:
        trying = Repeated("trying downloads again that wait for room")
        while True:
            await self._full.wait()
            waiting = [job for job in self._book.jobs.values() if job.waits_for_room]
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
        job = self._book.jobs.get(job_id)
        if job is None or not job.waits_for_room:
            return
        failures, received = self._tries.get(job_id, (0, -1))
        there = self._book.views[job_id].received_bytes
        self._tries[job_id] = (failures + 1 if there <= received else 1, there)
        try:
            await self._retry(job_id)
        except DeckError as error:
            logger.debug("%s still waits: %s", job.unique, error)
        else:
            logger.info("%s goes on: there is room again.", job.unique)
