"""Entries of the Log screen: sources, filters and rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from rich.text import Text

from modeldeck.core.schema import AuditEntry, LogLine
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.column_choice import STANDARD, ColumnChoice
from modeldeck.tui.dashboard.widgets.columns import Column
from modeldeck.tui.dashboard.widgets.notice import NoticeMessage, Severity
from modeldeck.tui.dashboard.widgets.row_order import Values, ordered
from modeldeck.tui.dashboard.widgets.table import TableLine
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.filter_language import Language
from modeldeck.tui.text.format import Glyphs

Level = Literal["debug", "info", "warning", "error"]

LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")

ALL, CORE, DASHBOARD, AUDIT = "all", "core", "dashboard", "audit"
"""Sources that always exist; an engine is `engine:` and the id of its instance."""

COLUMNS = (
    Column("at", "time", 8, rank=1),
    Column("sign", "", 1),
    Column("level", "level", 7, rank=3),
    Column("source", "source", 14, rank=2),
    Column("text", "what", 28, grow=True),
)


def columns(source: str, *, wide: bool) -> tuple[Column, ...]:
    """Columns for a source; the source's name only for all, the client only in the audit trail."""
    if source == ALL:
        return COLUMNS
    if source == AUDIT:
        who = Column("who", "who", 26 if wide else 9, rank=2)
        return (*(c for c in COLUMNS if c.key in ("at", "sign")), who, COLUMNS[-1])
    return tuple(column for column in COLUMNS if column.key != "source")


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of the Log screen, of any source."""

    key: str
    stamp: float
    """Time in seconds since the epoch."""
    level: Level
    source: str
    text: str
    who: str = ""
    """The user or client of an action in the audit trail."""

    @property
    def clock(self) -> str:
        """Local time as HH:MM:SS."""
        return datetime.fromtimestamp(self.stamp).strftime("%H:%M:%S")


def _stamp(at: str) -> float:
    """Parse a time of the core; 0 if it is malformed."""
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        return 0.0


def of_line(line: LogLine) -> LogEntry:
    """Entry of a line of the core's log."""
    return LogEntry(f"log:{line.seq}", _stamp(line.at), line.level, line.source, line.text)


def of_message(message: NoticeMessage) -> LogEntry:
    """Entry of a notice of this dashboard."""
    levels: dict[Severity, Level] = {"error": "error", "refused": "warning"}
    level = levels.get(message.severity, "info")
    text = message.details or message.text
    return LogEntry(f"said:{id(message)}", message.stamp, level, DASHBOARD, text)


def of_audit(entry: AuditEntry, names: Mapping[str, str]) -> LogEntry:
    """Entry of the audit trail: user, action and result, with names in place of ids."""
    done = entry.outcome == "done"
    target = names.get(entry.target, entry.target)
    text = f"{entry.action} {target}" + ("" if done else f"  {entry.outcome}")
    key = f"audit:{entry.at}:{entry.origin}:{entry.action}:{entry.target}"
    return LogEntry(key, _stamp(entry.at), "info" if done else "warning", AUDIT, text, entry.origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Filters that the user chose."""

    source: str = ALL
    level: Level = "info"
    """The least severe level shown."""

    def take(self, entry: LogEntry) -> bool:
        """Whether an entry passes the filters."""
        if entry.source != self.source and (self.source != ALL or entry.source == AUDIT):
            return False
        return LEVELS.index(entry.level) >= LEVELS.index(self.level)


def select(
    entries: Iterable[LogEntry], filters: Filters, choice: ColumnChoice = STANDARD
) -> list[LogEntry]:
    """Entries of the chosen kind, oldest first without another order.

    The audit trail is only shown on its own.
    """
    shown = {entry.key: entry for entry in entries if filters.take(entry)}
    return ordered(sorted(shown.values(), key=lambda entry: entry.stamp), choice, VALUES)


def newest_last(choice: ColumnChoice) -> bool:
    """Whether the newest entry is the last row, which `follow` stays at."""
    return choice.sort not in VALUES or (choice.sort == "at" and not choice.reverse)


VALUES: Values[LogEntry] = {
    "at": lambda entry: entry.stamp,
    # The worst first.
    "level": lambda entry: -LEVELS.index(entry.level),
    "source": lambda entry: entry.source,
    "who": lambda entry: entry.who,
    "text": lambda entry: entry.text,
}
"""What a column sorts by."""
SORTABLE = tuple(VALUES)

LANGUAGE: Language[LogEntry] = Language(
    text=lambda entry: f"{entry.source} {entry.who} {entry.text}".casefold(),
    flags={
        "error": lambda entry: entry.level == "error",
        "warning": lambda entry: entry.level == "warning",
    },
    fields={
        "level": lambda entry: entry.level,
        "source": lambda entry: entry.source,
        "who": lambda entry: entry.who,
    },
    offers=("error", "warning", "source:", "who:", "level:"),
)
"""The filter: `error source:engine -heartbeat`, and words."""


def sources(entries: Iterable[LogEntry], engines: Iterable[str]) -> tuple[str, ...]:
    """Sources to choose from: the constant ones, and each engine with lines."""
    spoke = {entry.source for entry in entries if entry.source.startswith("engine:")}
    return (ALL, CORE, *sorted(spoke | set(engines)), DASHBOARD, AUDIT)


def titled(source: str, names: Mapping[str, str]) -> str:
    """Display name of a source; an engine has the name of its model."""
    if not source.startswith("engine:"):
        return source
    instance = source.removeprefix("engine:")
    return fmt.clean(names.get(instance) or f"engine {instance[:8]}")


def _whos(origin: str) -> tuple[str, str]:
    """The client in full, and short: `unix`, or an address without its port."""
    word = origin.partition(" ")[0]
    host, colon, port = word.rpartition(":")
    return origin, host if colon and port.isdecimal() else word


def drawn(
    entry: LogEntry, names: Mapping[str, str], glyphs: Glyphs, inks: ThemeStyles
) -> TableLine:
    """The row of an entry."""
    sign, style = {
        "error": (glyphs.failed, inks.error),
        "warning": (glyphs.warning, inks.warning),
    }.get(entry.level, (glyphs.done, inks.success) if entry.source == AUDIT else (" ", inks.muted))
    return TableLine(
        entry.key,
        {
            "at": Text(entry.clock, inks.muted),
            "sign": Text(sign, style),
            "level": Text(entry.level, style),
            "source": Text(titled(entry.source, names), inks.muted),
            "who": tuple(Text(who, inks.muted) for who in _whos(fmt.clean(entry.who))),
            "text": Text(fmt.clean(entry.text), style if entry.level == "error" else ""),
        },
    )
