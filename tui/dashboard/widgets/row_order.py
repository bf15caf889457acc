"""The order of rows by the column that a person chose. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from modeldeck.tui.dashboard.widgets.column_choice import ColumnChoice
from modeldeck.tui.dashboard.widgets.columns import Column
from modeldeck.tui.text.format import Glyphs

T = TypeVar("T")

Known = float | str | None
"""What a row is sorted by: a number, a text, or None where it is not known."""

Values = Mapping[str, Callable[[T], Known]]
"""What rows are sorted by, by the key of the column."""


def ordered(rows: Iterable[T], choice: ColumnChoice, values: Values[T]) -> list[T]:
    """Rows by the chosen column, those without a value last; equal ones stay as they are.

    Without a column that can be sorted by, the rows stay as they are.

    >>> by = {"size": lambda row: row}
    >>> ordered([2, None, 1], ColumnChoice(sort="size", reverse=True), by)
    [2, 1, None]
    """
    found = list(rows)
    if (value := values.get(choice.sort)) is None:
        return found
    known = [(row, value(row)) for row in found]
    told = [pair for pair in known if pair[1] is not None]
    told.sort(key=lambda pair: _comparable(pair[1]), reverse=choice.reverse)
    return [row for row, _ in told] + [row for row, at in known if at is None]


def _comparable(value: Known) -> tuple[float, str]:
    return (0.0, value.casefold()) if isinstance(value, str) else (value or 0.0, "")


def order_words(
    columns: Iterable[Column], choice: ColumnChoice, glyphs: Glyphs, standard: str
) -> str:
    """The order of the rows: title of the column and sign of the direction, else `standard`."""
    titles = {column.key: column.title for column in columns}
    if choice.sort not in titles:
        return standard
    return f"{titles[choice.sort]} {glyphs.falling if choice.reverse else glyphs.rising}"


class KeptOrder(Generic[T]):
    """The chosen order, in which rows keep their places while their figures change.

    Rows are sorted again when one comes or goes, when the choice changes, and after `forget`.
    """

    def __init__(self, values: Values[T], key: Callable[[T], str]) -> None:
        self._values = values
        self._key = key
        self._basis: object = None
        self._places: Mapping[str, int] = {}

    def sort(self, rows: Sequence[T], choice: ColumnChoice) -> list[T]:
        """The rows in order; as they are where no column is chosen."""
        if choice.sort not in self._values:
            self._basis = None
            return list(rows)
        keys = [self._key(row) for row in rows]
        basis = (choice.sort, choice.reverse, frozenset(keys))
        if basis != self._basis:
            found = ordered(rows, choice, self._values)
            self._basis = basis
            self._places = {self._key(row): at for at, row in enumerate(found)}
            return found
        places = self._places
        return sorted(rows, key=lambda row: places[self._key(row)])

    def forget(self) -> None:
        """Sort again the next time: a person comes to the list."""
        self._basis = None
