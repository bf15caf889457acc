"""The log: the last lines of the core and of every engine, kept in memory and read by number."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal

from core.concurrency import EXPECTED
from core.schema import TOKEN_PREFIX, TOKEN_SECRET, LogLine

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

_LEVELS: dict[str, Level] = {
    "DEBUG": "debug",
    "INFO": "info",
    "WARNING": "warning",
    "ERROR": "error",
    "CRITICAL": "error",
}


_SECRETS = re.compile(rf"(?i:(?<=bearer )[^\s\"',]+)|\bhf_[A-Za-z0-9]{{8,}}|{TOKEN_SECRET.pattern}")
"""What must never be written down, wherever it came from: tokens of ours and of the Hub."""

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
"""What could begin a line, or speak to a terminal; a tab does neither."""


def clean(text: str) -> str:
    """A line as it may be kept: on one line, and without secrets."""
    flat = _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)
    return _SECRETS.sub(_hidden, flat)


def _hidden(found: re.Match[str]) -> str:
    known = next((p for p in (TOKEN_PREFIX, "hf_") if found[0].startswith(p)), "")
    return f"{known}..."


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
        return _SECRETS.sub(_hidden, super().formatException(ei))
