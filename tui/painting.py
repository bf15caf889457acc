"""The screen of the dashboard: of a line that changed in part, only that part is sent.

Textual 8.2 knows which cells of a widget are to be drawn again, but sends every such line from the
widget's left edge, once for each run of cells that changed. On a table with eight downloads that is
ten times what changed. Nor does it draw anything where a terminal was small for a moment and has
its size again, though it has lost cells. What is overridden here is private to Textual, so tests
hold it in place: where Textual comes to do this by itself, this module can go.
"""

from __future__ import annotations

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor
from textual.app import App
from textual.screen import Screen
from textual.scrollbar import ScrollBar

from tui.widgets.scrollbar import Rail

ScrollBar.renderer = Rail  # the class holds it: every scrollbar of the program is drawn so


class CellsUpdate(ChopsUpdate):
    """Runs of cells, each sent from its first to its last."""

    def render_segments(self, console: Console) -> str:
        """What the terminal is sent."""
        sent: list[str] = []
        for y, start, end in self.spans:
            for chop_end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                first, last = max(start, x), min(end, chop_end)
                if strip is not None and first < last:
                    sent.append(Control.move_to(first, y).segment.text)
                    sent.append(strip.crop(first - x, last - x).simplify().render(console))
        return "".join(sent)


class CellsCompositor(Compositor):
    """Hands out `CellsUpdate`s."""

    def render_partial_update(self) -> ChopsUpdate | None:
        """The cells that changed since the last one."""
        update = super().render_partial_update()
        if update is None:
            return None
        return CellsUpdate(update.chops, update.spans, update.chop_ends)


class Frame(Screen[None], inherit_bindings=False):
    """The screen that everything else lies on.

    Textual's own screen has `tab` for the focus; here it goes round the views.
    """

    AUTO_FOCUS = ""
    """The view in front says where the keys go, also those that are pressed before it stands."""

    def __init__(self) -> None:
        super().__init__(id="_default")
        self._compositor = CellsCompositor()


class Painted(App[None]):
    """An app whose screen is whole after every change of the terminal's size."""

    def _check_resize(self) -> None:
        event = self._resize_event
        super()._check_resize()
        is_told = self._resize_event is None
        if event is not None and is_told and event.size == self.screen.size:
            self.screen.refresh()
