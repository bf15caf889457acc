"""`ThemeChoice`: the themes of the dashboard, and choosing one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.app import App

from modeldeck.core.errors import DeckError
from modeldeck.tui.dashboard.theme import DEFAULT, Themes, fitting

if TYPE_CHECKING:
    from modeldeck.tui.dashboard.message_display import MessageDisplay


class ThemeChoice:
    """Shows one of the themes, as far as the terminal has colours for it."""

    def __init__(
        self,
        app: App[None],
        themes: Themes,
        messages: MessageDisplay,
        *,
        wanted: str,
        keep: Callable[[str], None] | None,
    ) -> None:
        """Register the themes, and show the wanted one.

        Args:
            app: Shows them.
            themes: The themes to choose from.
            messages: Where a choice is confirmed.
            wanted: Name of the theme in the configuration.
            keep: Saves the name of a chosen theme; may raise DeckError.
        """
        self._app = app
        self._themes = themes
        self._messages = messages
        self.keep = keep
        for theme in themes.themes:
            app.register_theme(theme)
        self.has_wanted = wanted in app.available_themes
        """Whether there is the theme of the configuration."""
        app.theme = self._fitting(wanted if self.has_wanted else DEFAULT)

    def _fitting(self, name: str) -> str:
        """The theme to show for the wanted one, by the colours of the terminal."""
        theme = self._app.available_themes[name]
        return fitting(theme, self._app.console.color_system, no_color=self._app.no_color)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the themes that this terminal can show."""
        names = (theme.name for theme in self._themes.themes)
        return tuple(name for name in names if self._fitting(name) == name)

    async def ask(self) -> None:
        """Choose a theme with a preview; call from a worker."""
        from modeldeck.tui.dashboard.dialogs.theme_picker import ThemePicker

        picker = ThemePicker(
            self._themes.themes,
            lambda theme: self._fitting(theme.name) == theme.name,
            self._themes.problems,
        )
        chosen = await self._app.push_screen_wait(picker)
        if chosen is not None:
            await self.choose(chosen)

    async def choose(self, name: str) -> None:
        """Show a theme from now on, and keep the choice."""
        self._app.theme = name
        if self.keep is None:
            return
        try:
            await asyncio.to_thread(self.keep, name)
        except DeckError as error:
            self._messages.say(str(error), "error")
        else:
            self._messages.say(f"The theme is {name} from now on.", "done")
