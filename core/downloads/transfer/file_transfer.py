"""One file: from the endpoint into its partial, until all of it is there and its hash is right.

Three things go on at once. Connections receive parts, each in a thread, and write them where they
belong (`receiver`). The hash follows the front of the file, in a thread too. And what was written
is synced in steps, and claimed in the journal after each sync, so the claim never says more than
the disk has. Connections wait when they are too far ahead: a kill costs one part of each at most.
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
from modeldeck.core.downloads.transfer.connections import ContentChanged, FileConnections
from modeldeck.core.downloads.transfer.partial_file import PartialFile, digest_of
from modeldeck.core.downloads.transfer.rate_limit import RateLimiter
from modeldeck.core.downloads.transfer.written_ranges import UNSYNCED_BYTES, Verifier, WrittenRanges
from modeldeck.core.errors import Corrupt
from modeldeck.core.schema import RepoFile

logger = logging.getLogger(__name__)

PART_BYTES = UNSYNCED_BYTES
"""The most that each connection fetches again after a kill."""

STEP_S = 1.0
"""On a slow line what came is synced after this long, however little it is."""


class FileTransfer:
    """Fetches one file. Its claim is the only thing it leaves beside the partial."""

    def __init__(
        self,
        *,
        source: DownloadSource,
        place: FileLocation,
        path: Path,
        claim: DurableRanges,
        progress: FileProgress,
        settings: config.DownloadSettings,
        limiter: RateLimiter,
        save: Callable[[DurableRanges], Awaitable[None]],
        check_floor: Callable[[], Awaitable[None]],
    ) -> None:
        self._source = source
        self._place = place
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
        return self._place.file.size_bytes

    async def run(self) -> None:
        """Return when the partial is complete, synced, verified, and so claimed.

        Cancelled or failed, all that was received is durable and claimed. Raises Corrupt when the
        content is wrong twice; NotEnoughDisk, StorageFailed, Gated, NotFound, HubUnavailable.
        """
        partial = await PartialFile.open(self._path)
        try:
            there = await self._take_over(partial)
            for _ in range(2):
                try:
                    digest = await self._gather(partial, there)
                    if self._is_right(digest):
                        await self._complete(digest)
                        return
                    logger.warning("%s arrived corrupt.", self._place)
                except ContentChanged:
                    logger.warning("%s changed under way.", self._place)
                there = ()
                await self._start_over(partial)
            raise Corrupt(
                f"{self._place} arrived corrupt twice: its hash is not what was promised.",
                "Nothing was kept of it. Try again later, or report it to whoever published it.",
            )
        finally:
            end = asyncio.create_task(self._close(partial))
            await settled(end)
            end.result()

    def _is_right(self, digest: str) -> bool:
        """Whether the content has the hash that was promised, where one was."""
        return digest == self._place.file.blob or not self._place.file.verifiable

    async def _complete(self, digest: str) -> None:
        """Claim all of it; also what its hash is, where nobody had said so before."""
        durable = ((0, self._size),) if self._size else ()
        content = "" if self._place.file.verifiable else digest
        await self._claimed(durable, verified=True, content=content)

    async def _close(self, partial: PartialFile) -> None:
        """Give back the room of what is missing, and close the file."""
        try:
            if gaps := missing(self._claim.durable, self._size):
                await partial.release(gaps)
        finally:
            await partial.close()

    async def _take_over(self, partial: PartialFile) -> ByteRanges:
        """Begin with what an earlier run left: no more than it claimed, no more than is on disk."""
        on_disk = await partial.size()
        if on_disk > self._size:
            await partial.truncate(self._size)
        return clip(self._claim.durable, min(on_disk, self._size))

    async def _start_over(self, partial: PartialFile) -> None:
        """Forget what is there. The journal forgets first: it must never claim what is gone."""
        self._validator = ""
        await self._claimed(())
        await partial.truncate(0)
        self._progress.received_bytes = self._progress.hashed_bytes = 0

    async def _claimed(
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

    async def _gather(self, partial: PartialFile, there: ByteRanges) -> str:
        """Receive what is missing; the hash of it all. Raises Changed."""
        await partial.reserve(self._size)
        loop, step = asyncio.get_running_loop(), asyncio.Event()

        def on_step() -> None:
            loop.call_soon_threadsafe(step.set)

        ledger = WrittenRanges(there, self._progress, on_step)
        digest = digest_of(self._place.file)
        follower = Verifier(partial, ledger, digest, self._size, self._progress)
        receiver = FileConnections(
            source=self._source,
            place=self._place,
            partial=partial,
            ledger=ledger,
            limiter=self._limiter,
            progress=self._progress,
            settings=self._settings,
            validator=self._validator,
        )
        hashing = asyncio.create_task(in_own_thread(follower.run, follower.stop))
        keeping = asyncio.create_task(self._keep(partial, ledger, receiver, step))
        receiving = asyncio.create_task(receiver.run())
        try:
            await asyncio.wait([receiving, keeping], return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            hashing.cancel()
            raise
        finally:
            # All that came is made durable first, also when this is being cancelled.
            end = asyncio.create_task(self._settle(partial, ledger, receiver, receiving, keeping))
            await settled(end)
        try:
            end.result()
            return await hashing
        finally:
            hashing.cancel()
            await settled(hashing)

    async def _settle(
        self,
        partial: PartialFile,
        ledger: WrittenRanges,
        receiver: FileConnections,
        receiving: asyncio.Task[None],
        keeping: asyncio.Task[None],
    ) -> None:
        """Stop what still runs, claim what is there, and raise what went wrong."""
        for task in (receiving, keeping):
            if not task.done():
                task.cancel()
            await settled(task)
        await self._step(partial, ledger, receiver)
        for task in (keeping, receiving):
            if not task.cancelled():
                task.result()

    async def _keep(
        self,
        partial: PartialFile,
        ledger: WrittenRanges,
        receiver: FileConnections,
        step: asyncio.Event,
    ) -> None:
        """Sync and claim what came, again and again."""
        while True:
            try:
                async with asyncio.timeout(STEP_S):
                    await step.wait()
            except TimeoutError:
                pass
            step.clear()
            await self._step(partial, ledger, receiver)
            await self._check_floor()

    async def _step(
        self, partial: PartialFile, ledger: WrittenRanges, receiver: FileConnections
    ) -> None:
        there, ahead = ledger.snapshot()
        if ahead:
            await partial.sync()
            self._validator = receiver.validator
            await self._claimed(there)
            ledger.synced(ahead)


async def verified(path: Path, file: RepoFile, progress: FileProgress) -> bool:
    """Whether the content that lies at `path` already is what `file` should be.

    Raises StorageFailed when it cannot be read.
    """
    existing = await PartialFile.open(path, write=False)
    try:
        ledger = WrittenRanges(((0, file.size_bytes),), progress, lambda: None)
        follower = Verifier(existing, ledger, digest_of(file), file.size_bytes, progress)
        return await in_own_thread(follower.run, follower.stop) == file.blob
    finally:
        await existing.close()
