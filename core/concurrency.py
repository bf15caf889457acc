"""Background work with one owner, and the few primitives for ending work cleanly.

An expected failure (`EXPECTED`) of background work is logged and recorded, and costs that work
alone. Anything else is a bug: it goes to the exception handler of the event loop, which the core
sets to log it and to show it in State. Neither ever ends the core.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial, wraps
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from modeldeck.core.errors import DeckError

logger = logging.getLogger(__name__)

T = TypeVar("T")

P = ParamSpec("P")

EXPECTED = (DeckError, OSError)
"""What may go wrong without a bug: the operating system, another program, a person."""

FAILURES_KEPT = 50
"""Failed tasks that are remembered."""

GRACE_S = 5.0
"""How long `BackgroundTasks.close` lets running work finish: a few writes to the database."""


def report_bug(name: str, error: BaseException) -> None:
    """Hand a bug to the exception handler of the running event loop."""
    asyncio.get_running_loop().call_exception_handler(
        {"message": f"{name} failed by a bug", "exception": error, "bug": True}
    )


def report_failure(name: str, error: BaseException) -> None:
    """Log an expected failure; hand a bug to the exception handler of the event loop."""
    if isinstance(error, EXPECTED):
        logger.warning("%s failed: %s", name, error)
    else:
        report_bug(name, error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Background work that failed."""

    name: str
    error: Exception


class BackgroundTasks:
    """Owns tasks that nobody waits for. A failing task never raises into its owner."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.failures: deque[Failure] = deque(maxlen=FAILURES_KEPT)
        """The newest failures, the oldest first."""

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run `work` in the background. Once closed, it is dropped; that raises nothing.

        Args:
            work: What to run.
            name: For the log, in words such as "counting the disk".
        """
        if self._closed:
            logger.debug("%s is not started: the core ends.", name)
            work.close()
            return
        task = asyncio.get_running_loop().create_task(self._supervise(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task that is cancelled before its first step never awaits `work`.
        task.add_done_callback(lambda _: work.close())

    async def _supervise(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception as error:
            self.failures.append(Failure(name=name, error=error))
            report_failure(name, error)

    def cancel(self) -> None:
        """Cancel everything that runs now; what is started later still runs."""
        for task in self._tasks:
            task.cancel()

    async def close(self, grace_s: float = GRACE_S) -> None:
        """Take no new work, let running work finish within `grace_s`, then cancel the rest."""
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        self.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@contextmanager
def contained(name: str) -> Iterator[None]:
    """Report a failure of the block and go on: for what only follows an action that is done."""
    try:
        yield
    except Exception as error:
        report_failure(name, error)


class Repeated:
    """Contains the failures of work that is done again and again.

    A failure that stays the same is reported once, so that a loop does not fill the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._reported = ""

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One turn: a failure inside is reported and does not leave the block."""
        try:
            yield
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if text != self._reported:
                self._reported = text
                report_failure(self._name, error)
        else:
            if self._reported:
                logger.info("%s works again.", self._name)
            self._reported = ""


LEAVE_S = 20.0
"""Seconds that a cancelled action may take to end; a sync of gigabytes takes some."""

THREADS = Detached(16, "blocking actions")
"""Threads of `in_thread`. No time limit: a slow disk may take minutes to sync a file."""


async def settled(work: asyncio.Future[T], within_s: float | None = None) -> None:
    """Wait until `work` has ended, even when cancelled: that is passed on afterwards.

    The outcome of `work` is left alone. Waits no longer than `within_s` seconds where that is
    given.
    """
    cancelled = False
    deadline = None if within_s is None else time.monotonic() + within_s
    while not work.done() and (deadline is None or time.monotonic() < deadline):
        try:
            left_s = None if deadline is None else deadline - time.monotonic()
            await asyncio.wait([work], timeout=left_s)
        except asyncio.CancelledError:
            cancelled = True
    if work.done() and not work.cancelled():
        work.exception()
    if cancelled:
        raise asyncio.CancelledError


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


def whole(verb: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Make a coroutine function run to its end, even when its caller is cancelled.

    A client that hangs up in the middle of a request must not leave the store and the memory of
    the core apart.
    """

    @wraps(verb)
    async def unbroken(*args: P.args, **kwargs: P.kwargs) -> T:
        work = asyncio.create_task(verb(*args, **kwargs))
        await settled(work)
        return work.result()

    return unbroken


@asynccontextmanager
async def end_of_input(gone: asyncio.Event) -> AsyncIterator[None]:
    """Set the event when nobody holds the other end of standard input any more."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )

    async def wait() -> None:
        with suppress(OSError):
            while await reader.read(4096):
                pass
        gone.set()

    task = asyncio.create_task(wait())
    try:
        yield
    finally:
        task.cancel()
        transport.close()


# Daemon threads for blocking work that may never return: bounded, with a time limit.
#
# The default executor of asyncio has few threads (CPUs + 4) and is joined when the interpreter
# ends: a Hub that never answers, or a file on a network mount that hangs, would first take all of
# its threads and then keep the program from ending. A thread that waits in the kernel cannot be
# stopped, so it is left behind: its caller gets an error when the time is up, and how many such
# threads there may be is limited.


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


class Detached:
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
        self._stuck: dict[_Job, str] = {}
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    @property
    def stuck(self) -> tuple[str, ...]:
        """Keys of the work that exceeded its time limit and has not ended."""
        with self._lock:
            return tuple(self._stuck.values())

    @property
    def exhausted(self) -> bool:
        """Whether so many threads are stuck that no work is taken."""
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
        job, answer = _Job(), loop.create_future()
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
            except BaseException as error:  # the caller's to handle, whatever it is
                tell = partial(answer.set_exception, error)
            self._ended(job)
            with suppress(RuntimeError):  # the loop has ended, and nobody asks any more
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

    def _expire(self, job: _Job, key: str, answer: asyncio.Future[T]) -> None:
        with self._lock:
            if job.ended:
                return  # its answer is on the way
            self._stuck[job] = key
            self._free_place()
        if not answer.done():
            answer.set_exception(TimeLimitExceeded())

    def _ended(self, job: _Job) -> None:
        with self._lock:
            job.ended = True
            if self._stuck.pop(job, None) is None:
                self._free_place()


class _Job:
    """One piece of work, as its thread and the loop know it."""

    def __init__(self) -> None:
        self.ended = False


# Garbage collections that do not hold up the loop.
#
# A full collection looks at every object there is, with the interpreter's lock held: some 40 ms
# once the modules of the Hub are there, in whichever thread it happens. Modules are never garbage,
# so what is alive after they were imported is put aside, and collections look at the rest alone.


def put_aside() -> None:
    """Leave all that is alive now out of further collections. Call it after many imports."""
    gc.freeze()


# Work that blocks for as long as a network does, in threads of its own.
#
# The loop's own pool has few threads, made for short work: connections that wait in them would hold
# up the rest of the core. Here there are as many as there is work.


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
