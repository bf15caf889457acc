"""Sends only the cells that differ from what the terminal shows.

Textual 8.2 sends each widget that was refreshed from its left edge, all of it after a change of
layout, and nothing when a terminal was made small and large again, although the terminal dropped
cells. `DiffRenderer` keeps what was sent, cell by cell, and compares.

It stands on private members of Textual: `modeldeck.tui.dashboard.textual_private` lists them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import COLOR_SYSTEMS, Console
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.app import App
from textual.geometry import Size
from textual.screen import Screen
from textual.scrollbar import ScrollBar
from textual.strip import Strip
from textual.widget import Widget

from modeldeck.tui.dashboard import sgr
from modeldeck.tui.dashboard.widgets.scrollbar import WholeCellScrollBar

ScrollBar.renderer = WholeCellScrollBar  # a class attribute: applies to all scrollbars

NEAR = 6
"""Most equal cells between two changes that are sent anyway: moving the cursor costs as much."""

Cell = tuple[str, str]
"""Character of a cell, and the parameters of its SGR sequence, of a blank those that show; a wide
character is followed by an empty cell."""

Piece = tuple[int, int, Strip]
"""Part of a line to be drawn: line, first cell, content."""

Run = tuple[int, int, Sequence[Cell]]
"""Cells to be sent: line, first cell, content."""


def cells(strip: Strip, colors: ColorSystem) -> list[Cell]:
    """The cells of a strip.

    >>> cells(Strip([Segment("a猫", Style(bold=True))]), ColorSystem.STANDARD)
    [('a', '1'), ('猫', '1'), ('', '1')]
    """
    found: list[Cell] = []
    for text, style, control in strip:
        if control:
            continue
        own = "" if style is None else Strip.render_ansi(style, colors)
        if text.isascii():
            blank = (" ", sgr.of_blank(own))
            found += [blank if char == " " else (char, own) for char in text]
            continue
        for char in text:
            width = cell_len(char)
            if width == 0 and found:
                found[-1] = (found[-1][0] + char, own)
            shown = sgr.of_blank(own) if char == " " else own
            found += [(char if at == 0 else "", shown) for at in range(width)]
    return found


def runs(old: Sequence[Cell | None], new: Sequence[Cell]) -> Iterator[tuple[int, int]]:
    """Ranges (start, end) of cells that differ; ranges that lie close together are joined.

    Where the width of a character on the terminal is uncertain, the rest of the line is sent too.

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
    """The parts of lines that Textual would send."""
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
    """The cells that the terminal shows, as far as they were sent."""

    def __init__(self) -> None:
        self._size = Size()
        self._lines: dict[int, list[Cell | None]] = {}

    def forget(self) -> None:
        """Assume nothing about the cells on the terminal."""
        self._lines.clear()

    def fill(self, size: Size) -> None:
        """Prepare for drawing the whole screen; forgets the cells if the size changed."""
        if size != self._size:
            self._size = size
            self.forget()

    def take(self, drawn: Iterable[Piece], colors: ColorSystem) -> list[Run]:
        """Cells to send so that these pieces are shown; they count as sent from now on."""
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
    """An update of the screen that consists of runs of cells."""

    def __init__(self, sent: Sequence[Run]) -> None:
        self._sent = sent

    def render_segments(self, console: Console) -> str:
        """The text for the terminal: cursor position, then cells, of each run."""
        words: list[str] = []
        styled = ""
        for y, x, run in self._sent:
            words.append(f"\x1b[{y + 1};{x + 1}H")
            for char, style in run:
                if char != " " or sgr.of_blank(styled) != style:
                    words.append(sgr.change(styled, style))
                    styled = style
                words.append(char)
        return "".join(words) + ("\x1b[0m" if styled else "")


class DiffRenderer(App[None]):
    """An app that sends changed cells only, and redraws all after the terminal lost some."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._shown = TerminalState()

    def action_redraw(self) -> None:
        """Draw the whole screen again, in case another program wrote over it."""
        self._shown.forget()
        self.screen.refresh()

    def _check_resize(self) -> None:
        had_event = self._resize_event is not None
        super()._check_resize()
        if had_event and self._resize_event is None:
            self.action_redraw()

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        is_sent = self._running and not self._batch_count  # else Textual drops it
        if is_sent and isinstance(renderable, LayoutUpdate | ChopsUpdate):
            if isinstance(renderable, LayoutUpdate):
                self._shown.fill(renderable.region.size)
            colors = COLOR_SYSTEMS.get(self.console.color_system or "", ColorSystem.TRUECOLOR)
            sent = self._shown.take(pieces(renderable), colors)
            if not sent and self.cursor_position == self._previous_cursor_position:
                return
            renderable = CellChanges(sent)
        super()._display(screen, renderable)


class BaseScreen(Screen[None], inherit_bindings=False):
    """The screen under all dialogs.

    Without Textual's key bindings: there `tab` moves the focus, here it shows the next view.
    One widget can keep the focus: a question does, until it is answered.
    """

    AUTO_FOCUS = ""
    """Nothing: the view in front sets the focus."""

    def __init__(self) -> None:
        super().__init__(id="_default")
        self._keeper: Widget | None = None
        self._wanted: Widget | None = None

    def keep_focus(self, keeper: Widget, part: Widget) -> None:
        """Give the focus to `part`, and keep it within `keeper` until `release_focus`."""
        if self._keeper is None:
            self._wanted = self.focused
        self._keeper = keeper
        self.set_focus(part)

    def release_focus(self) -> None:
        """Give the focus to the widget that wanted it last, or had it before."""
        wanted, self._keeper, self._wanted = self._wanted, None, None
        if wanted is not None and wanted.is_attached and wanted.focusable:
            self.set_focus(wanted)
        else:
            self.set_focus(None)

    def set_focus(
        self, widget: Widget | None, scroll_visible: bool = True, from_app_focus: bool = False
    ) -> None:
        """Move the focus; while a widget keeps it, one outside of it gets it afterwards."""
        keeper = self._keeper
        if keeper is not None and (widget is None or keeper not in widget.ancestors_with_self):
            self._wanted = widget or self._wanted
            return
        super().set_focus(widget, scroll_visible, from_app_focus)
