"""Threads for work that may take long and cannot be stopped: the program ends without them.

Threads of an executor are waited for when the interpreter ends, so that a Hub which never answers
would hold up a core that was told to stop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

T = TypeVar("T")


class Detached:
    """So many threads at once; further work waits for one of them."""

    def __init__(self, limit: int, name: str) -> None:
        self._room = asyncio.Semaphore(limit)
        self._name = name

    async def run(self, work: Callable[[], T]) -> T:
        """What the work returns or raises. A place is free again when the thread has ended."""
        await self._room.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(tell: Callable[[], None]) -> None:
            self._room.release()
            if not answer.done():
                tell()

        def attempt() -> None:
            tell: Callable[[], None]
            try:
                tell = partial(answer.set_result, work())
            except Exception as error:  # it is the asker's
                tell = partial(answer.set_exception, error)
            with suppress(RuntimeError):  # the loop has ended, and nobody asks any more
                loop.call_soon_threadsafe(settle, tell)

        threading.Thread(target=attempt, name=self._name, daemon=True).start()
        return await answer
