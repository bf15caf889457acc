"""Chart of recent values of a figure on an honest axis: from 0 to all that there is. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.text import Text

from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.bars import STRONG
from modeldeck.tui.text.format import Glyphs


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryMark:
    """An event on the axis of time."""

    at: datetime
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryData:
    """What a chart shows: one value a column, the newest last."""

    values: Sequence[float | None]
    step_s: float
    """Seconds of a column."""
    now: datetime
    """The end of the last column."""
    top: float
    """The largest value there can be."""
    unit: float = 1.0
    """What is 1 on the axis."""
    started: datetime | None = None
    """Before this time there was nothing to measure; None where that is not known."""
    marks: Sequence[HistoryMark] = ()

    def column(self, at: datetime) -> int:
        """The column of a moment; below 0 where it is before the first."""
        ago_s = (self.now - at).total_seconds()
        return len(self.values) - 1 - int(max(0.0, ago_s) // self.step_s)


def axis_width(top: float, unit: float) -> int:
    """Cells of the axis: the widest tick, a space, the line."""
    return max(len(_tick(share * top / unit)) for share in (1, 0.5, 0)) + 2


def _tick(value: float) -> str:
    return f"{value:.0f}" if abs(value - round(value)) < 0.05 else f"{value:.1f}"


def chart(
    data: HistoryData, height: int, glyphs: Glyphs, inks: ThemeStyles, *, clock: bool
) -> list[Text]:
    """The chart in `height` lines, and one with times and marks below where `clock` is set.

    The highest line has the largest value there can be, the lowest one 0.
    """
    width = axis_width(data.top, data.unit) - 2
    middle = (height - 1) // 2
    ticks = {0: 1.0, middle: 0.5 if height > 1 else 1.0, height - 1: 0.0}
    side, at_tick, corner = tuple(glyphs.axis)
    lines = []
    for y, row in enumerate(_rows(data, height, glyphs)):
        share = ticks.get(y)
        words = "" if share is None else _tick(share * data.top / data.unit)
        sign = corner if y == height - 1 else side if share is None else at_tick
        line = Text().append(f"{words:>{width}} {sign}", inks.muted)
        if y == height - 1:
            line.append_text(_ground(row, data, glyphs, inks))
        else:
            line.append(row, inks.primary)
        lines.append(line)
    if clock:
        lines.append(_clock(data, width + 2, inks))
    return lines


def _rows(data: HistoryData, height: int, glyphs: Glyphs) -> list[str]:
    """The values, line by line, the highest first."""
    levels = glyphs.levels
    steps = [
        0
        if value is None or value <= 0
        else max(1, math.ceil(value / data.top * height * len(levels)))
        for value in data.values
    ]
    rows = []
    for y in range(height - 1, -1, -1):
        fills = (min(len(levels), step - y * len(levels)) for step in steps)
        rows.append("".join(levels[fill - 1] if fill > 0 else " " for fill in fills))
    return rows


def _ground(row: str, data: HistoryData, glyphs: Glyphs, inks: ThemeStyles) -> Text:
    """The lowest line; where there are no values it says so."""
    line = Text()
    gaps = [value is None for value in data.values]
    begun = max(0, data.column(data.started) + 1) if data.started is not None else 0
    x = 0
    while x < len(row):
        end = x
        while end < len(row) and gaps[end] == gaps[x]:
            end += 1
        if not gaps[x]:
            line.append(row[x:end], inks.primary)
        else:
            split = min(max(x, begun), end)
            line.append_text(_gap("not running", split - x, glyphs, inks))
            line.append_text(_gap("no data", end - split, glyphs, inks))
        x = end
    return line


def _gap(words: str, cells: int, glyphs: Glyphs, inks: ThemeStyles) -> Text:
    told = f" {words} " if cells >= len(words) + 4 else ""
    return Text(told.center(cells, glyphs.rule), inks.muted)


def _clock(data: HistoryData, start: int, inks: ThemeStyles) -> Text:
    """Times, and what happened: `load 2 ^`, the sign in its column; as far as there is room."""
    width = len(data.values)
    cells = [" "] * (start + width)
    taken = [False] * len(cells)
    strong: list[tuple[int, int]] = []

    def put(x: int, words: str, *, bold: bool = False) -> None:
        end = x + len(words)
        if x < 0 or end > len(cells) or any(taken[max(0, x - 2) : end + 2]):
            return
        cells[x:end] = words
        taken[x:end] = [True] * len(words)
        if bold:
            strong.append((x, end))

    put(start + width - 5, f"{data.now:%H:%M}")
    for mark in sorted(data.marks, key=lambda mark: mark.at, reverse=True):
        if (column := data.column(mark.at)) >= 0:
            words = f"{mark.words} ^"
            put(start + column - len(words) + 1, words, bold=True)
    for part in range(3):
        x = round(width * part / 3)
        at = data.now - timedelta(seconds=(width - x) * data.step_s)
        put(start + x, f"{at:%H:%M}")
    line = Text("".join(cells).rstrip(), inks.muted)
    for x, end in strong:
        line.stylize(STRONG, x, end)
    return line
