"""A table that draws only visible rows, so that ten thousand rows are as cheap as one screen.

Rows are items of the caller; `draw` turns a visible one into a `TableLine`. `show` may be called on
every change of state: unchanged rows are not drawn again, which keeps updates small over SSH. The
cursor and the marks belong to keys, not positions, so they stay on their rows when others move.

    table = Table(columns, draw=lambda m: TableLine(m.id, {"name": m.name}), glyphs=glyphs)
    table.show(models, key=lambda model: model.id)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from modeldeck.tui.dashboard.commands import bindings
from modeldeck.tui.dashboard.widgets import cells
from modeldeck.tui.dashboard.widgets.cells import Cell
from modeldeck.tui.dashboard.widgets.columns import Column, ColumnSlot, arrange
from modeldeck.tui.dashboard.widgets.table_commands import COMMANDS, SCOPE
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

__all__ = ["COMMANDS", "SCOPE", "Cell", "Column", "Table", "TableLine"]

T = TypeVar("T")

GUTTER = 2
"""Width in cells of the left edge: sign of the cursor or of a mark, and a space."""


@dataclass(frozen=True, slots=True)
class TableLine:
    """One row as it is drawn."""

    key: str
    cells: Mapping[str, Cell]
    """By the keys of the columns; the only cell of a rule holds its words."""
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

    def __init__(
        self,
        columns: Sequence[Column],
        draw: Callable[[T], TableLine],
        glyphs: Glyphs,
        empty: str = "",
        *,
        head: bool = True,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self._columns = tuple(columns)
        self._slots: tuple[ColumnSlot, ...] = ()
        self._draw = draw
        self._glyphs = glyphs
        self._empty = empty
        self._head = 1 if head else 0
        self._items: Sequence[T] = ()
        self._keys: list[str] = []
        self._places: dict[str, int] = {}
        self._at = 0
        self._painted: dict[int, _PaintedLine | None] = {}
        self.cursor_key: str | None = None
        """The key of the row under the cursor; None where there are no rows."""
        self.marks: set[str] = set()
        """Keys of the marked rows, including those not shown at the moment."""

    # Rows

    def show(self, items: Sequence[T], key: Callable[[T], str]) -> None:
        """Show these items; draws only visible rows that changed."""
        keys = [key(item) for item in items]
        self._items = items
        if keys != self._keys:
            self._keys = keys
            self._places = {key: place for place, key in enumerate(keys)}
            self._follow()
        self.redraw()

    def redraw(self) -> None:
        """Draw visible rows again where the result of `draw` changed."""
        for y in range(self._head, self.size.height):
            self._refresh_changes(y)

    @property
    def items(self) -> Sequence[T]:
        """The items shown."""
        return self._items

    @property
    def cursor_item(self) -> T | None:
        """The item under the cursor; None where there are no rows."""
        return self._items[self._at] if self.cursor_key is not None else None

    @property
    def marked(self) -> list[T]:
        """The marked items that are shown, or the one under the cursor where none is marked."""
        marked = [
            item for key, item in zip(self._keys, self._items, strict=True) if key in self.marks
        ]
        if marked or self.cursor_item is None:
            return marked
        return [self.cursor_item]

    @property
    def empty(self) -> str:
        """Text shown without rows; may have several lines."""
        return self._empty

    @empty.setter
    def empty(self, words: str) -> None:
        if words != self._empty:
            self._empty = words
            if not self._items:
                self.refresh()

    @property
    def columns(self) -> Sequence[Column]:
        """The columns, in order of position."""
        return self._columns

    @columns.setter
    def columns(self, columns: Sequence[Column]) -> None:
        if tuple(columns) != self._columns:
            self._columns = tuple(columns)
            self._arrange()

    def _follow(self) -> None:
        """After the rows changed, keep the cursor on its key, and that key on its line."""
        before, line = self._at, self._at - self.scroll_offset.y
        self.virtual_size = Size(0, len(self._keys) + self._head)
        if self.cursor_key in self._places:
            self._at = self._places[self.cursor_key]
            if self._at != before:
                self.scroll_to(y=self._at - line, animate=False)
            return
        self._put(self._selectable(min(before, len(self._keys) - 1), 1))
        self._reveal()

    # The cursor

    def move_to(self, key: str) -> bool:
        """Put the cursor on a row; False where there is no such row."""
        place = self._places.get(key)
        if place is None:
            return False
        self._put(place)
        self._reveal()
        return True

    def _is_rule(self, place: int) -> bool:
        return self._draw(self._items[place]).rule

    def _selectable(self, place: int, by: int) -> int | None:
        """The nearest row to `place` that is no rule, first in the direction of `by`."""
        if not self._keys:
            return None
        place = max(0, min(place, len(self._keys) - 1))
        step = 1 if by >= 0 else -1
        ways = (range(place, len(self._keys)), range(place, -1, -1))
        for way in ways[::step]:
            for candidate in way:
                if not self._is_rule(candidate):
                    return candidate
        return None

    def _put(self, place: int | None) -> None:
        """Put the cursor on a row, draw the change, and post Highlighted."""
        before, self._at = self._at, place or 0
        key = None if place is None else self._keys[place]
        if key == self.cursor_key:
            return
        self.cursor_key = key
        for changed in (before, self._at):
            self._refresh_changes(self._line_of(changed))
        self.post_message(self.Highlighted(self, self.cursor_item))

    def _reveal(self) -> None:
        """Scroll as far as needed to show the cursor."""
        top, rows = self.scroll_offset.y, max(1, self.size.height - self._head)
        if self._at < top:
            # A rule above the first row comes into sight with it.
            self.scroll_to(y=self._at - (self._at == 1), animate=False)
        elif self._at >= top + rows:
            self.scroll_to(y=self._at - rows + 1, animate=False)

    def _go(self, place: int, by: int) -> None:
        self._put(self._selectable(place, by))
        self._reveal()

    def action_move(self, by: int) -> None:
        """Move the cursor by a number of rows."""
        self._go(self._at + by, by)

    def action_turn(self, pages: float) -> None:
        """Move the cursor by a number of pages."""
        self.action_move(round(pages * max(2, self.size.height - self._head)))

    def action_first(self) -> None:
        """Go to the first row."""
        self._go(0, 1)

    def action_last(self) -> None:
        """Go to the last row."""
        self._go(len(self._keys) - 1, -1)

    def action_mark(self) -> None:
        """Mark the row under the cursor or take its mark away, and go on to the next."""
        if self.cursor_key is not None:
            self.marks ^= {self.cursor_key}
            self._refresh_changes(self._line_of(self._at))
            self.action_move(1)

    def unmark(self) -> bool:
        """Take all marks away; False where there were none."""
        had = bool(self.marks)
        self.marks.clear()
        self.redraw()
        return had

    def action_choose(self) -> None:
        """Open the row under the cursor."""
        if self.cursor_key is not None:
            self.post_message(self.RowOpened(self, self.cursor_item))

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor; a second one opens the row."""
        place = self._place_of(event.get_content_offset_capture(self).y)
        if place is None or self._is_rule(place):
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
        return place if self._head <= y and 0 <= place < len(self._keys) else None

    def _now(self, y: int) -> _PaintedLine | None:
        """What belongs on a line of the screen; None where there is no row."""
        place = self._place_of(y)
        if place is None:
            return None
        key = self._keys[place]
        cursor = key == self.cursor_key
        line = self._draw(self._items[place])
        return _PaintedLine(line, cursor, key in self.marks, cursor and self.has_focus)

    def _refresh_changes(self, y: int) -> None:
        """Have a line drawn again that is no more what was drawn."""
        if not self._head <= y < self.size.height or y not in self._painted:
            return  # it has yet to be drawn for the first time
        if self._painted[y] != self._now(y):
            self.refresh(Region(0, y, self.size.width, 1))

    def on_resize(self) -> None:
        """Lay out the columns again, and keep the cursor visible."""
        self._arrange()
        self._reveal()

    def _arrange(self) -> None:
        # Without the cell of the scroll bar, whether there is one now or not.
        self._slots = arrange(self._columns, self.scrollable_content_region.width - GUTTER)
        self._painted.clear()
        self.refresh()

    def on_focus(self) -> None:
        """Draw the cursor as focused."""
        self._refresh_changes(self._line_of(self._at))

    def on_blur(self) -> None:
        """Draw the cursor as not focused."""
        self._refresh_changes(self._line_of(self._at))

    def render_line(self, y: int) -> Strip:
        """One line of the screen: the head, a row, or an empty line."""
        width = self.size.width
        ground = self.rich_style
        if y < self._head:
            style = ground + self.get_component_rich_style("table--head")
            parts = ((slot, Text(slot.column.title)) for slot in self._slots)
            return cells.strip(
                [Segment(" " * GUTTER, style), *cells.row(parts, style)], width, style
            )
        now = self._painted[y] = self._now(y)
        if now is None:
            return self._nothing(y, width, ground)
        if now.line.rule:
            return self._rule(now.line, width, ground)
        style = ground
        if now.line.dim:
            style += self.get_component_rich_style("table--dim")
        if now.cursor:
            style += self.get_component_rich_style("table--cursor")
        sign = self._glyphs.mark if now.marked else self._glyphs.cursor if now.focus else " "
        sign_style = style + self.get_component_rich_style("table--sign", partial=True)
        sign_style = style if style.reverse else sign_style
        row = now.line.cells
        parts = ((slot, cells.text(row.get(slot.column.key, ""), slot)) for slot in self._slots)
        signs = [Segment(sign, sign_style), Segment(" " * (GUTTER - cell_len(sign)), style)]
        return cells.strip([*signs, *cells.row(parts, style)], width, style)

    def _nothing(self, y: int, width: int, ground: Style) -> Strip:
        """A line below the last row; without rows, a line of the `empty` text."""
        words = self._empty.split("\n") if not self._items else []
        at = y - self._head - 1
        if not 0 <= at < len(words):
            return Strip.blank(width, ground)
        style = ground + self.get_component_rich_style("table--dim")
        text = " " * GUTTER + fmt.cut(fmt.clean(words[at]), width - GUTTER)
        return cells.strip([Segment(text, style)], width, style)

    def _rule(self, line: TableLine, width: int, ground: Style) -> Strip:
        """A horizontal rule with a text in it."""
        style = ground + self.get_component_rich_style("table--rule")
        words = next(iter(line.cells.values()), "")
        text = words.plain if isinstance(words, Text) else fmt.clean(str(words))
        sign = self._glyphs.rule
        text = f"{sign * GUTTER} {fmt.cut(text, width - 2 * GUTTER - 2)} "
        return cells.strip([Segment(text + sign * (width - cell_len(text)), style)], width, style)
