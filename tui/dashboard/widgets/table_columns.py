"""The columns of a table: which are shown, where, and which one rows are sorted by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from modeldeck.tui.dashboard.widgets.column_choice import STANDARD, ColumnChoice, arranged
from modeldeck.tui.dashboard.widgets.columns import UNBOUND, Column, ColumnSlot, arrange

GUTTER = 2
"""Width in cells of the left edge: sign of the cursor or of a mark, and a space."""


class TableColumns:
    """The columns of a table, and what the person chose of them."""

    def __init__(
        self,
        columns: Sequence[Column],
        sortable: Collection[str],
        *,
        changed: Callable[[], None],
        chosen: Callable[[], None],
    ) -> None:
        """Create columns without a place.

        Args:
            columns: The columns, in order of position.
            sortable: Keys of those that rows can be sorted by.
            changed: Called after a change, to place and draw them again.
            chosen: Called after the person chose others, or another order.
        """
        self._all = tuple(columns)
        self._choice = STANDARD
        self._changed = changed
        self._chosen = chosen
        self.sortable = frozenset(sortable)
        self.slots: tuple[ColumnSlot, ...] = ()
        """Positions of the columns that are drawn."""
        self._most_cells = UNBOUND
        self.words: tuple[str, ...] = ()
        """Words of a filter, which are marked in the texts of growing columns."""

    def place(self, width: int) -> None:
        """Place the columns that are shown in this many cells."""
        self.slots = arrange(arranged(self._all, self._choice), min(width, self._most_cells))

    @property
    def all(self) -> Sequence[Column]:
        """All columns, in order of position: also those that are not shown."""
        return self._all

    @all.setter
    def all(self, columns: Sequence[Column]) -> None:
        if tuple(columns) != self._all:
            self._all = tuple(columns)
            self._changed()

    @property
    def most_cells(self) -> int:
        """Cells that the columns take at most; rows are drawn beyond them, to the edge."""
        return self._most_cells

    @most_cells.setter
    def most_cells(self, cells: int) -> None:
        if cells != self._most_cells:
            self._most_cells = cells
            self._changed()

    @property
    def drawn(self) -> frozenset[str]:
        """Keys of the columns that are drawn."""
        return frozenset(slot.column.key for slot in self.slots)

    @property
    def choice(self) -> ColumnChoice:
        """Which columns are hidden or wanted, and which one the rows are sorted by."""
        return self._choice

    @choice.setter
    def choice(self, choice: ColumnChoice) -> None:
        if choice != self._choice:
            self._choice = choice
            self._changed()

    def mark(self, words: tuple[str, ...]) -> None:
        """Mark these words of a filter."""
        if words != self.words:
            self.words = words
            self._changed()

    def choose(self, choice: ColumnChoice) -> None:
        """Take a choice of the person, and tell the owner."""
        if choice != self._choice:
            self.choice = choice
            self._chosen()

    def sort_by(self, key: str | None) -> None:
        """Sort by a column, or reverse its order, as the person chose; nothing where it cannot."""
        if key is not None and key in self.sortable:
            self.choose(self._choice.sorted_by(key))
