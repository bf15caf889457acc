"""The log: the last lines of the core and of every engine, kept in memory and read by number."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from itertools import islice
from typing import Any, Literal

from modeldeck.core.concurrency import EXPECTED
from modeldeck.core.privacy.secrets import hidden
from modeldeck.core.schema import LogLine
from modeldeck.core.schema.clock import now

Level = Literal["debug", "info", "warning", "error"]

KEPT = 5000
"""Lines: some hours of a busy core; about a megabyte."""

logger = logging.getLogger(__name__)

NOTICES = 10
"""Notices of what went wrong that are kept, besides those of the configuration."""

NOTICE_LIMIT = 500
"""Characters of one notice."""

LINE_LIMIT = 4000
"""Characters of one line; an engine can print a whole prompt."""

REPEAT_S = 60.0
"""Seconds within which the same message is told once."""

MOST_REPEATED = 1000
"""Messages that are remembered for that; further ones are told each time."""

_LEVELS: dict[str, Level] = {
    "DEBUG": "debug",
    "INFO": "info",
    "WARNING": "warning",
    "ERROR": "error",
    "CRITICAL": "error",
}

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
"""What could begin a line, or speak to a terminal; a tab does neither."""


def clean(text: str) -> str:
    """A line as it may be kept: on one line, and without secrets."""
    flat = _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)
    return hidden(flat)


class LogBuffer:
    """A ring of lines with rising numbers; the oldest fall out."""

    def __init__(self) -> None:
        self._lines: deque[LogLine] = deque(maxlen=KEPT)
        self._seq = 0

    def add(self, source: str, level: Level, text: str) -> None:
        """Add one line. Line breaks inside it are made visible, so that a line stays a line."""
        self._seq += 1
        flat = clean(text.rstrip("\n")[: 2 * LINE_LIMIT])[:LINE_LIMIT]
        self._lines.append(LogLine(seq=self._seq, at=now(), level=level, source=source, text=flat))

    def lines(
        self, after: int = 0, limit: int = 500, source: str | None = None
    ) -> tuple[LogLine, ...]:
        """The newest lines with a number above `after`, at most `limit`, oldest first."""
        found = (
            line
            for line in reversed(self._lines)
            if line.seq > after and (source is None or line.source == source)
        )
        return tuple(reversed(list(islice(found, limit))))


class Repeats:
    """Which messages were told within the last minute, so that they are counted, not repeated."""

    def __init__(self, window_s: float = REPEAT_S) -> None:
        self._window_s = window_s
        self._told: dict[Hashable, tuple[float, int]] = {}

    def is_new(self, key: Hashable, clock: float) -> bool:
        """Whether to tell this message now; if not, it is counted."""
        if (found := self._told.get(key)) is not None:
            self._told[key] = found[0], found[1] + 1
            return False
        if len(self._told) < MOST_REPEATED:
            self._told[key] = clock, 0
        return True

    def ended(self, clock: float) -> list[tuple[Hashable, int]]:
        """Messages whose minute is over, and how often each was not told; forgets them."""
        over = [key for key, (since, _) in self._told.items() if clock - since >= self._window_s]
        counts = [(key, self._told.pop(key)[1]) for key in over]
        return [(key, count) for key, count in counts if count]


class CountingHandler(logging.Handler):
    """Hands records on to another handler; the same message again within a minute is counted.

    The count is told when the minute is over and anything is logged, or when this is closed.
    """

    def __init__(
        self, target: logging.Handler, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(target.level)
        self._target = target
        self._clock = clock
        self._repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one record on, or count it."""
        now = self._clock()
        self._tell(self._repeats.ended(now))
        error = repr(record.exc_info[1]) if record.exc_info else ""
        key = (record.name, record.levelno, record.getMessage(), error)
        if self._repeats.is_new(key, now):
            self._target.handle(record)

    def close(self) -> None:
        """Tell what was counted and not told yet."""
        self._tell(self._repeats.ended(float("inf")))
        super().close()

    def _tell(self, counts: list[tuple[Hashable, int]]) -> None:
        for key, count in counts:
            assert isinstance(key, tuple)
            name, level, message, _ = key
            text = "%s (%d more times)"
            record = logging.LogRecord(name, level, __file__, 0, text, (message, count), None)
            self._target.handle(record)


class LogHandler(logging.Handler):
    """Sends the core's own log records into a `LogBuffer`."""

    def __init__(self, log: LogBuffer) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Add one record, its traceback included."""
        self._log.add("core", _LEVELS.get(record.levelname, "info"), self.format(record))


class Notices:
    """What a person should know: faults of the configuration, and what went wrong since the start.

    Those of the configuration stay; of the others the newest are kept.
    """

    def __init__(self, fixed: Sequence[str]) -> None:
        self._fixed = tuple(fixed)
        self._later: deque[str] = deque(maxlen=NOTICES)
        self.on_change: Callable[[tuple[str, ...]], None] = lambda _: None
        """Called with all of them when one was added."""

    @property
    def all(self) -> tuple[str, ...]:
        """The fixed ones, then the later ones, the oldest first."""
        return (*self._fixed, *self._later)

    def add(self, text: str) -> None:
        """Add one, unless it is there already."""
        text = clean(text)[:NOTICE_LIMIT]
        if text not in self._later:
            self._later.append(text)
            self.on_change(self.all)

    def unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The exception handler of an event loop: log what no task handled, and show bugs."""
        error = context.get("exception")
        is_bug = "bug" in context or not isinstance(error, EXPECTED)
        if not isinstance(error, Exception) or not is_bug:
            loop.default_exception_handler(context)
            return
        what = context["message"]
        logger.error("%s", what, exc_info=error)
        self.add(
            f"{what}: {type(error).__name__}: {error}."
            " modeldeck goes on without it; please report this with the log."
        )


class LineFormatter(logging.Formatter):
    """One line for each record, without secrets; a traceback is as it is, but for those."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        record.message = clean(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """The traceback of one."""
        return hidden(super().formatException(ei))
