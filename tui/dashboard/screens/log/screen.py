"""Log screen: lines of the core and the engines, the audit trail, and all notices.

Log lines are not part of State: the screen requests new ones while it is in front.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

from modeldeck.core.errors import CoreUnreachable, DeckError
from modeldeck.tui.dashboard.commands import Command, bindings
from modeldeck.tui.dashboard.go_to.entries import GoToEntry, Rank
from modeldeck.tui.dashboard.screens.filtered_view import FilteredView
from modeldeck.tui.dashboard.screens.log import rows
from modeldeck.tui.dashboard.screens.log.rows import AUDIT, COLUMNS, LEVELS, Filters, LogEntry
from modeldeck.tui.dashboard.screens.log.whole_line import WholeLine
from modeldeck.tui.dashboard.theme import ThemeStyles, ink
from modeldeck.tui.dashboard.widgets.filter_input import FilterInput
from modeldeck.tui.dashboard.widgets.row_order import order_words
from modeldeck.tui.dashboard.widgets.scrolled_lines import COMMANDS as SCROLL_COMMANDS
from modeldeck.tui.dashboard.widgets.table import Table, TableLine
from modeldeck.tui.dashboard.widgets.table_commands import COLUMNS_KEY
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.filter_language import Language

ASK_S = 1.0
"""Seconds between two requests for new lines while the screen is in front."""
AT_ONCE = 1000
"""Most lines of one answer."""
KEPT = 5000
"""Lines kept here, as many as in the core (`modeldeck.core.storage.log.KEPT`)."""
AUDITED = 500
WIDE = 100
"""Width in cells from which on all sources, and clients in full, are shown."""

COMMANDS: tuple[Command, ...] = (
    Command(
        name="source",
        keys="s,right",
        label="source",
        help="Show the next source: all, the core, an engine, this dashboard, the audit trail.",
        action="source(1)",
        changes=False,
    ),
    Command(
        name="source_before",
        keys="S,left",
        label="source before",
        help="Show the source before.",
        action="source(-1)",
        footer=False,
        changes=False,
    ),
    Command(
        name="whole",
        keys="enter",
        label="whole line",
        help="Show the whole line below, or hide it.",
        changes=False,
    ),
    Command(
        name="filter",
        keys="slash",
        label="filter",
        help="Filter by words and tests, such as error, source:engine, -prefill.",
        changes=False,
    ),
    Command(
        name="level",
        keys="v",
        label="level",
        help="Show only lines of this level and above.",
        changes=False,
    ),
    Command(
        name="follow",
        keys="f",
        label="follow",
        help="Stay at the newest line, or do not.",
        changes=False,
    ),
    Command(
        name="copy",
        keys="y",
        label="copy",
        help="Copy the marked lines.",
        marks=True,
        changes=False,
    ),
    *SCROLL_COMMANDS,
)


class LogView(FilteredView):
    """Table of log lines, the newest at the bottom."""

    NAME = "log"
    TITLE = "Log"
    COMMANDS: ClassVar[tuple[Command, ...]] = COMMANDS
    BINDINGS = bindings(NAME, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    DEFAULT_CSS = """
    LogView #log-bar { height: 1; padding: 0 1; }
    LogView #log-bar Static { width: auto; }
    LogView > WholeLine { display: none; }
    LogView.whole > WholeLine { display: block; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: deque[LogEntry] = deque(maxlen=KEPT)
        self._audit: list[LogEntry] = []
        self._seen = 0
        self._started_at = ""
        self._filters = Filters()
        self._following = True
        self._barred: Text | None = None

    def compose(self) -> ComposeResult:
        """The filter bar, the lines, and the whole text of one line."""
        with Horizontal(id="log-bar"):
            yield Static(id="log-show")
            yield FilterInput(f"{self.key_of('filter')} filters", lambda: self.language)
            yield Static(id="filter-count")
        yield Table[LogEntry](COLUMNS, self._draw, self.dashboard.glyphs, sortable=rows.SORTABLE)
        yield WholeLine(self.key_of)

    def on_mount(self) -> None:
        """Request new lines regularly while the screen is in front; redraw for another theme."""
        self.set_interval(ASK_S, self._ask)
        self.dashboard.theme_changed_signal.subscribe(self, lambda _: self._show())

    @property
    def _table(self) -> Table[LogEntry]:
        return self.query_one(Table)

    @property
    def _inks(self) -> ThemeStyles:
        return ink(self.app.theme_variables)

    @property
    def _wide(self) -> bool:
        return self.size.width >= WIDE

    def _names(self) -> dict[str, str]:
        """The names of the models by the ids of their instances."""
        if self.state is None:
            return {}
        models = self.state.models
        return {
            i.id: models[i.model_id].name if i.model_id in models else i.unique
            for i in self.state.instances.values()
        }

    def _targets(self) -> dict[str, str]:
        """Names by the ids in the audit trail."""
        if self.state is None:
            return {}
        state = self.state
        return {
            **{model.id: model.unique for model in state.models.values()},
            **{instance.id: instance.unique for instance in state.instances.values()},
            **{job.id: job.unique for job in state.downloads.values()},
        }

    def _draw(self, entry: LogEntry) -> TableLine:
        return rows.drawn(entry, self._names(), self.dashboard.glyphs, self._inks)

    # Entries

    def _ask(self) -> None:
        if self.dashboard.current == self.NAME:
            self._fetch()

    @work(group="log", exclusive=True)
    async def _fetch(self) -> None:
        """Request new lines; the status bar shows it if the core is away."""
        try:
            client = self.dashboard.link.client
            new = await client.log(after=self._seen, limit=AT_ONCE)
            audit = await client.audit_trail(AUDITED) if self._filters.source == AUDIT else []
        except CoreUnreachable:
            pass
        except DeckError as error:
            self.dashboard.say(str(error), "error")
        else:
            self._lines.extend(map(rows.of_line, new))
            self._seen = max((line.seq for line in new), default=self._seen)
            self._audit = [rows.of_audit(entry, self._targets()) for entry in audit] or self._audit
        self._show()

    def watch_state(self) -> None:
        """Start again at the first line after the core was restarted."""
        if self.state is not None and self.state.host.started_at != self._started_at:
            if self._started_at:
                self._seen = 0
            self._started_at = self.state.host.started_at

    def _entries(self) -> list[LogEntry]:
        said = [rows.of_message(message) for message in self.dashboard.messages]
        return [*self._lines, *self._audit, *said]

    def _show(self) -> None:
        """Draw the entries that pass the filters."""
        if not self.query(Table):
            return  # an answer may arrive while the screen is removed
        table = self._table
        table.columns = rows.columns(self._filters.source, wide=self._wide)
        entries = self._entries()
        shown = rows.select(entries, self._filters, table.choice)
        found = [entry for entry in shown if self.passes(entry)]
        self.show_count(len(found), len(shown))
        keys = f"{self.key_of('source')} shows another source, {self.key_of('level')} other levels"
        nothing = f"No such lines: {keys}." if entries else "The log is empty."
        table.empty = "No match." if shown else nothing
        table.arrangement.mark(self.filter_words)
        table.show(found, key=lambda entry: entry.key)
        if self._following:
            table.action_last()
        self._bar()

    def rows_filtered(self) -> None:
        """Draw the entries that pass the filter."""
        self._show()

    def columns_chosen(self, table: Table[Any]) -> None:
        """Show the entries in the chosen order, from its first, or from the newest at the end."""
        self._following = rows.newest_last(table.choice)
        self._show()
        if not self._following:
            self._table.action_first()

    @property
    def language(self) -> Language[LogEntry]:
        """The tests of entries."""
        return rows.LANGUAGE

    def _bar(self) -> None:
        inks, names = self._inks, self._names()
        wide = self._wide and not self.has_class("filtered")  # the filter needs room
        here = self._filters.source
        line = Text()
        for source in self._sources() if wide else (here,):
            title = fmt.cut(rows.titled(source, names), 24)
            line.append(f"[{title}]" if source == here else f" {title} ", _emphasis(source == here))
        least = f"{self._filters.level}{' and above' if self._filters.level != 'error' else ''}"
        line.append("  level ", inks.muted).append(least)
        line.append("  follow ", inks.muted).append("on" if self._following else "off")
        line.append("  ")
        if line != self._barred:
            self._barred = line
            self.query_one("#log-show", Static).update(line)

    def _sources(self) -> tuple[str, ...]:
        engines = self.state.instances if self.state else ()
        return rows.sources(self._entries(), (f"engine:{id}" for id in engines))

    # Keys

    def activated(self) -> None:
        """Give the focus to the lines, and request new ones."""
        self._table.focus()
        self._fetch()

    def dismiss(self) -> bool:
        """Leave the filter, else the whole line; else clear the filter, the marks."""
        if not self.writing and self.has_class("whole"):
            self.remove_class("whole")
            return True
        return self.clear_filter() or self._table.unmark()

    def action_source(self, by: int) -> None:
        """Show the next or previous source."""
        choices = self._sources()
        at = choices.index(self._filters.source) if self._filters.source in choices else 0
        self._filters = replace(self._filters, source=choices[(at + by) % len(choices)])
        self._show()
        self._fetch()

    def action_level(self) -> None:
        """Show the next level."""
        at = LEVELS.index(self._filters.level)
        self._filters = replace(self._filters, level=LEVELS[(at + 1) % len(LEVELS)])
        self._show()

    def go_to(self, written: str) -> Sequence[GoToEntry]:
        """The errors."""
        entry = GoToEntry(
            kind="view",
            words="errors",
            sentence="Log, errors only",
            rank=Rank.EVERYWHERE,
            run=self._show_errors,
        )
        return (entry,)

    def _show_errors(self) -> None:
        """Come to the front with the errors of all sources."""
        self._filters = replace(self._filters, level="error", source=self._sources()[0])
        self.dashboard.action_show(self.NAME)
        self._show()

    def action_follow(self) -> None:
        """Stay at the newest line, or do not."""
        choice = self._table.choice
        if not rows.newest_last(choice):
            order = order_words(self._table.columns, choice, self.dashboard.glyphs, "")
            needed = f"time {self.dashboard.glyphs.rising}"
            words = f"Sorted by {order}: follow needs {needed}. {COLUMNS_KEY} chooses the order."
            self.dashboard.say(words, "refused")
            return
        self._following = not self._following
        self._show()

    def action_copy(self) -> None:
        """Copy the marked lines, or the one under the cursor."""
        marked = self._table.marked
        if not marked:
            self.dashboard.say("There is no line to copy.")
            return
        names = self._names()
        self.app.copy_to_clipboard(
            "\n".join(
                f"{e.clock} {e.level} {e.who or rows.titled(e.source, names)} {e.text}"
                for e in marked
            )
        )
        self.dashboard.say(f"{fmt.number(len(marked), 'line')} in the clipboard.", "done")

    def action_whole(self) -> None:
        """Show the whole line, or hide it."""
        self.toggle_class("whole")

    @on(Table.RowOpened)
    def _chosen(self) -> None:
        self.action_whole()

    @on(Table.Highlighted)
    def _highlighted(self, event: Table.Highlighted) -> None:
        """Show the whole line; a cursor that leaves the newest line turns `follow` off."""
        entry: LogEntry | None = event.item
        words = f"{entry.who}  {entry.text}".strip() if entry else ""
        text = fmt.clean(words.replace("\\n", "\n"), lines=True)
        lines = [Text(line) for line in text.split("\n")]
        self.query_one(WholeLine).put(lines, anew=True)
        items = self._table.items
        at_end = not items or (entry is items[-1] and rows.newest_last(self._table.choice))
        if at_end != self._following and self._table.has_focus:
            self._following = at_end
            self._bar()


def _emphasis(here: bool) -> str:
    return "bold" if here else ""
