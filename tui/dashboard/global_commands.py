"""Commands that apply on every screen."""

from __future__ import annotations

from modeldeck.tui.dashboard.commands import Command
from modeldeck.tui.dashboard.screens import VIEWS

COMMANDS = (
    *(
        Command(
            name=view.name,
            action=f"show('{view.name}')",
            keys=str(number),
            label=view.title,
            help=f"Go to {view.title}.",
            footer=False,
        )
        for number, view in enumerate(VIEWS, 1)
    ),
    Command(name="next", keys="tab", label="next", help="Go to the next screen.", footer=False),
    Command(
        name="previous",
        keys="shift+tab",
        label="previous",
        help="Go to the screen before.",
        footer=False,
    ),
    Command(name="back", keys="escape", label="back", help="Go back one step.", footer=False),
    Command(name="help", keys="question_mark", label="help", help="Show every key of this screen."),
    Command(name="theme", keys="ctrl+t", label="theme", help="Choose a theme.", footer=False),
    Command(
        name="retry",
        keys="ctrl+r",
        label="reach the core",
        help="Reconnect to the core; start it if needed.",
        footer=False,
    ),
    Command(
        name="undo",
        keys="z",
        label="take back",
        help="Undo the last cancel or removal (deleted files cannot come back).",
        footer=False,
    ),
    Command(
        name="redraw",
        keys="ctrl+l",
        label="draw again",
        help="Redraw the screen.",
        footer=False,
    ),
    Command(
        name="suspend",
        action="suspend_process",
        keys="ctrl+z",
        label="suspend",
        help="Suspend; `fg` comes back.",
        footer=False,
    ),
    Command(
        name="interrupt",
        keys="ctrl+c",
        label="interrupt",
        help="Copy what is selected; else call a question off; else leave.",
        footer=False,
        priority=True,
    ),
    Command(
        name="leave", keys="q", label="quit", help="Quit; downloads and loaded models keep running."
    ),
)
"""Commands on every screen."""

FLEET = (
    Command(
        name="fleet",
        action="show('fleet')",
        keys="6",
        label="Fleet",
        help="Go to Fleet: every machine on one line.",
        footer=False,
    ),
    Command(name="machine", keys="ctrl+o", label="next machine", help="Go to the next machine."),
)
"""Additional commands where there are several machines."""


def turns(command: Command) -> bool:
    """Whether the command shows another view."""
    return command.name in ("next", "previous") or command.action.startswith("show(")
