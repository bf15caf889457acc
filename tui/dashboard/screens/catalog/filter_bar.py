"""The line above the catalog: what is shown, in which order, the filter, and how many."""

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
"""Cells from which on all that can be shown is listed."""
MEDIUM = 70
"""Cells from which on the order is named."""


class FilterInput(Input):
    """The words to filter by; the arrows move in the table meanwhile."""

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
        """The cursor of the table shall move."""

        by: int

    def __init__(self, hint: str) -> None:
        super().__init__(compact=True, select_on_focus=False, placeholder=hint, id="filter")

    def action_move(self, by: int) -> None:
        """Move in the table."""
        self.post_message(self.Moved(by))


class FilterBar(Horizontal):
    """One line."""

    DEFAULT_CSS = """
    FilterBar { height: 1; padding: 0 1;
          & > Static { width: auto; } }
    """

    def __init__(self, hint: str) -> None:
        """`hint` stands where the filter is empty."""
        super().__init__(id="bar")
        self._hint = hint
        self._drawn: dict[str, Text] = {}

    def compose(self) -> ComposeResult:
        """What is shown, the filter, the count."""
        yield Static(id="bar-show")
        yield FilterInput(self._hint)
        yield Static(id="bar-count")

    def show(
        self, show: Show, sort: CatalogSort, glance: ModelCounts, count: str, painter: CellPainter
    ) -> None:
        """Say what is shown, and of all models how many are here, moving and failed."""
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
        """Signs with their numbers, as far as there is something to count."""
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
