"""Blocking work in daemon threads: bounded, and with a time limit where it may never return.

The default executor of asyncio has few threads (CPUs + 4) and is joined when the interpreter ends:
a Hub that never answers, or a file on a network mount that hangs, would first take all of its
threads and then keep the program from ending. A thread that waits in the kernel cannot be stopped,
so it is left behind: its caller gets an error when the time is up, and how many such threads there
may be is limited.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeVar

from modeldeck.core.concurrency.tasks import settled

logger = logging.getLogger(__name__)

T = TypeVar("T")

IDLE_S = 5.0
"""Seconds after which a thread without work ends: work tends to come in series."""

_idle: list[_WorkerThread] = []

_idle_lock = threading.Lock()


class _WorkerThread:
    """A daemon thread that does one thing after the other."""

    def __init__(self, first: Callable[[], None]) -> None:
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._work.put(first)
        threading.Thread(target=self._run, name="detached", daemon=True).start()

    def do(self, work: Callable[[], None]) -> None:
        """Do this next. Only for the caller that took the worker off the list of idle ones."""
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


def start_detached(work: Callable[[], None]) -> None:
    """Run `work`, which must not raise, in a daemon thread: an idle one, else a new one.

    Starting a thread makes the loop wait until it runs, so idle ones are kept for a while.
    """
    with _idle_lock:
        worker = _idle.pop() if _idle else None
    if worker is None:
        _WorkerThread(work)
    else:
        worker.do(work)


class TimeLimitExceeded(Exception):
    """Work did not end within its time limit; its thread is left behind."""


class TooManyStuck(Exception):
    """Work was not begun: too many earlier threads never came back, or one for the same `key`."""


class DaemonThreadPool:
    """A bounded pool of daemon threads.

    At most `limit` threads work at once; further work waits. Work that exceeds its time limit
    fails with `TimeLimitExceeded`, and its thread counts as stuck until it ends after all: it
    takes no place of those that work, but at most `most_stuck` of them are allowed. Beyond that,
    work is refused with `TooManyStuck`.

    A pool belongs to the process, not to one event loop: threads that hang outlive loops.
    """

    def __init__(
        self, limit: int, name: str, *, limit_s: float | None = None, most_stuck: int = 32
    ) -> None:
        """`limit_s`: time limit of one piece of work in seconds; None for none."""
        self.name = name
        self._limit = limit
        self._limit_s = limit_s
        self._most_stuck = most_stuck
        self._lock = threading.Lock()
        self._working = 0
        self._stuck: dict[_Work, str] = {}
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    @property
    def stuck(self) -> tuple[str, ...]:
        """Keys of the work that exceeded its time limit and has not ended."""
        with self._lock:
            return tuple(self._stuck.values())

    @property
    def exhausted(self) -> bool:
        """Whether too many threads are stuck to accept work."""
        return len(self._stuck) >= self._most_stuck

    async def run(self, work: Callable[[], T], *, key: str = "", limit_s: float | None = None) -> T:
        """What `work` returns or raises.

        Args:
            work: Called in a thread.
            key: Names what may hang, such as a path. While work with the same key is stuck, no
                other thread is spent on it.
            limit_s: Time limit in seconds instead of the pool's own.

        Raises TimeLimitExceeded and TooManyStuck. A caller that is cancelled leaves the thread
        behind; its place is free again when the thread has ended.
        """
        limit_s = self._limit_s if limit_s is None else limit_s
        await self._take_place(key, limit_s)
        loop = asyncio.get_running_loop()
        job, answer = _Work(), loop.create_future()
        timer = (
            None if limit_s is None else loop.call_later(limit_s, self._expire, job, key, answer)
        )

        def settle(tell: Callable[[], None]) -> None:
            if timer is not None:
                timer.cancel()
            if not answer.done():
                tell()

        def attempt() -> None:
            tell: Callable[[], None]
            try:
                tell = partial(answer.set_result, work())
            except BaseException as error:  # raised again in the caller
                tell = partial(answer.set_exception, error)
            self._ended(job)
            with suppress(RuntimeError):  # the loop has ended: there is no caller left
                loop.call_soon_threadsafe(settle, tell)

        start_detached(attempt)
        found: T = await answer
        return found

    async def _take_place(self, key: str, limit_s: float | None) -> None:
        with self._lock:
            self._refuse_stuck(key)
            if self._working < self._limit:
                self._working += 1
                return
            loop = asyncio.get_running_loop()
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, turn))
        try:
            async with asyncio.timeout(limit_s):
                await turn
        except BaseException as error:
            self._give_up_turn(turn)
            if isinstance(error, TimeoutError):
                raise TimeLimitExceeded from None
            raise
        with self._lock:
            try:
                self._refuse_stuck(key)
            except TooManyStuck:
                self._free_place()
                raise

    def _refuse_stuck(self, key: str) -> None:
        if self.exhausted or (key and key in self._stuck.values()):
            raise TooManyStuck

    def _give_up_turn(self, turn: asyncio.Future[None]) -> None:
        """Leave the queue; a place that was given in the same moment goes to the next."""
        with self._lock:
            if turn.done() and not turn.cancelled():
                self._free_place()
            else:
                self._waiting = deque(entry for entry in self._waiting if entry[1] is not turn)

    def _free_place(self) -> None:
        """Give a place to the first that waits. The lock is held."""
        while self._waiting:
            loop, turn = self._waiting.popleft()
            try:
                loop.call_soon_threadsafe(self._hand_over, turn)
            except RuntimeError:
                continue  # that loop has ended
            return
        self._working -= 1

    def _hand_over(self, turn: asyncio.Future[None]) -> None:
        if turn.done():  # its caller gave up between the two threads
            with self._lock:
                self._free_place()
        else:
            turn.set_result(None)

    def _expire(self, job: _Work, key: str, answer: asyncio.Future[T]) -> None:
        with self._lock:
            if job.ended:
                return  # its answer is on the way
            self._stuck[job] = key
            self._free_place()
        if not answer.done():
            answer.set_exception(TimeLimitExceeded())

    def _ended(self, job: _Work) -> None:
        with self._lock:
            job.ended = True
            if self._stuck.pop(job, None) is None:
                self._free_place()


class _Work:
    """One piece of work, as its thread and the loop know it."""

    def __init__(self) -> None:
        self.ended = False


LEAVE_S = 20.0
"""Seconds that a cancelled action may take to end; a sync of gigabytes takes some."""

THREADS = DaemonThreadPool(16, "blocking actions")
"""Threads of `in_thread`. No time limit: a slow disk may take minutes to sync a file."""


async def in_thread(action: Callable[[], T], undo: Callable[[T], None] | None = None) -> T:
    """Run a blocking action in a thread. A cancellation waits until the thread has ended.

    So files and locks are never taken away from under a thread that still works on them; `undo`
    gives back what the action got when nothing is left to take it. Only a thread that a disk or
    network mount holds for more than `LEAVE_S` is left behind: the core has to end without it.
    """
    work = asyncio.ensure_future(THREADS.run(action))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        with suppress(asyncio.CancelledError):
            await settled(work, LEAVE_S)
        if not work.done():
            logger.warning("A file is left to a thread that does not come back.")
            raise
        if undo is not None and not work.cancelled() and work.exception() is None:
            undo(work.result())
        raise


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
        except BaseException as error:  # raised again where the result is awaited
            failure = error
            loop.call_soon_threadsafe(finish, lambda: outcome.set_exception(failure))
        else:
            loop.call_soon_threadsafe(finish, lambda: outcome.set_result(result))

    start_detached(body)
    try:
        return await asyncio.shield(outcome)
    except asyncio.CancelledError:
        abort()
        try:
            await settled(outcome)
        except asyncio.CancelledError:
            pass
        raise
