"""The bar above the catalog: kind shown, order, filter, and counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from modeldeck.tui.dashboard.screens.catalog.cells import CellPainter
from modeldeck.tui.dashboard.screens.catalog.rows import CatalogSort, ModelCounts, Show

WIDE = 120
"""Width in cells from which on all kinds are listed."""
MEDIUM = 70
"""Width in cells from which on the order is shown."""


class FilterInput(Input):
    """Input of the filter; its arrow keys move the cursor of the table."""

    DEFAULT_CSS = """
    FilterInput { width: 1fr; min-width: 8; background: $background;
             &:focus { background: $surface; } }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "move(1)", show=False),
        Binding("up", "move(-1)", show=False),
    ]

    @dataclass
    class Moved(Message):
        """The cursor of the table has to move."""

        by: int

    def __init__(self, hint: str) -> None:
        super().__init__(compact=True, select_on_focus=False, placeholder=hint, id="filter")

    def action_move(self, by: int) -> None:
        """Move the cursor of the table."""
        self.post_message(self.Moved(by))


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
        yield FilterInput(self._hint)
        yield Static(id="bar-count")

    def show(
        self, show: Show, sort: CatalogSort, glance: ModelCounts, count: str, painter: CellPainter
    ) -> None:
        """Show kind and order, and the numbers of local, moving and failed models."""
        text, muted = Text(), painter.ink("muted")
        if self.size.width >= WIDE:
            text.append("Show: ", muted)
            for one in Show:
                text.append(
                    f"[{one}]" if one is show else f" {one} ", "bold" if one is show else ""
                )
            text.append("   ")
        else:
            text.append(f"[{show}]  ", "bold")
        if self.size.width >= MEDIUM:
            text.append("sort: ", muted).append(f"{sort}   ")
            text.append("filter: ", muted)
        self._put("#bar-show", text)
        self._put("#bar-count", self._counts(glance, painter).append(f"  {count}", muted))

    def _counts(self, glance: ModelCounts, painter: CellPainter) -> Text:
        """Signs with their numbers, without zeros."""
        signs = painter.glyphs
        text = Text()
        for sign, number, ink in (
            (signs.done, glance.here, "success"),
            (signs.down, glance.moving, "accent"),
            (signs.failed, glance.failed, "error"),
        ):
            if number:
                text.append(f"  {sign}", painter.ink(ink)).append(f" {number}")
        return text

    def _put(self, where: str, text: Text) -> None:
        before = self._drawn.get(where)
        if before is None or before != text or before.spans != text.spans:
            self._drawn[where] = text
            self.query_one(where, Static).update(text)
