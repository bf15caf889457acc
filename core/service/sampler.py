"""Periodic sampling: memory and disk while a client needs them, changes of the cache always.

A client needs them while it has a feed open, and for a few seconds after it requested the State.
Otherwise memory and disk are not sampled, so an idle core uses hardly any CPU.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from modeldeck.core.concurrency import Repeated
from modeldeck.core.errors import StorageTimeout
from modeldeck.core.hub_cache import scan
from modeldeck.core.memory import probe
from modeldeck.core.runtime.prefix_folder import saved_prefixes
from modeldeck.core.schema import Disk, Memory
from modeldeck.core.schema.state import DiskChanged, MemoryChanged
from modeldeck.core.service.feed import Feed
from modeldeck.core.storage.foreign_files import SCAN_S, in_file_thread

logger = logging.getLogger(__name__)

SAMPLE_S = 1.0
"""Seconds between samples of memory while a client needs them."""
SHORT_S = 5.0
"""Seconds between checks whether memory is short, also where no client needs samples."""
REQUESTED_S = 5.0
"""Seconds of sampling after a request for the State."""
CACHE_S = 3.0
"""Seconds between checks of the cache for changes by other tools: a few `stat` calls each."""
COUNT_S = 1.0
"""Seconds a sample waits for the disk usage; it takes milliseconds unless the disk hangs."""
DISK_S = 10.0
"""Seconds between measurements of the disk usage, while a client needs them."""


class ResourceSampler:
    """Keeps `State.memory`, `State.disk` and the memory of instances up to date."""

    def __init__(
        self,
        *,
        feed: Feed,
        roots: Sequence[Path],
        prefixes: Path,
        reserve_bytes: int,
        sample_engines: Callable[[], Awaitable[None]],
        memory_short: Callable[[int], None],
        look_at_cache: Callable[[], Awaitable[None]],
    ) -> None:
        """`memory_short` is called with the bytes that are missing to the reserve."""
        self._feed = feed
        self._roots = tuple(roots)
        self._prefixes = prefixes
        self._reserve_bytes = reserve_bytes
        self._sample_engines = sample_engines
        self._memory_short = memory_short
        self._look_at_cache = look_at_cache
        self._checked_at = float("-inf")
        self._sampling = Repeated("sampling memory and disk")
        self._requested_at = self._sampled_at = self._counted_at = float("-inf")
        self._counting: asyncio.Task[None] | None = None
        self._counts = self._newest_count = 0

    async def watch(self) -> None:
        """Sample periodically. Ends only by cancellation: errors are logged, and it goes on."""
        try:
            await self._watch()
        finally:
            if self._counting is not None:
                self._counting.cancel()

    async def _watch(self) -> None:
        cache_at = time.monotonic()
        checking = Repeated("checking the cache")
        while True:
            await asyncio.sleep(SAMPLE_S)
            clock = time.monotonic()
            if self._feed.watchers or clock - self._requested_at < REQUESTED_S:
                with self._sampling.turn():
                    await self.sample()
            elif self._holds_caches() and clock - self._checked_at >= SHORT_S:
                with self._sampling.turn():
                    self._check(await asyncio.to_thread(probe.system))
            if clock - cache_at >= CACHE_S:
                cache_at = clock
                with checking.turn():
                    await self._look_at_cache()

    def _holds_caches(self) -> bool:
        """Whether a loaded model holds conversations that no request needs."""
        return any(i.prefix_cache_bytes for i in self._feed.state.instances.values())

    def _check(self, memory: Memory) -> None:
        """Where less than the reserve is free, have prefix caches give it back.

        Not more often than it takes until what was given back is seen.
        """
        clock = time.monotonic()
        if memory.available_bytes is None or clock - self._checked_at < SHORT_S:
            return
        self._checked_at = clock
        missing = self._reserve_bytes - memory.available_bytes
        if missing > 0 and self._holds_caches():
            self._memory_short(missing)

    async def refresh(self) -> None:
        """Sample for a request of the State, unless that was done within the last second.

        What cannot be sampled stays as it was: the rest of the State is still useful.
        """
        self._requested_at = time.monotonic()
        if self._requested_at - self._sampled_at >= SAMPLE_S:
            with self._sampling.turn():
                await self.sample()

    async def sample(self) -> None:
        """Sample memory and engines now, and the disk when its interval is over."""
        self._sampled_at = time.monotonic()
        memory = await asyncio.to_thread(probe.system)
        await self._sample_engines()
        self._check(memory)
        if memory.available_bytes is not None:
            instances = self._feed.state.instances.values()
            # The system counts pages of mapped files as available, so they are not added again.
            held = sum(
                max(0, (i.measured_bytes or 0) - (i.mapped_bytes or 0))
                for i in instances
                if i.state.live
            )
            budget = max(0, memory.available_bytes + held - self._reserve_bytes)
            memory = replace(memory, budget_bytes=budget)
        limit = self._feed.state.settings.memory_budget_bytes
        if limit is not None:
            known = (limit, memory.budget_bytes)
            memory = replace(memory, budget_bytes=min(n for n in known if n is not None))
        if memory != self._feed.state.memory:
            self._feed.commit(MemoryChanged, memory=memory)
        if self._sampled_at - self._counted_at >= DISK_S:
            await self._start_disk_count()

    async def _start_disk_count(self) -> None:
        """Measure the disk usage; wait for it `COUNT_S` at most, since a disk may hang."""
        if self._counting is None or self._counting.done():
            self._counting = asyncio.create_task(self.count_disk())
        await asyncio.wait({self._counting}, timeout=COUNT_S)
        if self._counting.done():
            self._counting.result()

    async def count_disk(self) -> None:
        """Measure what the folders of models hold, and the free space of the first one's disk."""
        self._counted_at = time.monotonic()
        self._counts += 1
        number = self._counts
        first = self._roots[0]
        try:
            used = [
                await in_file_thread(partial(scan.usage, root), root, limit_s=SCAN_S)
                for root in self._roots
            ]
            free = await in_file_thread(partial(probe.free_disk, first), first)
            saved = await in_file_thread(partial(saved_prefixes, self._prefixes), self._prefixes)
        except StorageTimeout as error:
            logger.warning("The disk usage is not measured: %s", error)
            return
        if number < self._newest_count:
            return  # one that began later, and saw newer files, ended before
        self._newest_count = number
        disk = Disk(
            path=str(first),
            free_bytes=free,
            cache_bytes=sum(total for total, _ in used),
            partial_bytes=sum(partial for _, partial in used),
            prefix_cache_bytes=sum(saved.values()),
        )
        if disk != self._feed.state.disk:
            self._feed.commit(DiskChanged, disk=disk)
