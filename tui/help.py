"""The help screen: every key of the view in front, and those that hold everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.style import Style
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.commands import Command, keys_of
from tui.theme import Ink, ink

Part = tuple[str, str, Sequence[Command]]
"""A heading, the scope of its commands, and the commands."""


class Help(ModalScreen[None]):
    """Made of the declarations that bind the keys, so it cannot lie."""

    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help VerticalScroll { width: 78; max-width: 100%; height: auto; max-height: 100%;
                          background: $surface; border: round $primary; padding: 0 1;
                          border-title-color: $primary; border-subtitle-color: $text-muted;
                          scrollbar-size-vertical: 1; }
    Help:ansi { background: ansi_default; }
    """

    BINDINGS = [  # noqa: RUF012 (Textual reads it from the class)
        Binding("escape,question_mark,q", "dismiss", "close"),
        Binding("j,down", "scroll(1)", "down", show=False),
        Binding("k,up", "scroll(-1)", "up", show=False),
        Binding("ctrl+d,pagedown,space", "turn(1)", "page down", show=False),
        Binding("ctrl+u,pageup", "turn(-1)", "page up", show=False),
        Binding("g,home", "end(False)", "top", show=False),
        Binding("G,end", "end(True)", "bottom", show=False),
    ]

    def __init__(self, parts: Sequence[Part], keymap: Mapping[str, str]) -> None:
        super().__init__()
        self._parts = [part for part in parts if part[2]]
        self._keymap = keymap

    def compose(self) -> ComposeResult:
        """One row a command, under its heading."""
        with VerticalScroll() as page:
            page.border_title = "Keys"
            page.border_subtitle = "j k scroll, esc closes"
            for number, (heading, scope, commands) in enumerate(self._parts):
                yield Static(self._heading(heading, first=number == 0))
                yield Static(self._rows(scope, commands))

    def on_mount(self) -> None:
        """The page has the keys."""
        self.query_one(VerticalScroll).focus()

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
        """The widest keys of all, so that every heading's sentences stand in one column."""
        return 1 + max(
            (
                len(" ".join(keys_of(command, scope, self._keymap)))
                for _, scope, commands in self._parts
                for command in commands
            ),
            default=0,
        )

    @property
    def _inks(self) -> Ink:
        """The styles of the theme."""
        return ink(self.app.theme_variables)

    def action_scroll(self, lines: int) -> None:
        """Scroll by so many lines."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    def action_turn(self, pages: int) -> None:
        """Scroll by so many pages."""
        page = self.query_one(VerticalScroll)
        page.scroll_relative(y=pages * max(1, page.size.height - 1), animate=False)

    def action_end(self, bottom: bool) -> None:
        """Go to the first or the last line."""
        page = self.query_one(VerticalScroll)
        (page.scroll_end if bottom else page.scroll_home)(animate=False)
