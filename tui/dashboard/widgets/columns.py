"""Columns of a table: which of them a width has room for, and where they stand. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

UNBOUND = 1 << 16

LEAST = 10
"""Cells that a growing column keeps where others can be dropped for it."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    key: str
    """Names its cell in a `Line`."""
    title: str
    width: int
    """Cells; of a growing column, the fewest before others are dropped for it."""
    right: bool = False
    """Whether its cells stand at the right, as numbers do."""
    grow: bool = False
    """Whether it takes what room is left."""
    most: int = UNBOUND
    """Cells at which a growing column has enough for the next one to grow."""
    rank: int = 0
    """Dropped first where the rank is highest, the last of equals before the first; 0 is kept."""


@dataclass(frozen=True, slots=True)
class ColumnSlot:
    """Where a column stands."""

    column: Column
    x: int
    width: int


def arrange(columns: Sequence[Column], width: int) -> tuple[ColumnSlot, ...]:
    """The columns that `width` cells have room for, from left to right.

    Two cells part them, one after a column of a single sign. What is left goes to the growing
    columns in equal parts; where some say what is enough, to one after the other up to that, and
    the rest to the first. Where even those of rank 0 are too wide, the growing ones give way.
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


def _grown(columns: Sequence[Column], spare: int) -> list[int]:
    """The widths when the growing columns have shared what is left, or what is too little."""
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
    """Cells of the columns with what parts them."""
    return sum(c.width for c in columns) + sum(_gap(c) for c in columns[:-1])


def _gap(column: Column) -> int:
    return 1 if column.width == 1 else 2
