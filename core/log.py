"""The log: the last lines of the core and of every engine, kept in memory and read by number."""

from __future__ import annotations

import logging
import re
from collections import deque
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal

from core.privacy.secrets import hidden
from core.schema import LogLine

Level = Literal["debug", "info", "warning", "error"]

KEPT = 5000
"""Lines: some hours of a busy core; about a megabyte."""

LINE_LIMIT = 4000
"""Characters of one line; an engine can print a whole prompt."""

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


def now() -> str:
    """The time, as every record has it: ISO 8601 to the millisecond, UTC, ending in Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Log:
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


class LogHandler(logging.Handler):
    """Sends the core's own log records into a `Log`."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Add one record, its traceback included."""
        self._log.add("core", _LEVELS.get(record.levelname, "info"), self.format(record))


class LineFormatter(logging.Formatter):
    """One line for each record, without secrets; a traceback is as it is, but for those."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        record.message = clean(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """The traceback of one."""
        return hidden(super().formatException(ei))
