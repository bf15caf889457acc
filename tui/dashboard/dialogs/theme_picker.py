"""The theme picker: previews the theme under the cursor; `esc` restores the old one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.theme import Theme
from textual.widgets import Static

from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.bars import TextLines

if TYPE_CHECKING:
    from modeldeck.tui.dashboard.interface import DashboardInterface

SWATCHES = ("primary", "secondary", "accent", "success", "warning", "error")


class ThemePicker(ModalScreen[str | None]):
    """A narrow list at the right; the dashboard beside it is the preview."""

    DEFAULT_CSS = """
    ThemePicker { align: right middle; background: transparent; }
    ThemePicker #themes { width: 36; max-width: 100%; height: auto; max-height: 100%;
                          background: $surface; border: round $primary; padding: 0 1; }
    ThemePicker #keys { color: $text-muted; height: auto; }
    """

    BINDINGS = [  # noqa: RUF012 (Textual reads it from the class)
        Binding("escape,q,ctrl+t", "leave", "leave it as it was"),
        Binding("enter", "choose", "use", show=False),
        Binding("j,down", "move(1)", "down", show=False),
        Binding("k,up", "move(-1)", "up", show=False),
        Binding("pagedown,ctrl+d", "move(8)", "page down", show=False),
        Binding("pageup,ctrl+u", "move(-8)", "page up", show=False),
        Binding("g,home", "move(-1000)", "first", show=False),
        Binding("G,end", "move(1000)", "last", show=False),
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
        self._at = 0
        self._first = 0
        """First theme that is shown."""
        self._room = 1

    def compose(self) -> ComposeResult:
        """The themes with their colours, and the keys."""
        with Vertical(id="themes"):
            yield TextLines(id="theme-rows")
            yield Static(self._words(), id="keys", markup=False)

    def on_mount(self) -> None:
        """Put the cursor on the current theme."""
        self._before = self.app.theme
        names = [theme.name for theme in self._themes]
        self._at = names.index(self._before) if self._before in names else 0
        self._draw()

    def on_resize(self) -> None:
        """Draw for the new height."""
        self._draw()

    def _draw(self) -> None:
        """Draw the themes around the cursor, as many as there is room for."""
        keys = self._words().count("\n") + 1
        self._room = max(1, self.app.size.height - keys - 2)
        last = max(0, len(self._themes) - self._room)
        self._first = min(max(self._first, self._at - self._room + 1), self._at, last)
        shown = self._themes[self._first : self._first + self._room]
        rows = [self._row(theme, cursor=theme is self._themes[self._at]) for theme in shown]
        self.query_one("#theme-rows", TextLines).show(rows)

    def _row(self, theme: Theme, *, cursor: bool) -> Text:
        """Name, kind, and six colours of a theme."""
        glyphs = cast("DashboardInterface", self.app).glyphs
        block, sign = glyphs.full, glyphs.cursor if cursor else " "
        inks = ink(theme.to_color_system().generate())
        row = Text(f"{sign} {theme.name:<14} ", "bold" if cursor else "")
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

    def action_move(self, by: int) -> None:
        """Move the cursor, and preview the theme."""
        if self._themes:
            self._at = max(0, min(self._at + by, len(self._themes) - 1))
            self.app.theme = self._themes[self._at].name
            self._draw()

    def action_choose(self) -> None:
        """Close with the theme under the cursor."""
        self.dismiss(self._themes[self._at].name if self._themes else None)

    def on_click(self, event: events.Click) -> None:
        """Preview the theme that was clicked; a second click chooses it."""
        rows = self.query_one("#theme-rows", TextLines)
        x, y = int(event.screen_x), int(event.screen_y)
        place = y - rows.region.y + self._first
        if rows.region.contains(x, y) and place < len(self._themes):
            if place == self._at:
                self.action_choose()
            else:
                self.action_move(place - self._at)

    def action_leave(self) -> None:
        """Restore the old theme."""
        self.app.theme = self._before
        self.dismiss(None)
