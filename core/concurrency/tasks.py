"""Background tasks with one owner, and how their failures are reported.

An expected failure (`EXPECTED`) of background work is logged and recorded, and costs that work
alone. Anything else is a bug: it goes to the exception handler of the event loop, which the core
sets to log it and to show it in State. Neither ever ends the core.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from modeldeck.core.errors import DeckError

logger = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")

EXPECTED = (DeckError, OSError)
"""Exceptions that are no bug: caused by the operating system, another program or a person."""

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


def unexpected(error: BaseException) -> DeckError:
    """The error to show for a bug; the bug is logged with its traceback."""
    logger.error("unexpected failure", exc_info=error)
    return DeckError(
        f"This is a bug in modeldeck: {type(error).__name__}: {error}.",
        "This is a bug of modeldeck. It may be worth trying again.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Background work that failed."""

    name: str
    error: Exception


class BackgroundTasks:
    """Owns background tasks. A failing task never raises into its owner."""

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


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at once and return their results in order.

    When one fails or the caller is cancelled, the others are cancelled. `asyncio.gather` would not
    wait for them: here all have ended when this returns or raises.
    """
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await settled(asyncio.gather(*tasks, return_exceptions=True))


async def each_to_its_end(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at once and return their results in order; a failure cancels no other.

    Raises the first failure, in the order of `works`, once all have ended. Where the caller is
    cancelled, all are, and have ended as well.
    """
    results: list[T] = []
    for outcome in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results


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
