"""The text field in which a filter of rows is written, in the language of all lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from modeldeck.tui.dashboard.commands import Command
from modeldeck.tui.text.filter_language import Language

SCOPE = "filter"

KEYS = (
    Command(
        name="keep",
        keys="enter",
        label="keep",
        help="Keep the filter, and go back to the rows.",
        action="keep_filter",
        changes=False,
    ),
    Command(
        name="clear",
        keys="escape",
        label="clear",
        help="Clear the filter.",
        action="app.back",
        changes=False,
    ),
    Command(
        name="complete",
        keys="tab",
        label="complete",
        help="Complete the test that is being written.",
        action="complete_filter",
        changes=False,
    ),
)
"""What the footer names while a filter is written."""


class FilterInput(Input):
    """Input of a filter; its arrow keys move the cursor of the table."""

    DEFAULT_CSS = """
    FilterInput { width: 1fr; min-width: 8; background: $background;
             &:focus { background: $surface; } }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "move(1)", show=False),
        Binding("up", "move(-1)", show=False),
        Binding("tab", "complete", show=False),
    ]

    @dataclass
    class Moved(Message):
        """The cursor of the table has to move."""

        by: int

    def __init__(self, hint: str, language: Callable[[], Language[Any]]) -> None:
        """Create an empty field.

        Args:
            hint: Shown while it is empty.
            language: Gives the tests of the rows at the time of the call.
        """
        super().__init__(compact=True, select_on_focus=False, placeholder=hint, id="filter")
        self._language = language

    @property
    def offers(self) -> tuple[str, ...]:
        """Tests that could be written next; none while other keys apply."""
        return self._language().offered(self.value) if self.has_focus else ()

    def action_move(self, by: int) -> None:
        """Move the cursor of the table."""
        self.post_message(self.Moved(by))

    def action_complete(self) -> None:
        """Take the first test that is offered."""
        self.value = self._language().completed(self.value)
        self.cursor_position = len(self.value)


class FilterLine(Horizontal):
    """A line with the filter and the number of rows that pass it; hidden without a filter."""

    DEFAULT_CSS = """
    FilterLine { height: 1; padding: 0 2; display: none; }
    FilterLine Static { width: auto; color: $text-muted; }
    """

    def __init__(self, hint: str, language: Callable[[], Language[Any]]) -> None:
        """`hint` and `language` are those of the field."""
        super().__init__(id="filter-line")
        self._hint = hint
        self._language = language

    def compose(self) -> ComposeResult:
        """Label, field, count."""
        yield Static("filter: ")
        yield FilterInput(self._hint, self._language)
        yield Static(id="filter-count")
