"""The help screen: keys of the view in front, and global keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.style import Style
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Static

from modeldeck.tui.dashboard.commands import Command, keys_of
from modeldeck.tui.dashboard.dialogs.overlay import Overlay
from modeldeck.tui.dashboard.theme import ThemeStyles, ink

Part = tuple[str, str, Sequence[Command]]
"""A heading, the scope of its commands, and the commands."""


class HelpScreen(Overlay):
    """List of keys, made from the declarations of the commands."""

    BINDINGS = [Binding("question_mark", "dismiss", "close")]  # noqa: RUF012 (as in `Overlay`)

    def __init__(self, parts: Sequence[Part], keymap: Mapping[str, str]) -> None:
        super().__init__()
        self._parts = [part for part in parts if part[2]]
        self._keymap = keymap

    def compose(self) -> ComposeResult:
        """One row per command, under headings."""
        with self.paper("Keys"):
            for number, (heading, scope, commands) in enumerate(self._parts):
                yield Static(self._heading(heading, first=number == 0))
                yield Static(self._rows(scope, commands))

    def _heading(self, text: str, *, first: bool) -> Text:
        return Text(("" if first else "\n") + text, self._inks.primary + Style(bold=True))

    def _rows(self, scope: str, commands: Sequence[Command]) -> Table:
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(width=self._keys_width(), no_wrap=True)
        grid.add_column(ratio=1)
        for command in commands:
            keys = " ".join(keys_of(command, scope, self._keymap))
            grid.add_row(Text(f" {keys}", "bold"), Text(command.help))
        return grid

    def _keys_width(self) -> int:
        """Width of the widest keys, so that all help texts are aligned."""
        return 1 + max(
            (
                len(" ".join(keys_of(command, scope, self._keymap)))
                for _, scope, commands in self._parts
                for command in commands
            ),
            default=0,
        )

    @property
    def _inks(self) -> ThemeStyles:
        """The styles of the theme."""
        return ink(self.app.theme_variables)
