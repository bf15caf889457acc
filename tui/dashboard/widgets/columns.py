"""Layout of table columns: which of them fit a width, and where. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

UNBOUND = 1 << 16

LEAST = 10
"""Least width in cells of a growing column while other columns can be dropped."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    key: str
    """Key of its cell in `TableLine.cells`."""
    title: str
    width: int
    """Width in cells; for a growing column the width below which others are dropped."""
    right: bool = False
    """Whether its cells are aligned right, as numbers are."""
    grow: bool = False
    """Whether it takes the remaining width."""
    most: int = UNBOUND
    """Width in cells of a growing column after which the next one grows."""
    rank: int = 0
    """Dropped first where the rank is highest, the last of equals before the first; 0 is kept."""


@dataclass(frozen=True, slots=True)
class ColumnSlot:
    """Position of a column."""

    column: Column
    x: int
    width: int


def arrange(columns: Sequence[Column], width: int) -> tuple[ColumnSlot, ...]:
    """Columns that fit into `width` cells, from left to right.

    Two cells separate them, one after a column of width 1. The remaining width goes to the growing
    columns in equal parts; if some have `enough`, to one after the other up to that, and the rest
    to the first. If even the columns of rank 0 are too wide, the growing ones shrink.
    """
    kept = list(columns)
    while _taken(kept) > width and any(column.rank for column in kept):
        highest = max(column.rank for column in kept)
        last = max(i for i, column in enumerate(kept) if column.rank == highest)
        del kept[last]
    widths = _grown(kept, width - _taken(kept))
    slots: list[ColumnSlot] = []
    x = 0
    for column, cells in zip(kept, widths, strict=True):
        cells = max(0, min(cells, width - x))
        if cells:
            slots.append(ColumnSlot(column, x, cells))
        x += cells + _gap(column)
    return tuple(slots)


def widest(columns: Sequence[Column]) -> int:
    """Width in cells that columns can use: growing ones as far as they have enough."""
    return _taken(columns) + sum(
        column.most - column.width for column in columns if column.grow and column.most != UNBOUND
    )


def _grown(columns: Sequence[Column], spare: int) -> list[int]:
    """Widths after the growing columns shared the remaining, or missing, cells."""
    widths = [column.width for column in columns]
    growing = [i for i, column in enumerate(columns) if column.grow]
    if spare < 0:
        for i in growing:
            less = min(-spare, max(0, widths[i] - LEAST))
            widths[i] -= less
            spare += less
        return widths
    if any(columns[i].most != UNBOUND for i in growing):
        for i in growing:
            more = min(spare, max(0, columns[i].most - widths[i]))
            widths[i] += more
            spare -= more
        growing = growing[:1]
    for nth, i in enumerate(growing):
        widths[i] += spare // len(growing) + (nth < spare % len(growing))
    return widths


def _taken(columns: Sequence[Column]) -> int:
    """Width of the columns in cells, with the gaps between them."""
    return sum(c.width for c in columns) + sum(_gap(c) for c in columns[:-1])


def _gap(column: Column) -> int:
    return 1 if column.width == 1 else 2
