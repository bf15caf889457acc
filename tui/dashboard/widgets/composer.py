"""The composer: text field for messages to a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.message import Message
from textual.widgets import TextArea

from modeldeck.tui.dashboard.commands import Command, bindings
from modeldeck.tui.dashboard.widgets.footer import Entry

SCOPE = "composer"

COMMANDS = (
    Command(name="send", keys="enter", label="send", help="Send what is written.", priority=True),
    Command(
        name="stop",
        keys="escape",
        label="stop",
        help="Stop the answer that comes; else leave the text, so that letters are keys.",
        action="app.back",
    ),
    Command(
        name="line",
        keys="ctrl+j,shift+enter,alt+enter",
        label="new line",
        help="Begin a new line.",
        priority=True,
    ),
    Command(
        name="page_up",
        keys="pageup",
        label="page up",
        help="Scroll the conversation half a page up.",
        action="turn(-0.5)",
        footer=False,
        priority=True,
    ),
    Command(
        name="page_down",
        keys="pagedown",
        label="page down",
        help="Scroll the conversation half a page down.",
        action="turn(0.5)",
        footer=False,
        priority=True,
    ),
)
"""Commands while the composer has the focus."""

_LEAVE = Command(name="stop", keys="escape", label="keys", help="", action="app.back")
"""Label of the key that stops an answer, while none is generated."""


def keys_shown(*, talking: bool) -> Sequence[Entry]:
    """Keys in the footer while the composer has the focus."""
    shown = [command for command in COMMANDS if command.footer]
    return [
        (SCOPE, _LEAVE if command.name == "stop" and not talking else command) for command in shown
    ]


class Composer(TextArea):
    """Text field that grows with its lines."""

    DEFAULT_CSS = """
    Composer { height: auto; max-height: 6; border: none; padding: 0 1; background: $panel;
               scrollbar-size-vertical: 1; }
    Composer:focus { border: none; }
    Composer .text-area--cursor-line { background: transparent; }
    Composer .text-area--placeholder { color: $foreground; text-style: dim; }
    """

    BINDINGS = bindings(SCOPE, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    class Sent(Message):
        """The user sent the text."""

    @dataclass
    class Turned(Message):
        """The user scrolls the conversation, by a number of pages."""

        pages: float

    def __init__(self) -> None:
        super().__init__(compact=True, placeholder="Ask something")

    def action_send(self) -> None:
        """Send the text."""
        self.post_message(self.Sent())

    def action_line(self) -> None:
        """Begin a new line."""
        self.insert("\n")

    def action_turn(self, pages: float) -> None:
        """Scroll the conversation."""
        self.post_message(self.Turned(pages))
