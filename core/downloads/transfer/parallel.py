"""Several files of one job at a time: small ones side by side, large ones one after the other.

A small file is mostly waiting for its answer. A large one fills the line with its own connections,
and two of them would only follow each other's hashes less closely.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from modeldeck.core.concurrency import settled

SMALL_BYTES = 4 << 20
"""A file of one part."""

SMALL_AT_ONCE = 8


class ParallelTasks:
    """Work on files. Leaving the block waits for it; the first failure ends all of it."""

    def __init__(self) -> None:
        self._small = asyncio.Semaphore(SMALL_AT_ONCE)
        self._large = asyncio.Semaphore(1)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def start(self, size_bytes: int, action: Callable[[], Awaitable[None]]) -> None:
        """Begin work on a file once there is a place for one of its size.

        Raises what went wrong with an earlier one.
        """
        places = self._small if size_bytes <= SMALL_BYTES else self._large
        await self._or_failure(places.acquire())

        async def work() -> None:
            try:
                await action()
            finally:
                places.release()

        self._tasks.add(asyncio.create_task(work()))

    async def _or_failure(self, place: Awaitable[bool]) -> None:
        """Wait for a place, unless something fails meanwhile."""
        waiting = asyncio.ensure_future(place)
        try:
            while not waiting.done():
                await asyncio.wait({waiting, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
                self._reap()
        finally:
            if not waiting.done():
                waiting.cancel()

    def _reap(self) -> None:
        """Forget what has ended; raise what it met."""
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
