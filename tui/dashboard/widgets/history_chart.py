"""Chart of recent values of a figure, as high as there is room."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Sparkline

from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.bars import TextLines
from modeldeck.tui.text.format import Glyphs


class HistoryChart(Vertical):
    """A caption, and below it Textual's sparkline with the newest value at the right.

    It spans from the smallest to the largest value, which the caption names, so that changes are
    visible beside a large constant part.
    """

    DEFAULT_CSS = """
    HistoryChart {
        height: 8; padding: 1 2 0 2;
        & > Horizontal { height: 1fr; }
        & #past-unknown { width: 1fr; height: 1; dock: bottom; }
        & Sparkline { dock: right; height: 100%; }
    }
    """

    def __init__(self, glyphs: Glyphs, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._glyphs = glyphs

    def compose(self) -> ComposeResult:
        """The caption, the part without values, and the sparkline."""
        yield TextLines(id="past-words")
        with Horizontal():
            yield TextLines(id="past-unknown")
            yield Sparkline([])

    def show(
        self, values: Sequence[float | None], step: float, words: Text, inks: ThemeStyles
    ) -> None:
        """Show one value per cell; values are rounded to `step`, so that noise draws nothing."""
        self.query_one("#past-words", TextLines).show([words])
        known = [value for value in values if value is not None]
        unknown = self._glyphs.unknown * max(0, self.size.width - len(known))
        self.query_one("#past-unknown", TextLines).show([Text(unknown, inks.muted)])
        line = self.query_one(Sparkline)
        line.styles.width = len(known)
        drawn = [round(value / step) * step for value in known]
        if len(drawn) == 1:
            drawn *= 2  # a single value would fill the whole chart
        if drawn != line.data:
            line.data = drawn
