"""A table that draws only visible rows, so that ten thousand rows are as cheap as one screen.

Rows are items of the caller; `draw` turns a visible one into a `TableLine`. `show` may be called on
every change of state: unchanged rows are not drawn again, which keeps updates small over SSH. The
cursor and the marks belong to keys, not positions, so they stay on their rows when others move.

    table = Table(columns, draw=lambda m: TableLine(m.id, {"name": m.name}), glyphs=glyphs)
    table.show(models, key=lambda model: model.id)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from modeldeck.tui.dashboard.commands import bindings
from modeldeck.tui.dashboard.widgets import cells, table_heads, table_strips
from modeldeck.tui.dashboard.widgets.cells import Cell
from modeldeck.tui.dashboard.widgets.column_choice import ColumnChoice
from modeldeck.tui.dashboard.widgets.columns import Column
from modeldeck.tui.dashboard.widgets.table_columns import GUTTER, TableColumns
from modeldeck.tui.dashboard.widgets.table_commands import COMMANDS, SCOPE
from modeldeck.tui.dashboard.widgets.table_rows import TableRows
from modeldeck.tui.text.format import Glyphs

__all__ = ["COMMANDS", "SCOPE", "Cell", "Column", "Table", "TableLine"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TableLine:
    """One row as it is drawn."""

    key: str
    cells: Mapping[str, Cell]
    """By the keys of the columns; of a rule the first holds its words, others the heads of the
    rows below it."""
    rule: bool = False
    """Whether it is a rule between rows, which the cursor skips."""
    dim: bool = False


@dataclass(frozen=True, slots=True)
class _PaintedLine:
    """State of a line of the screen when it was drawn last."""

    line: TableLine
    cursor: bool
    marked: bool
    focus: bool


class Table(ScrollView, Generic[T], can_focus=True):
    """Table with a head, a cursor and marks."""

    DEFAULT_CSS = """
    Table {
        height: 1fr; overflow-x: hidden; overflow-y: auto;
        scrollbar-size-vertical: 1; scrollbar-gutter: stable;
        & > .table--head { color: $text-muted; text-style: bold; }
        & > .table--rule { color: $text-muted; }
        & > .table--dim { color: $text-muted; }
        & > .table--sign { color: $accent; text-style: bold; }
        & > .table--match { color: $accent; text-style: underline; }
        & > .table--cursor { background: $primary 12%; }
        &:focus > .table--cursor { background: $primary 20%; text-style: bold; }
        &:ansi > .table--cursor { background: ansi_default; text-style: underline; }
        &:ansi:focus > .table--cursor { background: ansi_default; text-style: reverse; }
        &:nocolor > .table--cursor { text-style: underline; }
        &:nocolor:focus > .table--cursor { text-style: reverse; }
    }
    """
    COMPONENT_CLASSES = {  # noqa: RUF012 (Textual reads it from the class)
        "table--head",
        "table--rule",
        "table--dim",
        "table--sign",
        "table--match",
        "table--cursor",
    }
    COMMANDS = COMMANDS
    BINDINGS = bindings(SCOPE, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    @dataclass
    class Highlighted(Message):
        """The cursor is on another row; `item` is None where there are no rows."""

        table: Table[Any]
        item: Any

        @property
        def control(self) -> Table[Any]:
            """The table, for `@on`."""
            return self.table

    @dataclass
    class RowOpened(Message):
        """A row was opened: by `enter`, or by a double click."""

        table: Table[Any]
        item: Any

        @property
        def control(self) -> Table[Any]:
            """The table, for `@on`."""
            return self.table

    @dataclass
    class ColumnsChosen(Message):
        """The person chose other columns, or another order: the table shows the columns already."""

        table: Table[Any]

    def __init__(
        self,
        columns: Sequence[Column],
        draw: Callable[[T], TableLine],
        glyphs: Glyphs,
        empty: str = "",
        *,
        head: bool = True,
        sortable: Collection[str] = (),
        id: str | None = None,
    ) -> None:
        """Create an empty table.

        Args:
            columns: The columns, in order of position.
            draw: Makes the line of a row.
            glyphs: Signs of the terminal.
            empty: Shown without rows; may have several lines.
            head: Whether the first line holds the titles.
            sortable: Keys of the columns that the owner can sort rows by.
            id: Of the widget.
        """
        super().__init__(id=id)
        self.arrangement = TableColumns(
            columns,
            sortable,
            changed=self.lay_out_columns,
            chosen=self._columns_chosen,
        )
        """Its columns: which are shown and where."""
        self.ask_columns: Callable[[Table[Any]], Awaitable[None]] | None = None
        """Asks which columns to show; None where they cannot be chosen."""
        self._draw = draw
        self._glyphs = glyphs
        self._empty = empty
        self._head = 1 if head else 0
        self._rows: TableRows[T] = TableRows(lambda item: draw(item).rule)
        self._painted: dict[int, _PaintedLine | None] = {}
        self.marks: set[str] = set()
        """Keys of the marked rows, including those not shown at the moment."""

    # Columns

    @property
    def columns(self) -> Sequence[Column]:
        """All columns, in order of position: also those that are not shown."""
        return self.arrangement.all

    @columns.setter
    def columns(self, columns: Sequence[Column]) -> None:
        self.arrangement.all = columns

    @property
    def choice(self) -> ColumnChoice:
        """Which columns are hidden or wanted, and which one the rows are sorted by."""
        return self.arrangement.choice

    @choice.setter
    def choice(self, choice: ColumnChoice) -> None:
        self.arrangement.choice = choice

    @property
    def edge(self) -> int:
        """Width in cells beside the columns: sign of the cursor, and scroll bar."""
        return GUTTER + 1

    def _columns_chosen(self) -> None:
        self.post_message(self.ColumnsChosen(self))

    async def action_columns(self) -> None:
        """Let the person choose the columns; the keys that follow belong to that question."""
        if self.ask_columns is not None:
            await self.ask_columns(self)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key applies: columns of some tables cannot be chosen."""
        return self.ask_columns is not None if action == "columns" else True

    def lay_out_columns(self) -> None:
        """Place the columns in the present width, and draw everything."""
        # Without the cell of the scroll bar, whether there is one now or not.
        self.arrangement.place(self.scrollable_content_region.width - GUTTER)
        self._painted.clear()
        self.refresh()

    # Rows

    def show(self, items: Sequence[T], key: Callable[[T], str]) -> None:
        """Show these items; draws only visible rows that changed."""
        if self._rows.replace(items, key):
            self._follow()
        self.redraw()

    def redraw(self) -> None:
        """Draw visible rows again where the result of `draw` changed."""
        for y in range(self._head, self.size.height):
            self._refresh_changes(y)

    @property
    def items(self) -> Sequence[T]:
        """The items shown."""
        return self._rows.items

    @property
    def cursor_key(self) -> str | None:
        """The key of the row under the cursor; None where there are no rows."""
        return self._rows.cursor_key

    @property
    def cursor_item(self) -> T | None:
        """The item under the cursor; None where there are no rows."""
        return self._rows.under_cursor

    @property
    def marked(self) -> list[T]:
        """The marked items that are shown, or the one under the cursor where none is marked."""
        marked, here = self._rows.of(self.marks), self.cursor_item
        return marked if marked or here is None else [here]

    @property
    def empty(self) -> str:
        """Text shown without rows; may have several lines."""
        return self._empty

    @empty.setter
    def empty(self, words: str) -> None:
        if words != self._empty:
            self._empty = words
            if not self._rows:
                self.refresh()

    def _follow(self) -> None:
        """After the rows changed, keep the cursor on its key, and that key on its line."""
        before, line = self._rows.at, self._rows.at - self.scroll_offset.y
        self.virtual_size = Size(0, len(self._rows) + self._head)
        now = self._rows.place(self.cursor_key)
        if now is not None:
            self._rows.at = now
            if now != before:
                self.scroll_to(y=now - line, animate=False)
            return
        self._put(self._rows.selectable(min(before, len(self._rows) - 1), 1))
        self._reveal()

    # The cursor

    def move_to(self, key: str) -> bool:
        """Put the cursor on a row; False where there is no such row."""
        place = self._rows.place(key)
        if place is None:
            return False
        self._put(place)
        self._reveal()
        return True

    def _put(self, place: int | None) -> None:
        """Put the cursor on a row, draw the change, and post Highlighted."""
        before = self._rows.at
        if self._rows.put(place):
            for changed in (before, self._rows.at):
                self._refresh_changes(self._line_of(changed))
            self.post_message(self.Highlighted(self, self.cursor_item))

    def _reveal(self) -> None:
        """Scroll as far as needed to show the cursor."""
        height = max(1, self.size.height - self._head)
        top = self._rows.top_to_show_cursor(self.scroll_offset.y, height)
        if top is not None:
            self.scroll_to(y=top, animate=False)

    def _go(self, place: int, by: int) -> None:
        self._put(self._rows.selectable(place, by))
        self._reveal()

    def action_move(self, by: int) -> None:
        """Move the cursor by a number of rows."""
        self._go(self._rows.at + by, by)

    def action_turn(self, pages: float) -> None:
        """Move the cursor by a number of pages."""
        self.action_move(round(pages * max(2, self.size.height - self._head)))

    def action_first(self) -> None:
        """Go to the first row."""
        self._go(0, 1)

    def action_last(self) -> None:
        """Go to the last row."""
        self._go(len(self._rows) - 1, -1)

    def action_mark(self) -> None:
        """Mark the row under the cursor or take its mark away, and go on to the next."""
        if self.cursor_key is not None:
            self.marks ^= {self.cursor_key}
            self._refresh_changes(self._line_of(self._rows.at))
            self.action_move(1)

    def unmark(self, keys: Collection[str] | None = None) -> bool:
        """Take these marks away, or all of them; False where there were none."""
        gone = self.marks & set(keys) if keys is not None else set(self.marks)
        self.marks -= gone
        self.redraw()
        return bool(gone)

    def action_choose(self) -> None:
        """Open the row under the cursor."""
        if self.cursor_key is not None:
            self.post_message(self.RowOpened(self, self.cursor_item))

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor, a second one opens the row; one on a title sorts by it."""
        at = event.get_content_offset_capture(self)
        if at.y < self._head:
            key = table_heads.clicked(self.arrangement.slots, at.x - GUTTER)
            self.arrangement.sort_by(key)
            return
        place = self._place_of(at.y)
        if place is None or self._rows.is_rule(place):
            return
        self._put(place)
        if event.chain == 2:
            self.action_choose()

    # Drawing

    def _line_of(self, place: int) -> int:
        """The line of the screen on which a row stands; it may be out of sight."""
        return place - self.scroll_offset.y + self._head

    def _place_of(self, y: int) -> int | None:
        """The row on a line of the screen."""
        place = y - self._head + self.scroll_offset.y
        return place if self._head <= y and 0 <= place < len(self._rows) else None

    def _now(self, y: int) -> _PaintedLine | None:
        """What belongs on a line of the screen; None where there is no row."""
        place = self._place_of(y)
        if place is None:
            return None
        key = self._rows.key(place)
        cursor = key == self.cursor_key
        line = self._draw(self._rows.items[place])
        return _PaintedLine(line, cursor, key in self.marks, cursor and self.has_focus)

    def _refresh_changes(self, y: int) -> None:
        """Have a line drawn again that is no more what was drawn."""
        if not self._head <= y < self.size.height or y not in self._painted:
            return  # it has yet to be drawn for the first time
        if self._painted[y] != self._now(y):
            self.refresh(Region(0, y, self.size.width, 1))

    def on_resize(self) -> None:
        """Lay out the columns again, and keep the cursor visible."""
        self.lay_out_columns()
        self._reveal()

    def on_focus(self) -> None:
        """Draw the cursor as focused."""
        self._refresh_changes(self._line_of(self._rows.at))

    def on_blur(self) -> None:
        """Draw the cursor as not focused."""
        self._refresh_changes(self._line_of(self._rows.at))

    def render_line(self, y: int) -> Strip:
        """One line of the screen: the head, a row, or an empty line."""
        width, slots = self.size.width, self.arrangement.slots
        style = self.rich_style
        if y < self._head:
            style += self.get_component_rich_style("table--head")
            text = table_heads.head(slots, self.choice, GUTTER, width, self._glyphs)
            return cells.strip([Segment(text, style)], width, style)
        now = self._painted[y] = self._now(y)
        if now is None:
            return self._nothing(y, width, style)
        if now.line.rule:
            return self._rule(now.line, width, style)
        if now.line.dim:
            style += self.get_component_rich_style("table--dim")
        if now.cursor:
            style += self.get_component_rich_style("table--cursor")
        sign = self._glyphs.mark if now.marked else self._glyphs.cursor if now.focus else " "
        sign_style = style + self.get_component_rich_style("table--sign", partial=True)
        sign_style = style if style.reverse else sign_style
        return table_strips.row(
            now.line.cells,
            slots,
            sign,
            width,
            style=style,
            sign_style=sign_style,
            marked=self.arrangement.words,
            match_style=self.get_component_rich_style("table--match", partial=True),
        )

    def _nothing(self, y: int, width: int, ground: Style) -> Strip:
        """A line below the last row; without rows, a line of the `empty` text."""
        words = self._empty.split("\n") if not self._rows else []
        at = y - self._head - 1
        if not 0 <= at < len(words):
            return Strip.blank(width, ground)
        style = ground + self.get_component_rich_style("table--dim")
        return table_strips.words(words[at], width, style)

    def _rule(self, line: TableLine, width: int, ground: Style) -> Strip:
        """A rule between rows."""
        return table_strips.rule(
            line.cells,
            self.arrangement.slots,
            self.scrollable_content_region.width,
            width,
            self._glyphs,
            style=ground + self.get_component_rich_style("table--rule"),
            head_style=ground + self.get_component_rich_style("table--head"),
        )
