"""The log: the last lines of the core and of every engine, kept in memory and read by number."""

from __future__ import annotations

import logging
from collections import deque
from datetime import UTC, datetime
from itertools import islice
from typing import Literal

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
        flat = text.rstrip("\n").replace("\r", "\\r").replace("\n", "\\n")[:LINE_LIMIT]
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
