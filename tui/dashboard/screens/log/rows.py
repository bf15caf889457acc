"""The lines of the Log view as data: where each comes from, and which are shown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from rich.text import Text

from modeldeck.core.schema import AuditEntry, LogLine
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.columns import Column
from modeldeck.tui.dashboard.widgets.notice import NoticeMessage
from modeldeck.tui.dashboard.widgets.table import TableLine
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

Level = Literal["debug", "info", "warning", "error"]

LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")

ALL, CORE, DASHBOARD, AUDIT = "all", "core", "dashboard", "audit"
"""Sources that are always there; engines are named by `engine:` and the id of their instance."""

COLUMNS = (
    Column("at", "time", 8, rank=1),
    Column("sign", "", 1),
    Column("level", "level", 7, rank=3),
    Column("source", "source", 14, rank=2),
    Column("text", "what", 28, grow=True),
)


def columns(source: str, *, wide: bool) -> tuple[Column, ...]:
    """Those that tell something: of one source alone not its name, of the audit trail who acted."""
    if source == ALL:
        return COLUMNS
    if source == AUDIT:
        who = Column("who", "who", 26 if wide else 9, rank=2)
        return (*(c for c in COLUMNS if c.key in ("at", "sign")), who, COLUMNS[-1])
    return tuple(column for column in COLUMNS if column.key != "source")


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line, wherever it comes from."""

    key: str
    stamp: float
    """When, in seconds since the epoch."""
    level: Level
    source: str
    text: str
    who: str = ""
    """Who asked for it, in the audit trail."""

    @property
    def clock(self) -> str:
        """When, as a clock shows it here."""
        return datetime.fromtimestamp(self.stamp).strftime("%H:%M:%S")


def _stamp(at: str) -> float:
    """A time of the core's; 0 for one that is not understood."""
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        return 0.0


def of_line(line: LogLine) -> LogEntry:
    """A line of the core's log."""
    return LogEntry(f"log:{line.seq}", _stamp(line.at), line.level, line.source, line.text)


def of_message(message: NoticeMessage) -> LogEntry:
    """A notice of this dashboard."""
    level: Level = "error" if message.severity == "error" else "info"
    return LogEntry(f"said:{id(message)}", message.stamp, level, DASHBOARD, message.text)


def of_audit(entry: AuditEntry, names: Mapping[str, str]) -> LogEntry:
    """An action that changed something: who, what, and what came of it; ids by their names."""
    done = entry.outcome == "done"
    target = names.get(entry.target, entry.target)
    text = f"{entry.action} {target}" + ("" if done else f"  {entry.outcome}")
    key = f"audit:{entry.at}:{entry.origin}:{entry.action}:{entry.target}"
    return LogEntry(key, _stamp(entry.at), "info" if done else "warning", AUDIT, text, entry.origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a person wants to see."""

    source: str = ALL
    level: Level = "info"
    """This one and worse ones."""
    words: str = ""

    def take(self, entry: LogEntry) -> bool:
        """Whether the entry is shown."""
        if entry.source != self.source and (self.source != ALL or entry.source == AUDIT):
            return False
        if LEVELS.index(entry.level) < LEVELS.index(self.level):
            return False
        text = f"{entry.source} {entry.who} {entry.text}".casefold()
        return all(word in text for word in self.words.casefold().split())


def select(entries: Iterable[LogEntry], filters: Filters) -> list[LogEntry]:
    """The entries that are shown, oldest first. The audit trail is shown by itself only."""
    shown = {entry.key: entry for entry in entries if filters.take(entry)}
    return sorted(shown.values(), key=lambda entry: entry.stamp)


def sources(entries: Iterable[LogEntry], engines: Iterable[str]) -> tuple[str, ...]:
    """What can be chosen: the sources that are always there, and every engine that said a word."""
    spoke = {entry.source for entry in entries if entry.source.startswith("engine:")}
    return (ALL, CORE, *sorted(spoke | set(engines)), DASHBOARD, AUDIT)


def titled(source: str, names: Mapping[str, str]) -> str:
    """A source as a person reads it: an engine by the name of its model."""
    if not source.startswith("engine:"):
        return source
    instance = source.removeprefix("engine:")
    return fmt.clean(names.get(instance) or f"engine {instance[:8]}")


def _whos(origin: str) -> tuple[str, str]:
    """Who asked, whole, and in a word: `unix`, or an address without its port."""
    word = origin.partition(" ")[0]
    host, colon, port = word.rpartition(":")
    return origin, host if colon and port.isdecimal() else word


def drawn(
    entry: LogEntry, names: Mapping[str, str], glyphs: Glyphs, inks: ThemeStyles
) -> TableLine:
    """The row of an entry: its level by sign and word."""
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
