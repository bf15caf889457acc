"""Cells as segments of a line, each exactly as wide as its slot. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.strip import Strip

from modeldeck.tui.dashboard.widgets.columns import ColumnSlot
from modeldeck.tui.text import filter_language
from modeldeck.tui.text import format as fmt


@dataclass(frozen=True, slots=True)
class MatchedText:
    """Plain text in which the words of a filter are marked."""

    text: str
    words: tuple[str, ...]
    style: Style


Cell = str | Text | MatchedText | tuple[Text, ...]
"""Content of a cell: plain text, which is cleaned and cut here, or styled text that is clean; or
alternatives, of which the first one that fits is shown, else the last."""


def text(cell: Cell, slot: ColumnSlot) -> Text:
    """Text of a cell for its slot; a growing column is shortened in the middle."""
    if isinstance(cell, tuple):
        return next((c for c in cell if cell_len(c.plain) <= slot.width), cell[-1])
    if isinstance(cell, Text):
        return cell
    shorten = fmt.squeeze if slot.column.grow else fmt.cut
    if isinstance(cell, str):
        return Text(shorten(fmt.clean(cell), slot.width))
    found = Text(shorten(fmt.clean(cell.text), slot.width))
    for start, end in filter_language.spans(found.plain, cell.words):
        found.stylize(cell.style, start, end)
    return found


def row(parts: Iterable[tuple[ColumnSlot, Text]], style: Style) -> Iterator[Segment]:
    """Segments of a row from left to right, over the style of the row."""
    x = 0
    for slot, words in parts:
        if cell_len(words.plain) > slot.width:
            words = words.copy()
            words.truncate(slot.width, overflow="ellipsis")
        space = slot.width - cell_len(words.plain)
        before = slot.x - x + (space if slot.column.right else 0)
        if before:
            yield Segment(" " * before, style)
        yield from segments(words, style)
        if not slot.column.right and space:
            yield Segment(" " * space, style)
        x = slot.x + slot.width


def segments(words: Text, style: Style) -> Iterator[Segment]:
    """Segments of a text with its own colours, over those of the row.

    A reversed row drops the text's colours, which would be hard to read there.
    """
    if style.reverse:
        yield Segment(words.plain, style)
        return
    base = style + _style(words.style)
    edges = {0, len(words)}
    for span in words.spans:
        edges |= {max(0, span.start), min(len(words), span.end)}
    for start, end in pairwise(sorted(edges)):
        own = base
        for span in words.spans:
            if span.start <= start and end <= span.end:
                own += _style(span.style)
        yield Segment(words.plain[start:end], own)


def strip(parts: Sequence[Segment], width: int, style: Style) -> Strip:
    """A line cut or filled to exactly `width` cells."""
    return Strip(parts).adjust_cell_length(width, style)


def _style(style: str | Style) -> Style:
    return Style.parse(style) if isinstance(style, str) else style
