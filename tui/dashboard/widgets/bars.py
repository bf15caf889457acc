"""Bars, sparklines and lines of text, drawn by `TextLines` or by a cell of a table."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from rich.style import Style
from rich.text import Text
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets import cells
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

STRONG = Style(bold=True)


def bar(
    fraction: float | None,
    width: int,
    glyphs: Glyphs,
    inks: ThemeStyles,
    style: Style | None = None,
) -> Text:
    """A bar of `width` cells; empty where the fraction is unknown."""
    shape = fmt.bar(fraction, width, glyphs)
    full = shape.count(glyphs.full)
    return Text.assemble((shape[:full], style or inks.primary), (shape[full:], inks.muted))


def spark(
    values: Sequence[float | None], ceiling: float | None, glyphs: Glyphs, inks: ThemeStyles
) -> Text:
    """Sparkline with one cell per value, from 0 to `ceiling` (None: the largest value).

    Unknown values (None) have a sign of their own.
    """
    known = [value for value in values if value is not None]
    top = ceiling if ceiling is not None else max(known, default=0.0)
    text = Text()
    for value in values:
        if value is None:
            text.append(glyphs.unknown, inks.muted)
        else:
            text.append(glyphs.levels[_level(value, top, len(glyphs.levels))], inks.primary)
    return text


def _level(value: float, top: float, levels: int) -> int:
    """Level of a value, rounded up, so that only zero gets the lowest level."""
    if top <= 0 or value <= 0:
        return 0
    return max(1, min(levels - 1, math.ceil(value / top * (levels - 1))))


class History:
    """Recent values of a figure: the largest value of each of a number of equal time slots.

    Slots start at multiples of their length, so that a drawn cell moves without changing.
    """

    def __init__(self, span_s: float, slots: int) -> None:
        self.span_s = span_s
        self._slot_s = span_s / slots
        self._slots: deque[tuple[int, float]] = deque(maxlen=slots)
        """Number and largest value of each slot with values, in order."""
        self._length = slots

    def add(self, at: float, value: float | None) -> None:
        """Add a value at a time in seconds, which never decreases."""
        if value is None:
            return
        number = int(at // self._slot_s)
        if self._slots and self._slots[-1][0] == number:
            value = max(value, self._slots.pop()[1])
        self._slots.append((number, value))

    def values(self, now: float, cells: int) -> list[float | None]:
        """Recent values reduced to at most `cells`, the newest last; None where unknown."""
        each = -(-self._length // max(1, cells))
        return self.recent(now, self._length // each, each)

    def recent(self, now: float, count: int, each: int) -> list[float | None]:
        """The last `count` values, each the largest of `each` slots; None where unknown."""
        last = int(now // self._slot_s) // each
        found: dict[int, float] = {}
        for number, value in self._slots:
            cell = number // each
            found[cell] = max(value, found.get(cell, value))
        return [found.get(cell) for cell in range(last - count + 1, last + 1)]


Part = tuple[int, Text | tuple[Text, Text]]
"""Part of a line: its rank, and its text, optionally with a shorter text."""


def fitted(parts: Sequence[Part], width: int, gap: int = 3) -> Text:
    """Join parts to a line; if too wide, the highest ranks are shortened, then dropped."""
    kept = {place: text for place, (_, text) in enumerate(parts)}
    by_rank = sorted(kept, key=lambda place: parts[place][0], reverse=True)

    def room() -> int:
        taken = sum(_first(text).cell_len for text in kept.values())
        return width - taken - gap * (len(kept) - 1)

    for place in by_rank:
        if room() < 0 and isinstance(text := kept[place], tuple):
            kept[place] = text[1]
    for place in by_rank[:-1]:
        if room() < 0:
            del kept[place]
    line = Text()
    for text in map(_first, kept.values()):
        line.append(" " * gap if line else "").append_text(text)
    line.truncate(max(0, width), overflow="ellipsis")
    return line


def _first(text: Text | tuple[Text, Text]) -> Text:
    return text[0] if isinstance(text, tuple) else text


def wrapped(text: Text, width: int, indent: int = 0) -> list[Text]:
    """Wrap a text to lines of at most `width` cells; all but the first are indented."""
    plain, room, start = text.plain, max(1, width), 0
    breaks: list[int] = []
    while fmt.columns(plain[start:]) > room:
        end = start + _fitting(plain[start:], room)
        if (space := plain.rfind(" ", start + 1, end + 1)) > 0:
            end = space + 1
        breaks.append(end)
        start, room = end, max(1, width - indent)
    lines = list(text.divide(breaks))
    for line in lines:
        line.rstrip()
    for line in lines[1:]:
        line.pad_left(indent)
    return lines


def _fitting(text: str, width: int) -> int:
    """Number of characters that fit into `width` cells; at least one."""
    count = 0
    for char in text:
        if (width := width - fmt.columns(char)) < 0:
            break
        count += 1
    return max(1, count)


def alike(text: Text, other: Text) -> bool:
    """Whether two texts are drawn alike; `==` does not compare the styles of whole texts."""
    return text == other and text.style == other.style and text.spans == other.spans


class TextLines(Widget):
    """Widget of text lines; `show` repaints only lines that changed."""

    DEFAULT_CSS = """
    TextLines { height: auto; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: tuple[Text, ...] = ()

    @property
    def plain(self) -> str:
        """The text shown, without styles."""
        return "\n".join(line.plain for line in self._lines)

    def show(self, lines: Sequence[Text]) -> None:
        """Show these lines."""
        before, self._lines = self._lines, tuple(lines)
        if len(before) != len(self._lines):
            self.refresh(layout=True)
            return
        regions = [
            Region(0, y, self.size.width, 1)
            for y, (old, new) in enumerate(zip(before, self._lines, strict=True))
            if not alike(old, new)
        ]
        if regions:
            self.refresh(*regions)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Number of lines."""
        return len(self._lines)

    def render_line(self, y: int) -> Strip:
        """One line in the full width."""
        base = self.rich_style
        line = self._lines[y] if y < len(self._lines) else Text()
        return Strip(cells.segments(line, base)).crop_extend(0, self.size.width, base)
