"""What a person chose of a table's columns: which are hidden or wanted, and the order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from modeldeck.tui.dashboard.widgets.columns import Column

WANTED = 1
"""Rank of a column that was asked for: others are dropped before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnChoice:
    """The choice for one table; without any, columns are shown as the width allows."""

    hidden: frozenset[str] = frozenset()
    """Keys of columns that are never shown."""
    shown: frozenset[str] = frozenset()
    """Keys of columns that are shown although the width would leave them out."""
    sort: str = ""
    """Key of the column that the rows are sorted by; empty for the table's own order."""
    reverse: bool = False
    """Whether the largest comes first."""

    def toggled(self, key: str, *, visible: bool) -> ColumnChoice:
        """Hide a column that is visible, and show one that is not."""
        hidden, shown = self.hidden - {key}, self.shown - {key}
        if visible:
            return replace(self, hidden=hidden | {key}, shown=shown)
        return replace(self, hidden=hidden, shown=shown | {key})

    def sorted_by(self, key: str) -> ColumnChoice:
        """Sort by a column; again reverses the order.

        >>> once = ColumnChoice().sorted_by("size")
        >>> once.sort, once.reverse, once.sorted_by("size").reverse
        ('size', False, True)
        """
        return replace(self, sort=key, reverse=self.sort == key and not self.reverse)


STANDARD = ColumnChoice()


def titled(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns that can be chosen: those with a title."""
    return tuple(column for column in columns if column.title)


def arranged(columns: Sequence[Column], choice: ColumnChoice) -> tuple[Column, ...]:
    """The columns of a table by a choice; a growing one of rank 0, the name, is never hidden."""
    return tuple(
        replace(column, rank=min(column.rank, WANTED)) if column.key in choice.shown else column
        for column in columns
        if column.key not in choice.hidden or not hideable(column)
    )


def hideable(column: Column) -> bool:
    """Whether a column can be hidden: a row keeps its sign and its name."""
    return bool(column.title) and not (column.grow and column.rank == 0)
