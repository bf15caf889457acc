"""`DashboardInterface`: what screens and dialogs may use of the app.

Screens import this protocol, never the app: so imports run in one direction, and each use of the
app by a screen is listed here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from textual.signal import Signal
    from textual.theme import Theme
    from textual.worker import Worker

    from modeldeck.core.client.client import Client
    from modeldeck.tui.dashboard.fleet import FleetMachine
    from modeldeck.tui.dashboard.widgets.notice import NoticeMessage, Severity
    from modeldeck.tui.remote.core_link import CoreLink
    from modeldeck.tui.text.format import Glyphs

T = TypeVar("T")
WidgetT = TypeVar("WidgetT")


class DashboardInterface(Protocol):
    """The app as its screens and dialogs see it."""

    glyphs: Glyphs
    """Characters that this terminal can show."""
    messages: deque[NoticeMessage]
    """Notices so far, the newest last."""
    stations: tuple[FleetMachine, ...]
    """The machines of this dashboard."""
    theme_changed_signal: Signal[Theme]
    """Published after another theme was chosen."""

    @property
    def current(self) -> str:
        """Name of the screen in front."""

    @current.setter
    def current(self, name: str) -> None: ...

    @property
    def link(self) -> CoreLink:
        """Link to the core that is shown."""

    @property
    def station(self) -> FleetMachine:
        """The machine that is shown."""

    @property
    def theme_variables(self) -> dict[str, str]:
        """Colours of the theme, by variable name."""

    def key_of(self, name: str) -> str:
        """The key of a command such as `catalog.download`, as the user has it."""

    def keys_changed(self) -> None:
        """Draw the footer again, with the keys that apply now."""

    def perform(
        self,
        doing: Callable[[Client], Awaitable[T]],
        done: Callable[[T], str] | None = None,
        *,
        group: str = "",
    ) -> Worker[None]:
        """Run `doing` in a worker; an error becomes a notice, and so does the receipt from `done`.

        Within a `group`, a new worker cancels the one before.
        """

    def say(self, text: str, severity: Severity = "note") -> None:
        """Show a notice."""

    async def confirm(self, lines: Sequence[str], verb: str) -> bool:
        """Show a plan and ask; True when the user says `verb`. Call from a worker."""

    async def ask(self, label: str, value: str = "", hint: str = "") -> str | None:
        """Ask for one line of text; None when cancelled. Call from a worker."""

    def action_show(self, name: str) -> None:
        """Bring a screen to the front."""

    def query_one(self, selector: type[WidgetT]) -> WidgetT:
        """The widget of this type."""

    def go(self, at: int) -> None:
        """Show another machine, by its place in `stations`."""

    def again(self, at: int) -> None:
        """Reconnect to the core of a machine, unless it answers."""
