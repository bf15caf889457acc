"""The help screen: every key of the view in front, and those that hold everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.commands import Command, keys_of


class Help(ModalScreen[None]):
    """Made of the declarations that bind the keys, so it cannot lie."""

    DEFAULT_CSS = """
    Help { align: center middle; }
    Help VerticalScroll { width: 76; max-width: 100%; height: auto; max-height: 100%;
                          background: $surface; border: round $primary; padding: 0 1; }
    """

    BINDINGS = [  # noqa: RUF012 (Textual reads it from the class)
        Binding("escape,question_mark,q", "dismiss", "close"),
        Binding("j,down", "scroll(1)", "down", show=False),
        Binding("k,up", "scroll(-1)", "up", show=False),
    ]

    def __init__(
        self, parts: Sequence[tuple[str, str, Sequence[Command]]], keymap: Mapping[str, str]
    ) -> None:
        """`parts`: a heading, the scope of its commands, and the commands."""
        super().__init__()
        self._parts = parts
        self._keymap = keymap

    def compose(self) -> ComposeResult:
        """One row a command."""
        with VerticalScroll():
            yield Static(self._rows(), markup=False)

    def _rows(self) -> Text:
        text = Text()
        for heading, scope, commands in self._parts:
            text.append(f"{heading}\n", "bold")
            for command in commands:
                keys = " ".join(keys_of(command, scope, self._keymap))
                text.append(f"  {keys:<14}", "bold").append(f"{command.help}\n")
            text.append("\n")
        return text

    def action_scroll(self, lines: int) -> None:
        """Scroll by so many lines."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)
