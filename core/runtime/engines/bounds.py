"""Bounds of time and memory for what an engine does before the first token of an answer.

A chat template is a foreign program, a hostile JSON schema or grammar may take for ever, and a
tokenizer may be slow on unusual text. Each of them runs under a limit of processor time, and stops
when the request is cancelled meanwhile.

Python code is interrupted by a signal (SIGPROF), whose handler raises an exception. A timer sends
it by processor time of this process, so that a busy machine fails no request. Native code is not
interrupted by it; another thread of the child checks `Bounds.current`, and has the core replace the
process when native code runs far beyond its limit.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from modeldeck.core.errors import Cancelled, InvalidRequest

TICK_S = 0.25
"""Processor seconds between two checks of the bounds and the cancel flag."""
HARD_FACTOR, HARD_EXTRA_S = 2.0, 5.0
"""Native code may take its bound times this factor, and this many seconds more."""
HARD_WALL_FACTOR = 20.0
"""The same factor for seconds on the clock, for work that waits and uses no processor."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Bounded:
    """A piece of work with a bound."""

    what: str
    """Its name, as the beginning of a sentence."""
    cpu_s: float
    """Processor seconds that it may take."""
    memory_bytes: int | None = None
    """Bytes that the process may grow meanwhile; None for no bound."""
    number: int = 0
    """The command that it belongs to."""
    started_cpu_s: float = field(default_factory=time.process_time)
    started_bytes: int = 0

    @property
    def used_s(self) -> float:
        """Processor seconds that this process has used since the work began."""
        return time.process_time() - self.started_cpu_s

    @property
    def too_long(self) -> InvalidRequest:
        """The error for work that took more time than it may."""
        return InvalidRequest(f"{self.what} took over {self.cpu_s:g} s.", "Make it simpler.")

    @property
    def too_large(self) -> InvalidRequest:
        """The error for work that took more memory than it may."""
        mib = (self.memory_bytes or 0) >> 20
        return InvalidRequest(f"{self.what} took over {mib} MiB of memory.", "Make it simpler.")

    def is_stuck(self, clock_s: float) -> bool:
        """Whether it has gone on far beyond its bound, `clock_s` seconds after it began."""
        return (
            self.used_s > HARD_FACTOR * self.cpu_s + HARD_EXTRA_S
            or clock_s > HARD_WALL_FACTOR * self.cpu_s + HARD_EXTRA_S
        )


class Interrupted(BaseException):
    """Raised by the signal's handler in bounded work.

    Not an `Exception`, so that no `except Exception` in foreign code swallows it.
    """

    def __init__(self, error: InvalidRequest | Cancelled) -> None:
        super().__init__(str(error))
        self.error = error


class Bounds:
    """Runs one piece of work at a time within its bounds."""

    def __init__(self, is_cancelled: Callable[[], bool]) -> None:
        """`is_cancelled` returns whether the request was cancelled."""
        self._is_cancelled = is_cancelled
        self.current: Bounded | None = None
        """The work that runs within bounds now. Other threads may read it."""
        self.number = 0
        """The command that the next work belongs to."""
        self._as_before: tuple[int, int] | None = None
        """The limit of address space to restore (getrlimit(2))."""

    def run(
        self, what: str, work: Callable[[], T], *, cpu_s: float, memory_bytes: int | None = None
    ) -> T:
        """Run work within bounds and return its result.

        Signals reach only the main thread: on another one this does what `watch` does.

        Args:
            what: Name of the work, as the beginning of a sentence.
            work: The work. It may be interrupted anywhere.
            cpu_s: Processor seconds that it may take.
            memory_bytes: Bytes that the process may grow. On Linux the system enforces it.

        Raises:
            InvalidRequest: It took too much time or memory.
            Cancelled: The request was cancelled meanwhile.
        """
        if threading.current_thread() is not threading.main_thread():
            return self.watch(what, work, cpu_s=cpu_s)
        before = 0 if memory_bytes is None else _resident_bytes()
        bounded = Bounded(what, cpu_s, memory_bytes, self.number, started_bytes=before)
        try:
            self._arm(bounded)
            try:
                return work()
            finally:
                self.current = None  # from here on the handler does nothing
        except Interrupted as interrupted:
            raise interrupted.error from None
        except MemoryError:
            if memory_bytes is None:
                raise
            raise bounded.too_large from None
        finally:
            self._disarm()

    def watch(self, what: str, work: Callable[[], T], *, cpu_s: float) -> T:
        """Run work without interrupting it, for the child's heartbeat thread to watch."""
        self.current = Bounded(what, cpu_s, number=self.number)
        try:
            return work()
        finally:
            self.current = None

    def _arm(self, bounded: Bounded) -> None:
        signal.signal(signal.SIGPROF, self._on_tick)
        self.current = bounded
        if bounded.memory_bytes is not None:
            self._as_before = _limit_growth(bounded.memory_bytes)
        signal.setitimer(signal.ITIMER_PROF, TICK_S, TICK_S)

    def _disarm(self) -> None:
        # The handler stays installed: a pending signal would end the process without it.
        self.current = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        if self._as_before is not None:
            _set_limit(self._as_before)
            self._as_before = None

    def _on_tick(self, _number: int, _frame: object) -> None:
        bounded = self.current
        if bounded is None:
            return
        if self._is_cancelled():
            raise Interrupted(Cancelled("The request was cancelled before it was answered."))
        if bounded.used_s > bounded.cpu_s:
            raise Interrupted(bounded.too_long)
        if bounded.memory_bytes is not None:
            grown = _resident_bytes() - bounded.started_bytes
            if grown > bounded.memory_bytes:
                raise Interrupted(bounded.too_large)


def _resident_bytes() -> int:
    """Resident bytes of this process; 0 where not known."""
    if sys.platform == "linux":
        try:
            with open("/proc/self/statm", "rb") as file:
                return int(file.read().split()[1]) * _page_bytes()
        except (OSError, ValueError, IndexError):
            return 0
    import psutil  # needed outside Linux only

    return int(psutil.Process().memory_info().rss)


def _page_bytes() -> int:
    import resource

    return resource.getpagesize()


def _limit_growth(size: int) -> tuple[int, int] | None:
    """Limit the growth of this process to `size` bytes; return the limit before, to restore.

    Linux only: macOS accepts the limit and does not enforce it.
    """
    if sys.platform != "linux":
        return None
    import resource

    try:
        with open("/proc/self/statm", "rb") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
        soft, hard = before = resource.getrlimit(resource.RLIMIT_AS)
        wanted = taken + size
        if soft != resource.RLIM_INFINITY:
            wanted = min(wanted, soft)
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    except (OSError, ValueError, IndexError):
        return None  # the timer still checks the memory
    return before


def _set_limit(limit: tuple[int, int]) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, limit)
