"""Cells as segments of a line, each exactly as wide as its slot. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.strip import Strip

from tui import format as fmt
from tui.widgets.columns import Slot

NEAR = 4
"""Equal cells between two that differ that are sent along: moving the cursor costs as much."""

Cell = str | Text | tuple[Text, ...]
"""What stands in a cell: plain text, cleaned and cut here, or text in colours, already clean; of
several the first that fits, or the last."""


def text(cell: Cell, slot: Slot) -> Text:
    """A cell's text for its slot: a growing column gives way in the middle."""
    if isinstance(cell, tuple):
        return next((c for c in cell if cell_len(c.plain) <= slot.width), cell[-1])
    if isinstance(cell, Text):
        return cell
    shorten = fmt.squeeze if slot.column.grow else fmt.cut
    return Text(shorten(fmt.clean(cell), slot.width))


def row(parts: Iterable[tuple[Slot, Text]], style: Style) -> Iterator[Segment]:
    """The cells of a row from left to right, over the style of the row."""
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


def runs(old: Cell, new: Cell, slot: Slot) -> Iterator[tuple[int, int]]:
    """Where a cell is drawn otherwise than before, as start and end in the line."""
    for start, end in changed(_placed(old, slot), _placed(new, slot)):
        yield slot.x + start, slot.x + end


def _placed(cell: Cell, slot: Slot) -> Text:
    """What fills the slot."""
    words = text(cell, slot)
    space = slot.width - cell_len(words.plain)
    return Text(" " * space).append_text(words) if slot.column.right and space > 0 else words


def segments(words: Text, style: Style) -> Iterator[Segment]:
    """The text in its own colours, over those of the row."""
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
    """A line of exactly `width` cells."""
    return Strip(parts).adjust_cell_length(width, style)


def _style(style: str | Style) -> Style:
    return Style.parse(style) if isinstance(style, str) else style


def changed(old: Text, new: Text) -> Iterator[tuple[int, int]]:
    """Runs of cells that differ, as start and end; runs that lie close together are one."""
    before, after = _drawn(old), _drawn(new)
    length = max(len(before), len(after))
    blank: _Cell = (" ", ("",))
    before += [blank] * (length - len(before))
    after += [blank] * (length - len(after))
    differ = [x for x, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    while differ:
        run = next((n for n in range(1, len(differ)) if differ[n] - differ[n - 1] > NEAR), None)
        yield differ[0], differ[(run or 0) - 1] + 1
        differ = differ[run:] if run else []


_Cell = tuple[str, tuple[Style | str, ...]]


def _drawn(text: Text) -> list[_Cell]:
    """What stands in each cell and how; the halves of a wide character change together."""
    drawn: list[_Cell] = []
    for index, char in enumerate(text.plain):
        own = (span.style for span in text.spans if span.start <= index < span.end)
        styles = (text.style, *own)
        width = fmt.columns(char)
        if width == 0 and drawn:
            drawn[-1] = (drawn[-1][0] + char, drawn[-1][1])
        drawn += [(char * (at + 1), styles) for at in range(width)]
    return drawn
