"""Chat."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.widgets import Static

from tui.commands import Command, bindings
from tui.screens.view import View

COMMANDS: tuple[Command, ...] = ()


class Chat(View):
    """Chat."""

    NAME = "chat"
    TITLE = "Chat"
    COMMANDS: ClassVar[tuple[Command, ...]] = COMMANDS
    BINDINGS = bindings(NAME, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    def compose(self) -> ComposeResult:
        """Nothing yet."""
        yield Static(self.TITLE)
