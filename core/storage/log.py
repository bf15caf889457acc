"""The log in memory: the last lines of the core and of all engines, with handlers and notices."""

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
"""Number of lines: some hours of a busy core, about a megabyte."""

logger = logging.getLogger(__name__)

NOTICES = 10
"""Number of notices about bugs and unreadable records, besides those of the configuration."""

NOTICE_LIMIT = 500
"""Maximum characters of a notice."""

LINE_LIMIT = 4000
"""Maximum characters of a line; an engine can print a whole prompt."""

REPEAT_S = 60.0
"""Seconds within which the same message is logged once."""

MOST_REPEATED = 1000
"""Number of messages tracked for that; further ones are logged each time."""

_LEVELS: dict[str, Level] = {
    "DEBUG": "debug",
    "INFO": "info",
    "WARNING": "warning",
    "ERROR": "error",
    "CRITICAL": "error",
}

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
"""Line breaks and terminal control characters; a tab is harmless."""


def clean(text: str) -> str:
    """Return a text on one line, without control characters and secrets."""
    flat = _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)
    return hidden(flat)


class LogBuffer:
    """Ring buffer of numbered lines; the oldest are dropped."""

    def __init__(self) -> None:
        self._lines: deque[LogLine] = deque(maxlen=KEPT)
        self._seq = 0

    def add(self, source: str, level: Level, text: str) -> None:
        """Add one line; line breaks inside it are escaped."""
        self._seq += 1
        flat = clean(text.rstrip("\n")[: 2 * LINE_LIMIT])[:LINE_LIMIT]
        self._lines.append(LogLine(seq=self._seq, at=now(), level=level, source=source, text=flat))

    def lines(
        self, after: int = 0, limit: int = 500, source: str | None = None
    ) -> tuple[LogLine, ...]:
        """Return the newest lines with a number above `after`, at most `limit`, oldest first."""
        found = (
            line
            for line in reversed(self._lines)
            if line.seq > after and (source is None or line.source == source)
        )
        return tuple(reversed(list(islice(found, limit))))


class Repeats:
    """Counts messages that repeat within a minute, so that they are not logged again."""

    def __init__(self, window_s: float = REPEAT_S) -> None:
        self._window_s = window_s
        self._logged: dict[Hashable, tuple[float, int]] = {}

    def is_new(self, key: Hashable, clock: float) -> bool:
        """Whether to log this message now; if not, it is counted."""
        if (found := self._logged.get(key)) is not None:
            self._logged[key] = found[0], found[1] + 1
            return False
        if len(self._logged) < MOST_REPEATED:
            self._logged[key] = clock, 0
        return True

    def ended(self, clock: float) -> list[tuple[Hashable, int]]:
        """Remove and return messages whose minute is over, with the number of repeats."""
        over = [key for key, (since, _) in self._logged.items() if clock - since >= self._window_s]
        counts = [(key, self._logged.pop(key)[1]) for key in over]
        return [(key, count) for key, count in counts if count]


class CountingHandler(logging.Handler):
    """Passes records to another handler; repeats of a message within a minute are counted.

    The count is logged with the first record after the minute, or when this handler is closed.
    """

    def __init__(
        self, target: logging.Handler, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(target.level)
        self._target = target
        self._clock = clock
        self._repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on, or count it."""
        now = self._clock()
        self._log_counts(self._repeats.ended(now))
        error = repr(record.exc_info[1]) if record.exc_info else ""
        key = (record.name, record.levelno, record.getMessage(), error)
        if self._repeats.is_new(key, now):
            self._target.handle(record)

    def close(self) -> None:
        """Log the counts that are not logged yet."""
        self._log_counts(self._repeats.ended(float("inf")))
        super().close()

    def _log_counts(self, counts: list[tuple[Hashable, int]]) -> None:
        for key, count in counts:
            assert isinstance(key, tuple)
            name, level, message, _ = key
            text = "%s (%d more time)" if count == 1 else "%s (%d more times)"
            record = logging.LogRecord(name, level, __file__, 0, text, (message, count), None)
            self._target.handle(record)


class LogHandler(logging.Handler):
    """Adds the core's own log records to a `LogBuffer`."""

    def __init__(self, log: LogBuffer) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Add a record with its traceback."""
        self._log.add("core", _LEVELS.get(record.levelname, "info"), self.format(record))


class Notices:
    """Notices for users: faults of the configuration, and problems since the start.

    Those of the configuration stay; of the others the newest are kept.
    """

    def __init__(self, fixed: Sequence[str]) -> None:
        self._fixed = tuple(fixed)
        self._later: deque[str] = deque(maxlen=NOTICES)
        self.on_change: Callable[[tuple[str, ...]], None] = lambda _: None
        """Called with all notices after one was added."""

    @property
    def all(self) -> tuple[str, ...]:
        """The notices of the configuration, then the others, oldest first."""
        return (*self._fixed, *self._later)

    def add(self, text: str) -> None:
        """Add a notice, unless it is there already."""
        text = clean(text)[:NOTICE_LIMIT]
        if text not in self._later:
            self._later.append(text)
            self.on_change(self.all)

    def unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Exception handler of an event loop: log unhandled exceptions, and add notices of bugs."""
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
    """Formats each record as one line without secrets; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        record.message = clean(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return the traceback of a record."""
        return hidden(super().formatException(ei))
