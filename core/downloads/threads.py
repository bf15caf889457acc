"""Work that blocks for as long as a network does, in threads of its own.

The loop's own pool has few threads, made for short work: connections that wait in them would hold
up the rest of the core. Here there are as many as there is work. A thread that has nothing to do is
kept for a while: to start one makes the loop wait until the new thread has run, which under load
takes long.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

from core.concurrency import settled

T = TypeVar("T")

IDLE_S = 5.0
"""A thread without work ends after this long: parts follow each other much sooner."""

_idle: list[_Worker] = []
_idle_lock = threading.Lock()


class _Worker:
    """A thread that does one thing after the other."""

    def __init__(self, first: Callable[[], None]) -> None:
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._work.put(first)
        threading.Thread(target=self._run, name="download", daemon=True).start()

    def do(self, work: Callable[[], None]) -> None:
        """Do this next. Only for who took the worker off the list of idle ones."""
        self._work.put(work)

    def _run(self) -> None:
        while True:
            try:
                work = self._work.get(timeout=IDLE_S)
            except Empty:
                with _idle_lock:
                    if self in _idle:
                        _idle.remove(self)
                        return
                continue  # taken just now: its work is about to come
            work()
            del work
            with _idle_lock:
                _idle.append(self)


def _give(work: Callable[[], None]) -> None:
    with _idle_lock:
        worker = _idle.pop() if _idle else None
    if worker is None:
        _Worker(work)
    else:
        worker.do(work)


async def in_own_thread(action: Callable[[], T], abort: Callable[[], None]) -> T:
    """Run a blocking action in a thread. `abort` must make it end soon, from outside.

    A cancellation aborts the action and waits for its end, so that nothing it uses is taken away
    under it.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def finish(set_outcome: Callable[[], None]) -> None:
        if not outcome.done():
            set_outcome()

    def body() -> None:
        try:
            result = action()
        except BaseException as error:  # handed on to whoever waits, whatever it is
            failure = error
            loop.call_soon_threadsafe(finish, lambda: outcome.set_exception(failure))
        else:
            loop.call_soon_threadsafe(finish, lambda: outcome.set_result(result))

    _give(body)
    try:
        return await asyncio.shield(outcome)
    except asyncio.CancelledError:
        abort()
        try:
            await settled(outcome)
        except asyncio.CancelledError:
            pass
        raise
