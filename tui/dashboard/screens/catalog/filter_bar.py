"""The bar above the catalog: kind shown, order, filter, and counts."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

from modeldeck.tui.dashboard.screens.catalog.cells import CellPainter
from modeldeck.tui.dashboard.screens.catalog.filters import LANGUAGE
from modeldeck.tui.dashboard.screens.catalog.rows import ModelCounts, Show
from modeldeck.tui.dashboard.widgets.bars import alike
from modeldeck.tui.dashboard.widgets.filter_input import FilterInput

WIDE = 120
"""Width in cells from which on everything is told in words."""
MEDIUM = 70
"""Width in cells from which on the order is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BarFacts:
    """What the bar tells."""

    show: Show
    order: str
    """Title of the column that rows are sorted by, with the sign of the direction."""
    glance: ModelCounts
    listed: int
    total: int
    hub: int = 0
    """Results of the Hub that are shown."""
    marked: int = 0
    hidden: int = 0
    """Marked rows that are not shown."""

    @property
    def narrowed(self) -> bool:
        """Whether not all models are listed."""
        return self.listed != self.total


class FilterBar(Horizontal):
    """Bar with the filter."""

    DEFAULT_CSS = """
    FilterBar { height: 1; padding: 0 1;
          & > Static { width: auto; } }
    """

    def __init__(self, hint: str) -> None:
        """`hint` is shown while the filter is empty."""
        super().__init__(id="bar")
        self._hint = hint
        self._drawn: dict[str, Text] = {}

    def compose(self) -> ComposeResult:
        """Kind shown, filter, count."""
        yield Static(id="bar-show")
        yield FilterInput(self._hint, lambda: LANGUAGE)
        yield Static(id="bar-count")

    def show(self, facts: BarFacts, painter: CellPainter) -> None:
        """Show kind and order, marks, and numbers."""
        width, muted = self.outer_size.width, painter.ink("muted")
        text = Text.assemble((f"[{facts.show}]", "bold"), "  ")
        if width >= MEDIUM:
            text.append("sort: ", muted).append(f"{facts.order}   ")
        if width >= WIDE:
            text.append("filter: ", muted)
        self._put("#bar-show", text)
        counts = Text("  ").append_text(_marks(facts, painter, width))
        counts.append_text(_signs(facts.glance, painter))
        self._put("#bar-count", counts.append(_numbers(facts, width), muted))

    def _put(self, where: str, text: Text) -> None:
        before = self._drawn.get(where)
        if before is None or not alike(before, text):
            self._drawn[where] = text
            self.query_one(where, Static).update(text)


def _marks(facts: BarFacts, painter: CellPainter, width: int) -> Text:
    """The number of marked rows, and how many of them are not shown."""
    if not facts.marked:
        return Text()
    words = f"{painter.glyphs.mark} {facts.marked}"
    if width >= WIDE:
        words += " marked"
    if facts.hidden:
        words += f" ({facts.hidden} hidden)"
    gap = "   " if width >= MEDIUM else "  "
    return Text(words, painter.ink("accent")).append(gap)


def _signs(glance: ModelCounts, painter: CellPainter) -> Text:
    """Signs with their numbers, without zeros."""
    signs, text = painter.glyphs, Text()
    for sign, number, ink in (
        (signs.done, glance.here, "success"),
        (signs.down, glance.moving, "accent"),
        (signs.failed, glance.failed, "error"),
    ):
        if number:
            text.append(sign, painter.ink(ink)).append(f" {number}  ")
    return text


def _numbers(facts: BarFacts, width: int) -> str:
    """How many models are listed, of how many; and results of the Hub where there is room."""
    words = f"{facts.listed} of {facts.total}" if facts.narrowed else str(facts.total)
    if not facts.narrowed and width >= MEDIUM:
        words = f" {words} model{'' if facts.total == 1 else 's'}"
    elif width >= MEDIUM:
        words = f" {words}"
    return f"{words} · {facts.hub} on the Hub" if facts.hub and width >= WIDE else words
