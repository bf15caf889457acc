"""The theme picker: previews the theme under the cursor; `esc` restores the old one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.theme import Theme
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from modeldeck.tui.dashboard.theme import ink

if TYPE_CHECKING:
    from modeldeck.tui.dashboard.interface import DashboardInterface

SWATCHES = ("primary", "secondary", "accent", "success", "warning", "error")


class ThemePicker(ModalScreen[str | None]):
    """A narrow list at the right; the dashboard beside it is the preview."""

    DEFAULT_CSS = """
    ThemePicker { align: right middle; background: transparent; }
    ThemePicker #themes { width: 36; max-width: 100%; height: auto; max-height: 100%;
                          background: $surface; border: round $primary; padding: 0 1; }
    ThemePicker OptionList { height: auto; max-height: 1fr; background: $surface; border: none;
                             padding: 0; scrollbar-size-vertical: 1; }
    ThemePicker OptionList:focus { border: none; background-tint: transparent 0%; }
    ThemePicker #keys { color: $text-muted; height: auto; }
    """

    BINDINGS = [  # noqa: RUF012 (Textual reads it from the class)
        Binding("escape,q,ctrl+t", "leave", "leave it as it was"),
        Binding("j", "move('down')", "down", show=False),
        Binding("k", "move('up')", "up", show=False),
        Binding("g", "move('first')", "first", show=False),
        Binding("G", "move('last')", "last", show=False),
    ]

    def __init__(
        self, themes: Sequence[Theme], fits: Callable[[Theme], bool], problems: Sequence[str]
    ) -> None:
        """`fits` tells whether this terminal can show a theme; `problems` are files left out."""
        super().__init__()
        self._themes = tuple(theme for theme in themes if fits(theme))
        self._left_out = len(themes) - len(self._themes)
        self._problems = problems
        self._before = ""

    def compose(self) -> ComposeResult:
        """The themes with their colours, and the keys."""
        with Vertical(id="themes"):
            yield OptionList(*(Option(self._row(theme), theme.name) for theme in self._themes))
            yield Static(self._words(), id="keys", markup=False)

    def on_mount(self) -> None:
        """Put the cursor on the current theme."""
        self._before = self.app.theme
        names = [theme.name for theme in self._themes]
        options = self.query_one(OptionList)
        options.highlighted = names.index(self._before) if self._before in names else 0
        options.focus()

    def _row(self, theme: Theme) -> Text:
        """Name, kind, and six colours of a theme."""
        block = cast("DashboardInterface", self.app).glyphs.full
        inks = ink(theme.to_color_system().generate())
        row = Text(f"{theme.name:<16}")
        row.append(f"{'dark' if theme.dark else 'light':<6}" if not theme.ansi else "own   ", "dim")
        for name in SWATCHES:
            row.append(block, getattr(inks, name))
        return row

    def _words(self) -> str:
        words = ["enter use   esc keep the old one"]
        if self._left_out:
            words.append(f"{self._left_out} more need 256 colours")
        if self._problems:
            words.append(f"{len(self._problems)} could not be read: see Log")
        return "\n".join(words)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Preview the theme."""
        if event.option.id is not None:
            self.app.theme = event.option.id

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Close with the chosen theme."""
        self.dismiss(event.option.id)

    def action_leave(self) -> None:
        """Restore the old theme."""
        self.app.theme = self._before
        self.dismiss(None)

    def action_move(self, where: str) -> None:
        """Move the cursor."""
        options = self.query_one(OptionList)
        getattr(options, f"action_{'cursor_' if where in ('up', 'down') else ''}{where}")()
