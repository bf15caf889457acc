"""`TableView`: a screen with one table whose keys act on its rows.

An action applies to the marked rows, or to the row under the cursor. It runs on each item on its
own, so that an error on one does not stop the others, and reports all of them in one receipt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from rich.text import Text
from textual import events, on

from modeldeck.core.concurrency import together
from modeldeck.core.errors import DeckError
from modeldeck.tui.dashboard.messages import severity_of
from modeldeck.tui.dashboard.screens.filtered_view import FilteredView
from modeldeck.tui.dashboard.theme import ThemeStyles, ink
from modeldeck.tui.dashboard.widgets.row_order import KeptOrder
from modeldeck.tui.dashboard.widgets.table import Table
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.model_names import title_of_unique
from modeldeck.tui.text.records import stands

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client


class ListedItem(Protocol):
    """An item that actions apply to: a download, an instance, a cache entry."""

    @property
    def id(self) -> str:
        """Identifier in the core."""

    @property
    def unique(self) -> str:
        """The unique name of its model."""

    @property
    def state(self) -> str:
        """Its state, in one word."""


RowT = TypeVar("RowT")
ItemT = TypeVar("ItemT", bound=ListedItem)
A = TypeVar("A")

LOW = 16
"""Height in lines below which a view drops its blank lines in favour of the table."""


@dataclass(frozen=True, slots=True)
class TableParts(Generic[RowT, ItemT]):
    """What a screen supplies to `TableView`."""

    noun: str
    """Singular noun that several items are counted in."""
    item_of: Callable[[RowT], ItemT]
    """The item of a row; several rows may belong to one item."""
    draw: Callable[[], None]
    """Bring the whole screen up to date; called only while the screen is visible."""
    draw_cursor_row: Callable[[], None]
    """Draw the details of the row under the cursor."""
    open_row: Callable[[], None] | None = None
    """Show more about the row under the cursor, or hide it again; None: there is no more."""
    order: KeptOrder[Any] | None = None
    """Sorts its rows by the chosen column; None where the screen sorts them in its own way."""


class TableView(FilteredView, Generic[RowT, ItemT]):
    """Base of the screens Downloads, Memory, Requests and Disk."""

    DEFAULT_CSS = """
    TableView { padding: 0 1; }
    TableView.filtered > FilterLine { display: block; }
    TableView.filtered > #head { padding: 0 0 0 2; }
    TableView.low.filtered > #head { display: none; }
    """

    def __init__(self, parts: TableParts[RowT, ItemT], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._table_parts = parts
        self._sorted_by = ("", False)
        """The column and the direction that rows were last sorted by."""

    def on_mount(self) -> None:
        """Redraw when the theme changes."""
        self.dashboard.theme_changed_signal.subscribe(self, lambda _: self.redraw())

    # Drawing

    @property
    def inks(self) -> ThemeStyles:
        """Text styles of the theme."""
        return ink(self.dashboard.theme_variables)

    @property
    def table(self) -> Table[RowT]:
        """The table widget."""
        return self.query_one(Table)

    @property
    def waiting(self) -> list[Text]:
        """Text shown before the first State."""
        return [Text("waiting for the core", self.inks.muted)]

    def redraw(self) -> None:
        """Draw, if the screen is visible, and none of it is being removed."""
        if self.display and self.query(Table):
            self._table_parts.draw()

    def activated(self) -> None:
        """Sort the rows anew, and give the focus to the table."""
        if self._table_parts.order is not None:
            self._table_parts.order.forget()
        self.redraw()
        self.table.focus()

    def on_resize(self, event: events.Resize) -> None:
        """Drop blank lines on a low terminal."""
        self.set_class(event.size.height < LOW, "low")
        self.redraw()

    # Order and filter

    @property
    def is_sorted(self) -> bool:
        """Whether the rows are in the order of a column that was chosen."""
        return self.table.choice.sort in self.table.arrangement.sortable

    def in_order(self, rows: Sequence[A]) -> Sequence[A]:
        """Rows by the chosen column; as they are without one."""
        order = self._table_parts.order
        return rows if order is None else order.sort(rows, self.table.choice)

    def columns_chosen(self, table: Table[Any]) -> None:
        """Show another order from its first row."""
        self.redraw()
        order = (table.choice.sort, table.choice.reverse)
        if order != self._sorted_by:
            self._sorted_by = order
            self.table.action_first()

    def rows_filtered(self) -> None:
        """Draw the rows that pass the filter, with its words marked."""
        self.table.arrangement.mark(self.filter_words)
        self.redraw()

    @on(Table.Highlighted)
    def _row_highlighted(self, event: Table.Highlighted) -> None:
        event.stop()
        self._table_parts.draw_cursor_row()

    @on(Table.RowOpened)
    def _row_opened(self, event: Table.RowOpened) -> None:
        event.stop()
        self.action_open_row()

    # Actions

    def selected(self, applies: Callable[[ItemT], bool], verb: str) -> list[ItemT]:
        """Selected items (marked, or under the cursor) that the action applies to.

        Says so where items are selected and the action applies to none of them.
        """
        row_items = map(self._table_parts.item_of, self.table.marked)
        items = list({item.id: item for item in row_items}.values())
        found = [item for item in items if applies(item)]
        if items and not found:
            first = items[0]
            self.dashboard.say(
                f"{self.name_of(first)} {stands(first.state)}: there is nothing to {verb}.",
                "refused",
            )
        return found

    def name_of(self, item: ListedItem) -> str:
        """The name of an item, as its row shows it."""
        return title_of_unique(item.unique, self.state.models if self.state else {})

    def named(self, items: Sequence[ListedItem]) -> str:
        """One item by its name, several by their count."""
        if len(items) == 1:
            return self.name_of(items[0])
        return fmt.number(len(items), self._table_parts.noun)

    def each(
        self,
        items: Sequence[ItemT],
        act: Callable[[Client, ItemT], Awaitable[A]],
        receipt: Callable[[Sequence[A]], str],
    ) -> None:
        """Run `act` on every item at once; show one receipt, and each distinct error."""

        async def one(client: Client, item: ItemT) -> A | DeckError:
            try:
                return await act(client, item)
            except DeckError as error:
                return error

        async def all_items(client: Client) -> None:
            results = await together(one(client, item) for item in items)
            done = [result for result in results if not isinstance(result, DeckError)]
            if done:
                self.dashboard.say(receipt(done), "done")
            errors = {str(result): result for result in results if isinstance(result, DeckError)}
            for text, error in errors.items():
                self.dashboard.say(text, severity_of(error))

        if items:
            self.table.unmark()
            self.perform(all_items)

    def action_copy(self) -> None:
        """Copy the model's name to the terminal's clipboard."""
        if (row := self.table.cursor_item) is not None:
            name = self._table_parts.item_of(row).unique
            self.app.copy_to_clipboard(name)
            self.dashboard.say(f"{name} copied", "done")

    def action_open_row(self) -> None:
        """Show more about the row under the cursor, or hide it again."""
        if self._table_parts.open_row is not None:
            self._table_parts.open_row()
