"""The list of chats, grouped by day, with its search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.strip import Strip
from textual.widgets import Input

from modeldeck.core.schema import Model
from modeldeck.tui.chats.search import ChatFilter, folded
from modeldeck.tui.chats.store import ChatSummary
from modeldeck.tui.dashboard.commands import KeyOf
from modeldeck.tui.dashboard.theme import ThemeStyles, ink
from modeldeck.tui.dashboard.widgets import cells
from modeldeck.tui.dashboard.widgets.bars import TextLines
from modeldeck.tui.dashboard.widgets.table import Column, Table, TableLine
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs
from modeldeck.tui.text.model_names import name_of_unique

WIDTH = 27
"""Cells of the list beside a chat, its border included."""
BESIDE_FROM = 110
"""Width in cells from which the list stands beside the chat."""
PRIVATE = "private"
"""Key of the row of a private chat."""

COLUMNS = (
    Column("title", "", 24, grow=True, most=72),
    Column("model", "", 24, rank=2),
    Column("changed", "", 10, right=True, rank=1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRow:
    """A row of the list: a day, a chat, or the private chat that is open."""

    key: str
    heading: str = ""
    summary: ChatSummary | None = None


def list_rows(summaries: Sequence[ChatSummary], *, private: bool, today: date) -> list[ChatRow]:
    """Rows with a heading for each day; the chat that changed last first."""
    rows: list[ChatRow] = []
    if private:
        rows = [ChatRow(key="today", heading="today"), ChatRow(key=PRIVATE)]
    for summary in summaries:
        day = day_of(summary.changed, today)
        if all(row.heading != day for row in rows):
            rows.append(ChatRow(key=day, heading=day))
        rows.append(ChatRow(key=str(summary.number), summary=summary))
    return rows


def day_of(moment: float, today: date) -> str:
    """`today`, `yesterday` or `older`."""
    day = datetime.fromtimestamp(moment).date()
    if day >= today:
        return "today"
    return "yesterday" if day == today - timedelta(days=1) else "older"


def moment_of(summary: ChatSummary, today: date) -> str:
    """Time of the last change: of the day where the heading names that, else the date."""
    moment = datetime.fromtimestamp(summary.changed)
    is_named = day_of(summary.changed, today) != "older"
    return moment.strftime("%H:%M" if is_named else "%Y-%m-%d")


def marked_title(summary: ChatSummary, words: Sequence[str], style: Style, room: int) -> Text:
    """The title with the words that were searched for marked, and the number of branches."""
    title = fmt.clean(summary.title) or "untitled"
    lead = f"{summary.branches} " if summary.branches > 1 else ""
    text = Text(fmt.cut(lead + title, room))
    low = folded(text.plain)
    for word in words if len(low) == len(text.plain) else ():
        at = low.find(word)
        if at >= 0:
            text.stylize(style + Style(underline=True), at, at + len(word))
    return text


class ChatTable(Table[ChatRow]):
    """Table whose rules are plain headings."""

    def _rule(self, line: TableLine, width: int, ground: Style) -> Strip:
        style = ground + self.get_component_rich_style("table--rule")
        words = str(next(iter(line.cells.values()), ""))
        return cells.strip([Segment(fmt.pad(words, width), style)], width, style)


class ChatList(Vertical):
    """Title with the search, the chats, and their keys."""

    DEFAULT_CSS = """
    ChatList { width: 27; height: 1fr; border-right: solid $text-muted; display: none; }
    ChatList.whole { width: 1fr; border-right: none; }
    ChatList TextLines { height: 1; padding: 0 0 0 1; }
    ChatList Input { height: 1; border: none; padding: 0; margin: 0 1 1 1; display: none; }
    ChatList.finding Input { display: block; }
    ChatList #list-gap { height: 1; }
    ChatList.finding #list-gap { display: none; }
    ChatList ChatTable { padding: 0 0 0 1; }
    """

    @dataclass
    class ChatPicked(Message):
        """A chat was opened; None is the private one."""

        summary: ChatSummary | None

    @dataclass
    class Searched(Message):
        """Other words are searched for."""

        words: str

    class Left(Message):
        """The search was ended with `esc` or `enter`."""

    def __init__(self, glyphs: Glyphs, key_of: KeyOf) -> None:
        super().__init__(id="chats")
        self._glyphs = glyphs
        self._key_of = key_of
        self._summaries: Sequence[ChatSummary] = ()
        self._models: Mapping[str, Model] = {}
        self._private = False
        self.words = ""
        """Words that are searched for."""
        self._error = ""

    def compose(self) -> ComposeResult:
        """Title, search, chats and keys."""
        yield TextLines(id="list-title")
        yield TextLines(id="list-gap")
        yield Input(compact=True, placeholder="words, model:name")
        yield ChatTable(COLUMNS, self._line, self._glyphs, head=False)
        yield TextLines(id="list-keys")
        yield TextLines(id="list-foot")

    @property
    def table(self) -> ChatTable:
        """The chats."""
        return self.query_one(ChatTable)

    @property
    def finding(self) -> bool:
        """Whether the search has the focus."""
        return self.query_one(Input).has_focus

    @property
    def current(self) -> ChatSummary | None:
        """The chat under the cursor."""
        row = self.table.cursor_item
        return row.summary if row else None

    @property
    def marked(self) -> list[ChatSummary]:
        """The marked chats, or the one under the cursor."""
        return [row.summary for row in self.table.marked if row.summary]

    # What is shown

    def show(
        self,
        summaries: Sequence[ChatSummary],
        models: Mapping[str, Model],
        *,
        private: bool,
        open_now: int | None,
        error: str,
    ) -> None:
        """Show these chats; the cursor goes to the one that is open when that changes."""
        self._models = models
        self._summaries, self._private, self._error = summaries, private, error
        self.table.empty = error or ("No match." if self.words else "No chats yet.")
        rows = list_rows(summaries, private=private, today=datetime.now().date())
        self.table.show(rows, key=lambda row: row.key)
        if not self.table.has_focus:
            self.table.move_to(PRIVATE if private else str(open_now))
        self._draw()

    def _line(self, row: ChatRow) -> TableLine:
        if row.heading:
            return TableLine(row.key, {"title": row.heading}, rule=True)
        if row.summary is None:
            return TableLine(row.key, {"title": f"{self._glyphs.private} private, not kept"})
        today = datetime.now().date()
        words = ChatFilter.of(self.words).marked
        room = max(4, min(72, self.table.size.width - 3))
        title = marked_title(row.summary, words, self._inks.accent, room)
        model = fmt.clean(name_of_unique(row.summary.model, self._models))
        return TableLine(
            row.key,
            {"title": title, "model": model, "changed": moment_of(row.summary, today)},
        )

    @property
    def _inks(self) -> ThemeStyles:
        return ink(self.app.theme_variables)

    def _draw(self) -> None:
        inks, width = self._inks, max(8, self.size.width - 1)
        count = len(self._summaries) + self._private
        left = f"Chats {count}" if not self.words else f"{fmt.number(count, 'match', 'matches')}"
        find = f"{self._key_of('chat.find')} finds"
        gap = " " * max(1, width - 2 - len(left) - len(find))
        title = Text.assemble((left, "bold"), gap, (find, inks.muted), no_wrap=True)
        self.query_one("#list-title", TextLines).show([title])
        keys = [(f"chat.{name}", name) for name in ("new", "rename", "delete")]
        line = "  ".join(f"{self._key_of(full)} {word}" for full, word in keys)
        self.query_one("#list-keys", TextLines).show([Text(fmt.cut(line, width), inks.muted)])

    def on_mount(self) -> None:
        """Draw in the colours of another theme."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self.on_resize())

    def on_resize(self) -> None:
        """Draw the lines around the chats for this width."""
        self._draw()
        self.table.redraw()

    # Search

    def find(self) -> None:
        """Give the focus to the search."""
        self.add_class("finding")
        self.query_one(Input).focus()

    def end_search(self, *, keep: bool) -> None:
        """Leave the search; its words stay with `keep`."""
        field = self.query_one(Input)
        if not keep:
            field.value = ""
        self.set_class(bool(field.value), "finding")
        self.table.focus()

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        if event.value.strip() != self.words:
            self.words = event.value.strip()
            self.post_message(self.Searched(self.words))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.end_search(keep=True)

    def on_key(self, event: events.Key) -> None:
        """Go from the search to the first match."""
        if event.key == "down" and self.finding:
            event.stop()
            self.end_search(keep=True)

    @on(Table.RowOpened)
    def _opened(self, event: Table.RowOpened) -> None:
        event.stop()
        if isinstance(event.item, ChatRow) and not event.item.heading:
            self.post_message(self.ChatPicked(event.item.summary))
