"""`HelpOpener`: opens the help with the keys of a view."""

from __future__ import annotations

from textual.app import App

from modeldeck.tui.dashboard.command_registry import CommandRegistry
from modeldeck.tui.dashboard.dialogs.help_screen import HelpScreen
from modeldeck.tui.dashboard.dialogs.legends import legends
from modeldeck.tui.dashboard.view_switch import ViewSwitch
from modeldeck.tui.dashboard.widgets import table_commands
from modeldeck.tui.text.format import Glyphs


class HelpOpener:
    """Opens the help of a view above the dashboard."""

    def __init__(
        self, app: App[None], views: ViewSwitch, commands: CommandRegistry, glyphs: Glyphs
    ) -> None:
        self._app = app
        self._views = views
        self._commands = commands
        self._glyphs = glyphs

    def show(self, name: str = "", words: str = "") -> None:
        """Show the keys of a view (of the one in front without a name), searched for words."""
        view = self._views.created(name) if name else self._views.front
        if view is None:
            return
        lists = table_commands.COMMANDS if view.query("Table") else ()
        parts = [
            (view.TITLE, view.NAME, view.COMMANDS),
            *view.MORE,
            ("Lists", table_commands.SCOPE, lists),
            ("Everywhere", "app", self._commands.everywhere),
        ]
        self._app.push_screen(
            HelpScreen(
                parts,
                self._commands.keymap,
                legends=legends(self._glyphs),
                words=words,
                is_refused=self._commands.is_refused,
            )
        )
