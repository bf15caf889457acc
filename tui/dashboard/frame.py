"""`DashboardFrame`: the lowest screen of the dashboard, under all dialogs, and its parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from textual.app import App
from textual.screen import Screen
from textual.widget import Widget

from modeldeck.tui.dashboard.widgets.footer import Footer
from modeldeck.tui.dashboard.widgets.prompt import Prompt

PartT = TypeVar("PartT", bound=Widget)


class DashboardFrame:
    """Finds the parts of the lowest screen, as far as they are mounted.

    Timers and workers of the app run before the screen is there, and still while it is removed.
    """

    def __init__(self, app: App[None]) -> None:
        self._app = app

    @property
    def screen(self) -> Screen[Any]:
        """The lowest screen; IndexError where the app has none."""
        return self._app.screen_stack[0]

    @property
    def is_mounted(self) -> bool:
        """Whether the first frame is drawn, and not yet being removed."""
        return bool(self._app.screen_stack) and any(
            isinstance(part, Footer) for part in self.screen.children
        )

    @property
    def is_covered(self) -> bool:
        """Whether a dialog is in front of it."""
        return len(self._app.screen_stack) > 1

    def parts(self, kind: type[PartT]) -> Iterable[PartT]:
        """The widgets of this type; none while there is no screen."""
        return self.screen.query(kind).results() if self._app.screen_stack else ()

    @property
    def prompt(self) -> Prompt | None:
        """The widget that asks questions; None before it is created."""
        return next(iter(self.parts(Prompt)), None)
