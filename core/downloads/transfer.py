"""One file: from the endpoint into its partial, until all of it is there and its hash is right.

What is received is written at once, synced in steps, and claimed in the journal after each sync, so
the claim never says more than the disk has. While one step is synced the next is received: after a
kill at most two steps (one `PART_BYTES`) are fetched again. The hash follows the front of the file.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from core import config
from core.downloads.partial import Digest, Partial, digest_of, settled
from core.downloads.parts import (
    Claim,
    Progress,
    Span,
    Spans,
    add,
    clip,
    covered,
    front,
    missing,
    wait_s,
)
from core.downloads.source import Body, Place, Setback, Source
from core.errors import Corrupt, HubUnavailable
from core.schema import RepoFile

logger = logging.getLogger(__name__)

PART_BYTES = 32 << 20
"""The most that is fetched again after a kill."""

WRITE_BYTES = 1 << 20
"""Gathered before a thread writes it: the hop costs more than the write of 64 KiB."""

WRITE_S = 1.0
"""On a slow line what was gathered is written after this long."""

STEP_BYTES = PART_BYTES // 2 - 2 * WRITE_BYTES
"""Synced at once. Two steps, and what is gathered meanwhile, make a part."""

STEP_S = 2.0
"""On a slow line a step is synced after this long, whatever it holds."""


class _Changed(Exception):
    """The server has other content now, and does not serve the rest of what is there in part."""


class Transfer:
    """Fetches one file. Its claim is the only thing it leaves beside the partial."""

    def __init__(
        self,
        *,
        source: Source,
        place: Place,
        path: Path,
        claim: Claim,
        progress: Progress,
        settings: config.Downloads,
        save: Callable[[Claim], Awaitable[None]],
        check_floor: Callable[[], Awaitable[None]],
    ) -> None:
        self._source = source
        self._place = place
        self._path = path
        self._progress = progress
        self._settings = settings
        self._save = save
        self._check_floor = check_floor
        self._claim = claim
        self._validator = claim.validator
        self._there: Spans = ()
        self._advanced = asyncio.Event()
        self._step: asyncio.Task[None] | None = None
        self._stepped_bytes = 0
        self._stepped_at = 0.0

    @property
    def _size(self) -> int:
        return self._place.file.size_bytes

    async def run(self) -> None:
        """Return when the partial is complete, synced, verified, and so claimed.

        Cancelled or failed, all that was received is durable and claimed. Raises Corrupt when the
        content is wrong twice; NotEnoughDisk, StorageFailed, Gated, NotFound, HubUnavailable.
        """
        partial = await Partial.open(self._path)
        try:
            await self._take_over(partial)
            for _ in range(2):
                try:
                    if await self._gather(partial) == self._place.file.blob:
                        await self._claimed(self._there, verified=True)
                        return
                    logger.warning("%s arrived corrupt.", self._place)
                except _Changed:
                    logger.warning("%s changed under way.", self._place)
                await self._start_over(partial)
            raise Corrupt(
                f"{self._place} arrived corrupt twice: its hash is not what the Hub listed.",
                "Nothing was kept of it. Try again later, or report it to whoever published it.",
            )
        finally:
            await partial.close()

    async def _take_over(self, partial: Partial) -> None:
        """Begin with what an earlier run left: no more than it claimed, no more than is on disk."""
        on_disk = await partial.size()
        self._there = clip(self._claim.durable, min(on_disk, self._size))
        if on_disk > self._size:
            await partial.truncate(self._size)
        self._stepped_bytes = covered(self._there)
        self._note_progress()

    async def _start_over(self, partial: Partial) -> None:
        """Forget what is there. The journal forgets first: it must never claim what is gone."""
        self._validator = ""
        await self._claimed(())
        await partial.truncate(0)
        self._there, self._stepped_bytes = (), 0
        self._progress.hashed_bytes = 0
        self._note_progress()

    async def _claimed(self, durable: Spans, *, verified: bool = False) -> None:
        claim = replace(self._claim, durable=durable, verified=verified, validator=self._validator)
        await self._save(claim)
        self._claim = claim

    def _note_progress(self, waiting: int = 0) -> None:
        self._progress.received_bytes = covered(self._there) + waiting
        self._advanced.set()

    async def _gather(self, partial: Partial) -> str:
        """Receive what is missing; the hash of it all."""
        follower = asyncio.create_task(self._follow(partial, digest_of(self._place.file)))
        try:
            try:
                await self._receive_all(partial)
            finally:
                await self._finish_steps(partial)
            return await follower
        finally:
            follower.cancel()
            await settled(follower)

    async def _follow(self, partial: Partial, digest: Digest) -> str:
        """Hash the file from its beginning as far as it is there, until it is complete."""
        at = self._progress.hashed_bytes = 0
        while at < self._size:
            self._advanced.clear()
            if at < (end := front(self._there)):
                at = self._progress.hashed_bytes = await partial.hash(digest, at, end)
            else:
                await self._advanced.wait()
        return digest.hexdigest()

    async def _receive_all(self, partial: Partial) -> None:
        """Fill the gaps one after the other, trying again after what may pass."""
        failures = 0
        while gaps := missing(self._there, self._size):
            before = covered(self._there)
            try:
                await self._receive(partial, gaps[0])
            except Setback as setback:
                await self._finish_steps(partial)
                failures = 1 if covered(self._there) > before else failures + 1
                if failures > self._settings.retries:
                    raise setback.error from setback
                chance = random.random()  # noqa: S311 - spreads clients, hides nothing
                pause = wait_s(failures, self._settings.retry_wait_s, chance)
                logger.info("%s: %s Trying again.", self._place, setback.error.message)
                await asyncio.sleep(pause if setback.wait_s is None else setback.wait_s)

    async def _receive(self, partial: Partial, span: Span) -> None:
        async with self._source.open(self._place, span, self._validator) as body:
            same = body.confirmed or (body.validator != "" and body.validator == self._validator)
            if body.start < span[0] and not same:
                raise _Changed
            self._validator = body.validator
            await self._store(partial, body, span)

    async def _store(self, partial: Partial, body: Body, span: Span) -> None:
        """Write what comes into its place in `span`. Raises Setback if it ends before."""
        at, begin, end = body.start, *span
        buffer, waiting, since = list[bytes](), 0, time.monotonic()
        try:
            async with aclosing(body.chunks()) as chunks:
                async for chunk in chunks:
                    # What is there already comes again where a server ignores ranges.
                    data = chunk[max(0, span[0] - at) : max(0, end - at)]
                    at += len(chunk)
                    if data:
                        buffer.append(data)
                        waiting += len(data)
                        self._note_progress(waiting)
                    if waiting >= WRITE_BYTES or time.monotonic() - since >= WRITE_S:
                        written, buffer = buffer, []
                        await self._write(partial, begin, written)
                        begin, waiting, since = begin + waiting, 0, time.monotonic()
                    if at >= end:
                        break
        finally:
            await self._write(partial, begin, buffer)
        if at < end:
            raise Setback(HubUnavailable(f"{self._place} ended {end - at} bytes early."))

    async def _write(self, partial: Partial, offset: int, chunks: list[bytes]) -> None:
        if not chunks:
            return
        write = asyncio.create_task(partial.write(offset, chunks))
        try:
            await settled(write)
        finally:
            # Also when this is cancelled: what was written counts.
            if write.exception() is None:
                self._there = add(self._there, (offset, offset + sum(map(len, chunks))))
                self._note_progress()
        write.result()
        fresh = covered(self._there) - self._stepped_bytes
        if fresh >= STEP_BYTES or time.monotonic() - self._stepped_at >= STEP_S:
            await self._settle_step()
            await self._check_floor()
            self._begin_step(partial)

    def _begin_step(self, partial: Partial) -> asyncio.Task[None]:
        """Sync and claim what is there now, while the next step is received."""
        self._stepped_bytes, self._stepped_at = covered(self._there), time.monotonic()
        self._step = asyncio.create_task(self._sync(partial, self._there))
        return self._step

    async def _sync(self, partial: Partial, there: Spans) -> None:
        await partial.sync()
        await self._claimed(there)

    async def _settle_step(self) -> None:
        """Wait for the sync that runs, and raise what it met."""
        if self._step is not None:
            step, self._step = self._step, None
            await settled(step)
            step.result()

    async def _finish_steps(self, partial: Partial) -> None:
        """Make all that was received durable, also when this is being cancelled."""
        await self._settle_step()
        if covered(self._there) > covered(self._claim.durable):
            self._begin_step(partial)
            await self._settle_step()


async def verified(path: Path, file: RepoFile, progress: Progress) -> bool:
    """Whether the content that lies at `path` already is what `file` should be.

    Raises StorageFailed when it cannot be read.
    """
    existing = await Partial.open(path, write=False)
    try:
        digest, at = digest_of(file), 0
        progress.received_bytes, progress.hashed_bytes = file.size_bytes, 0
        while at < file.size_bytes:
            at = progress.hashed_bytes = await existing.hash(digest, at, file.size_bytes)
        return digest.hexdigest() == file.blob
    finally:
        await existing.close()
