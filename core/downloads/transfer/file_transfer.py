"""Downloads one file, resuming its partial file, until it is complete and its hash is right.

Three activities run side by side. Connections receive ranges, each in a thread, and write them at
their offsets (`connections`). The verifier hashes the front of the file, in a thread too. Written
data is synced step by step, and the journal records a claim after each sync, so a claim never names
bytes that are not durable. Connections wait when too much is unsynced, which bounds the loss by a
kill.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from modeldeck.core.concurrency import in_own_thread, settled
from modeldeck.core.config import config
from modeldeck.core.downloads.http.responses import FileLocation
from modeldeck.core.downloads.http.source import DownloadSource
from modeldeck.core.downloads.job_records import DurableRanges, FileProgress
from modeldeck.core.downloads.ranges import ByteRanges, clip, missing
from modeldeck.core.downloads.transfer.bandwidth_limit import RateLimiter
from modeldeck.core.downloads.transfer.connections import ContentChanged, FileConnections
from modeldeck.core.downloads.transfer.partial_file import PartialFile
from modeldeck.core.downloads.transfer.verifier import Verifier, digest_of, is_right
from modeldeck.core.downloads.transfer.written_ranges import UNSYNCED_BYTES, WrittenRanges
from modeldeck.core.errors import Corrupt

logger = logging.getLogger(__name__)

PART_BYTES = UNSYNCED_BYTES
"""Bytes that each connection may have to fetch again after a kill."""

STEP_S = 1.0
"""Most seconds between two syncs: a slow line takes long to fill a step."""


class FileTransfer:
    """Downloads one file. It leaves the partial file and a claim in the journal."""

    def __init__(
        self,
        *,
        source: DownloadSource,
        location: FileLocation,
        path: Path,
        claim: DurableRanges,
        progress: FileProgress,
        settings: config.DownloadSettings,
        limiter: RateLimiter,
        save: Callable[[DurableRanges], Awaitable[None]],
        check_floor: Callable[[], Awaitable[None]],
    ) -> None:
        self._source = source
        self._location = location
        self._path = path
        self._progress = progress
        self._settings = settings
        self._limiter = limiter
        self._save = save
        self._check_floor = check_floor
        self._claim = claim
        self._validator = claim.validator

    @property
    def _size(self) -> int:
        return self._location.file.size_bytes

    async def run(self) -> None:
        """Return when the partial file is complete, synced, verified, and claimed.

        When cancelled or failed, all bytes received so far are durable and claimed. Raises Corrupt
        when the content is wrong twice; NotEnoughDisk, StorageFailed, Gated, NotFound,
        HubUnavailable.
        """
        partial = await PartialFile.open(self._path)
        try:
            received = await self._resumable_ranges(partial)
            for _ in range(2):
                try:
                    digest = await self._receive(partial, received)
                    if is_right(self._location.file, digest):
                        await self._complete(digest)
                        return
                    logger.warning("%s arrived corrupt.", self._location)
                except ContentChanged:
                    logger.warning("%s changed during the download.", self._location)
                received = ()
                await self._start_over(partial)
            raise Corrupt(
                f"{self._location} arrived corrupt twice: its hash is not what was promised.",
                "The file was discarded. Try again later, or report it to the publisher.",
            )
        finally:
            end = asyncio.create_task(self._close(partial))
            await settled(end)
            end.result()

    async def _complete(self, digest: str) -> None:
        """Claim the whole file as verified, with its hash where none was known before."""
        durable = ((0, self._size),) if self._size else ()
        content = "" if self._location.file.verifiable else digest
        await self._record_claim(durable, verified=True, content=content)

    async def _close(self, partial: PartialFile) -> None:
        """Release the disk space of missing ranges, and close the file."""
        try:
            if gaps := missing(self._claim.durable, self._size):
                await partial.release(gaps)
        finally:
            await partial.close()

    async def _resumable_ranges(self, partial: PartialFile) -> ByteRanges:
        """Ranges of an earlier run to go on from: those that are claimed and on disk."""
        on_disk = await partial.size()
        if on_disk > self._size:
            await partial.truncate(self._size)
        return clip(self._claim.durable, min(on_disk, self._size))

    async def _start_over(self, partial: PartialFile) -> None:
        """Drop all content; first its claim, which must never name bytes that are gone."""
        self._validator = ""
        await self._record_claim(())
        await partial.truncate(0)
        self._progress.received_bytes = self._progress.hashed_bytes = 0

    async def _record_claim(
        self, durable: ByteRanges, *, verified: bool = False, content: str = ""
    ) -> None:
        claim = replace(
            self._claim,
            durable=durable,
            verified=verified,
            content=content,
            validator=self._validator,
        )
        await self._save(claim)
        self._claim = claim

    async def _receive(self, partial: PartialFile, received: ByteRanges) -> str:
        """Receive the missing ranges; return the hash of the file. Raises ContentChanged."""
        await partial.reserve(self._size)
        loop, step = asyncio.get_running_loop(), asyncio.Event()

        def on_step() -> None:
            loop.call_soon_threadsafe(step.set)

        written = WrittenRanges(received, self._progress, on_step)
        digest = digest_of(self._location.file)
        verifier = Verifier(partial, written, digest, self._size, self._progress)
        connections = FileConnections(
            source=self._source,
            location=self._location,
            partial=partial,
            written=written,
            limiter=self._limiter,
            progress=self._progress,
            settings=self._settings,
            validator=self._validator,
        )
        hashing = asyncio.create_task(in_own_thread(verifier.run, verifier.stop))
        syncing = asyncio.create_task(self._sync_repeatedly(partial, written, connections, step))
        receiving = asyncio.create_task(connections.run())
        try:
            await asyncio.wait([receiving, syncing], return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            hashing.cancel()
            raise
        finally:
            # Received bytes are made durable first, also during a cancellation.
            end = asyncio.create_task(
                self._finish(partial, written, connections, receiving, syncing)
            )
            await settled(end)
        try:
            end.result()
            return await hashing
        finally:
            hashing.cancel()
            await settled(hashing)

    async def _finish(
        self,
        partial: PartialFile,
        written: WrittenRanges,
        connections: FileConnections,
        receiving: asyncio.Task[None],
        syncing: asyncio.Task[None],
    ) -> None:
        """Stop both tasks, sync and claim what is written, then raise a task's error."""
        for task in (receiving, syncing):
            if not task.done():
                task.cancel()
            await settled(task)
        await self._sync(partial, written, connections)
        for task in (syncing, receiving):
            if not task.cancelled():
                task.result()

    async def _sync_repeatedly(
        self,
        partial: PartialFile,
        written: WrittenRanges,
        connections: FileConnections,
        step: asyncio.Event,
    ) -> None:
        """Sync and claim after every step of bytes or time, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(STEP_S):
                    await step.wait()
            except TimeoutError:
                pass
            step.clear()
            await self._sync(partial, written, connections)
            await self._check_floor()

    async def _sync(
        self, partial: PartialFile, written: WrittenRanges, connections: FileConnections
    ) -> None:
        ranges, unsynced = written.snapshot()
        if unsynced:
            await partial.sync()
            self._validator = connections.validator
            await self._record_claim(ranges)
            written.synced(unsynced)
