"""The lines of a table as strips. Pure: cells, columns and styles in, a strip out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.strip import Strip

from modeldeck.tui.dashboard.widgets import cells, table_heads
from modeldeck.tui.dashboard.widgets.cells import Cell
from modeldeck.tui.dashboard.widgets.columns import ColumnSlot
from modeldeck.tui.dashboard.widgets.table_columns import GUTTER
from modeldeck.tui.text import filter_language
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs


def row(
    line: Mapping[str, Cell],
    slots: Sequence[ColumnSlot],
    sign: str,
    width: int,
    *,
    style: Style,
    sign_style: Style,
    marked: Sequence[str],
    match_style: Style,
) -> Strip:
    """A row: its sign in the left edge, then its cells.

    The words `marked` have their own style in the texts of growing columns.
    """
    parts = (
        (slot, _marked(line.get(slot.column.key, ""), slot, marked, match_style)) for slot in slots
    )
    signs = [Segment(sign, sign_style), Segment(" " * (GUTTER - cell_len(sign)), style)]
    return cells.strip([*signs, *cells.row(parts, style)], width, style)


def _marked(cell: Cell, slot: ColumnSlot, words: Sequence[str], style: Style) -> Text:
    found = cells.text(cell, slot)
    if not words or not slot.column.grow or isinstance(cell, cells.MatchedText):
        return found
    found = found.copy()
    for start, end in filter_language.spans(found.plain, words):
        found.stylize(style, start, end)
    return found


def words(text: str, width: int, style: Style) -> Strip:
    """A line of text where rows would be."""
    shown = " " * GUTTER + fmt.cut(fmt.clean(text), width - GUTTER)
    return cells.strip([Segment(shown, style)], width, style)


def rule(
    line: Mapping[str, Cell],
    slots: Sequence[ColumnSlot],
    inner: int,
    width: int,
    glyphs: Glyphs,
    *,
    style: Style,
    head_style: Style,
) -> Strip:
    """A horizontal rule with a text in it, and the heads of the rows below.

    `inner` is the width without the scroll bar.
    """
    text, *heads = (
        cell.plain if isinstance(cell, Text) else fmt.clean(str(cell))
        for cell in line.values() or ("",)
    )
    below = dict(zip(list(line)[1:], heads, strict=True))
    drawn, titles = table_heads.rule(slots, text, below, GUTTER, inner, glyphs)
    return cells.strip([Segment(drawn, style), Segment(titles, head_style)], width, style)
