"""The screen of the dashboard: only cells that differ from what the terminal shows are sent.

Textual 8.2 sends every widget that asked for it, from its left edge and whole where the layout
changed, and nothing where a terminal was small for a moment and has its size again, though it has
lost cells. Here what was sent is kept, cell by cell, and compared. What is overridden is private to
Textual, so tests hold it in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.app import App
from textual.geometry import Size
from textual.screen import Screen
from textual.scrollbar import ScrollBar
from textual.strip import Strip

from modeldeck.tui.dashboard.widgets.scrollbar import WholeCellScrollBar

ScrollBar.renderer = (
    WholeCellScrollBar  # the class holds it: every scrollbar of the program is drawn so
)

NEAR = 6
"""Equal cells between two that differ that are sent along: moving the cursor costs as much."""

Cell = tuple[str, str]
"""What stands in a cell, and the parameters of its SGR sequence; a wide character is followed by a
cell of nothing."""

Piece = tuple[int, int, Strip]
"""A part of a line to be drawn: its line, its first cell, and what stands there."""

Run = tuple[int, int, Sequence[Cell]]
"""Cells to be sent: their line, the first of them, and what they show."""


def cells(strip: Strip, colors: ColorSystem) -> list[Cell]:
    """What a strip shows, cell by cell.

    >>> cells(Strip([Segment("a猫", Style(bold=True))]), ColorSystem.STANDARD)
    [('a', '1'), ('猫', '1'), ('', '1')]
    """
    found: list[Cell] = []
    for text, style, control in strip:
        if control:
            continue
        sgr = "" if style is None else Strip.render_ansi(style, colors)
        if text.isascii():
            found += [(char, sgr) for char in text]
            continue
        for char in text:
            width = cell_len(char)
            if width == 0 and found:
                found[-1] = (found[-1][0] + char, sgr)
            found += [(char if at == 0 else "", sgr) for at in range(width)]
    return found


def runs(old: Sequence[Cell | None], new: Sequence[Cell]) -> Iterator[tuple[int, int]]:
    """Where cells differ, as start and end; runs that lie close together are one.

    Where a character may be wider or narrower on the terminal than is known here, all that follows
    it is sent with it.

    >>> list(runs([("a", ""), ("b", ""), None], [("a", ""), ("c", ""), ("d", "")]))
    [(1, 3)]
    """
    start = end = None
    for x, (before, now) in enumerate(zip(old, new, strict=True)):
        if before == now:
            continue
        if _is_uncertain(now) or (before is not None and _is_uncertain(before)):
            yield x if start is None or end is None or x - end > NEAR else start, len(new)
            return
        if start is not None and end is not None and x - end > NEAR:
            yield start, end
            start = None
        start, end = x if start is None else start, x + 1
    if start is not None and end is not None:
        yield start, end


def _is_uncertain(cell: Cell) -> bool:
    char = cell[0]
    return len(char) != 1 or (not char.isascii() and cell_len(char) != 1)


def pieces(update: LayoutUpdate | ChopsUpdate) -> Iterator[Piece]:
    """What Textual would send."""
    if isinstance(update, LayoutUpdate):
        for y, strips in enumerate(update.strips, update.region.y):
            x = update.region.x
            for strip in strips:
                yield y, x, strip
                x += strip.cell_length
        return
    for y, start, end in update.spans:
        ends = update.chop_ends[y]
        for chop_end, (x, chop) in zip(ends, update.chops[y].items(), strict=False):
            first, last = max(start, x), min(end, chop_end)
            if chop is not None and first < last:
                yield y, first, chop.crop(first - x, last - x)


class TerminalState:
    """What the terminal shows, as far as it was sent."""

    def __init__(self) -> None:
        self._size = Size()
        self._lines: dict[int, list[Cell | None]] = {}

    def forget(self) -> None:
        """The terminal may show anything."""
        self._lines.clear()

    def fill(self, size: Size) -> None:
        """All of the screen is drawn; what a terminal of another size shows is not known."""
        if size != self._size:
            self._size = size
            self.forget()

    def take(self, drawn: Iterable[Piece], colors: ColorSystem) -> list[Run]:
        """What has to be sent for these pieces to be shown; from now on it counts as sent."""
        sent: list[Run] = []
        for y, x, strip in drawn:
            new = cells(strip, colors)
            line = self._lines.setdefault(y, [])
            line += [None] * (x + len(new) - len(line))
            for start, end in runs(line[x : x + len(new)], new):
                sent.append((y, x + start, new[start:end]))
            line[x : x + len(new)] = new
        return sent


class CellChanges(CompositorUpdate):
    """Runs of cells on their way to the terminal."""

    def __init__(self, sent: Sequence[Run]) -> None:
        self._sent = sent

    def render_segments(self, console: Console) -> str:
        """What the terminal is sent: each run from its first cell to its last."""
        words: list[str] = []
        styled = ""
        for y, x, run in self._sent:
            words.append(f"\x1b[{y + 1};{x + 1}H")
            for char, sgr in run:
                if sgr != styled:
                    words.append(f"\x1b[0;{sgr}m" if sgr else "\x1b[0m")
                    styled = sgr
                words.append(char)
        return "".join(words) + ("\x1b[0m" if styled else "")


class DiffRenderer(App[None]):
    """An app that sends what changed, and whose screen is whole whatever the terminal lost."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._shown = TerminalState()

    def action_redraw(self) -> None:
        """Draw all of it again, whatever another program wrote over it."""
        self._shown.forget()
        self.screen.refresh()

    def _check_resize(self) -> None:
        is_told = self._resize_event is not None
        super()._check_resize()
        if is_told and self._resize_event is None:
            self.action_redraw()

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        is_sent = self._running and not self._batch_count  # else Textual drops it
        if is_sent and isinstance(renderable, LayoutUpdate | ChopsUpdate):
            if isinstance(renderable, LayoutUpdate):
                self._shown.fill(renderable.region.size)
            colors = self.console._color_system or ColorSystem.TRUECOLOR
            sent = self._shown.take(pieces(renderable), colors)
            if not sent and self.cursor_position == self._previous_cursor_position:
                return
            renderable = CellChanges(sent)
        super()._display(screen, renderable)


class BaseScreen(Screen[None], inherit_bindings=False):
    """The screen that everything else lies on.

    Textual's own screen has `tab` for the focus; here it goes round the views.
    """

    AUTO_FOCUS = ""
    """The view in front says where the keys go, also those that are pressed before it stands."""

    def __init__(self) -> None:
        super().__init__(id="_default")
