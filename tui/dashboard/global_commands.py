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
            changes=False,
        )
        for number, view in enumerate(VIEWS, 1)
    ),
    Command(
        name="next",
        keys="tab",
        label="next",
        help="Go to the next screen.",
        footer=False,
        changes=False,
    ),
    Command(
        name="previous",
        keys="shift+tab",
        label="previous",
        help="Go to the screen before.",
        footer=False,
        changes=False,
    ),
    Command(
        name="back",
        keys="escape",
        label="back",
        help="Go back one step.",
        footer=False,
        changes=False,
    ),
    Command(
        name="everything",
        keys="ctrl+p",
        label="all commands",
        help="List all that can be gone to or done.",
        footer=False,
        priority=True,
        changes=False,
    ),
    Command(
        name="earlier",
        keys="minus",
        label="previous place",
        help="Go back to the view and the row before; the last 20 are kept.",
        footer=False,
        priority=True,
        changes=False,
    ),
    Command(
        name="later",
        keys="plus",
        label="following place",
        help="Go forward again.",
        footer=False,
        priority=True,
        changes=False,
    ),
    Command(
        name="help",
        keys="question_mark",
        label="help",
        help="Show every key of this screen.",
        changes=False,
    ),
    Command(
        name="go_to",
        keys="colon",
        label="go to",
        help="Go to a view, a model, a command, by its name.",
        changes=False,
    ),
    Command(
        name="theme",
        keys="ctrl+t",
        label="theme",
        help="Choose a theme.",
        footer=False,
        changes=False,
    ),
    Command(
        name="retry",
        keys="ctrl+r",
        label="reconnect",
        help="Reconnect to the core; start it if needed.",
        footer=False,
        changes=False,
    ),
    Command(
        name="undo",
        keys="z",
        label="undo",
        help="Undo the last cancel or removal (deleted files cannot come back).",
        footer=False,
    ),
    Command(
        name="redraw",
        keys="ctrl+l",
        label="redraw",
        help="Redraw the screen.",
        footer=False,
        changes=False,
    ),
    Command(
        name="suspend",
        action="suspend_process",
        keys="ctrl+z",
        label="suspend",
        help="Suspend; `fg` comes back.",
        footer=False,
        changes=False,
    ),
    Command(
        name="interrupt",
        keys="ctrl+c",
        label="interrupt",
        help="Copy the selection; else cancel the question; else quit.",
        footer=False,
        priority=True,
        changes=False,
    ),
    Command(
        name="leave",
        keys="q",
        label="quit",
        help="Quit; downloads and loaded models keep running.",
        changes=False,
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
        changes=False,
    ),
    Command(
        name="machine",
        keys="ctrl+o",
        label="next machine",
        help="Go to the next machine.",
        footer=False,
        changes=False,
    ),
)
"""Additional commands where there are several machines."""


def everywhere(*, several: bool, only: str | None) -> tuple[Command, ...]:
    """The commands offered on every screen, for one machine or several.

    Where there is `only` one screen, those that show another are left out.
    """
    commands = COMMANDS + (FLEET if several else ())
    if only is not None:
        commands = tuple(command for command in commands if not _shows_view(command))
    return commands


def _shows_view(command: Command) -> bool:
    return command.name in ("next", "previous") or command.action.startswith("show(")
