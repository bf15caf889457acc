"""Limits how many files of one job are downloaded at once: small ones in parallel, large ones not.

The time of a small file is mostly the wait for its answer. A large one fills the line with its own
connections; a second one beside it would only delay the hash of the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from modeldeck.core.concurrency import settled

SMALL_BYTES = 4 << 20
"""Largest size of a small file: one range."""

SMALL_AT_ONCE = 8
"""Small files at once."""


class ParallelTasks:
    """Task group for files. Leaving the block waits for all; the first failure cancels the rest."""

    def __init__(self) -> None:
        self._small = asyncio.Semaphore(SMALL_AT_ONCE)
        self._large = asyncio.Semaphore(1)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def start(self, size_bytes: int, action: Callable[[], Awaitable[None]]) -> None:
        """Start `action` for a file when its size class has a free slot.

        Raises the error of an earlier file.
        """
        slots = self._small if size_bytes <= SMALL_BYTES else self._large
        await self._wait_for_slot(slots.acquire())

        async def work() -> None:
            try:
                await action()
            finally:
                slots.release()

        self._tasks.add(asyncio.create_task(work()))

    async def _wait_for_slot(self, slot: Awaitable[bool]) -> None:
        """Wait for a slot, or raise the error of a file that fails meanwhile."""
        waiting = asyncio.ensure_future(slot)
        try:
            while not waiting.done():
                await asyncio.wait({waiting, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
                self._reap()
        finally:
            if not waiting.done():
                waiting.cancel()

    def _reap(self) -> None:
        """Remove finished tasks; raise their error."""
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.remove(task)
            task.result()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            while error is None and self._tasks:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                self._reap()
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await settled(asyncio.gather(*self._tasks, return_exceptions=True))
