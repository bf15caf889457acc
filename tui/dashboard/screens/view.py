"""`View`: base class of all screens.

The app sets `state` through `data_bind`; a view never requests it. An action is a method
`action_<name>` that hands its work to `perform`, which runs it in a worker and shows the receipt or
the error as a notice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from textual.containers import Vertical
from textual.reactive import var

from modeldeck.core.errors import InvalidRequest
from modeldeck.tui.dashboard.commands import Command
from modeldeck.tui.dashboard.dialogs.help_screen import Part
from modeldeck.tui.dashboard.widgets.footer import Entry

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.schema.state import State
    from modeldeck.tui.dashboard.interface import DashboardInterface

T = TypeVar("T")


class View(Vertical, can_focus=False):
    """A screen between the status bar and the footer."""

    NAME: ClassVar[str]
    """Its id, and the scope of its commands in the keymap."""
    TITLE: ClassVar[str]
    """Its name in the footer."""
    COMMANDS: ClassVar[tuple[Command, ...]] = ()
    MORE: ClassVar[tuple[Part, ...]] = ()
    """Further keys for the help, such as those while writing."""

    state: var[State | None] = var(None)
    """The newest State of the core; None before the first."""

    @property
    def dashboard(self) -> DashboardInterface:
        """The app, as screens may use it."""
        return cast("DashboardInterface", self.app)

    def key_of(self, name: str) -> str:
        """The key of one of its commands, as the user has it."""
        return self.dashboard.key_of(f"{self.NAME}.{name}")

    def perform(
        self,
        doing: Callable[[Client], Awaitable[T]],
        done: Callable[[T], str] | None = None,
        *,
        group: str = "",
    ) -> None:
        """Run an action in a worker: see `DashboardInterface.perform`."""
        self.dashboard.perform(doing, done, group=group)

    async def confirm(self, lines: Sequence[str], verb: str) -> bool:
        """Show a plan and ask; True when the user confirms. Call from a worker."""
        return await self.dashboard.confirm(lines, verb)

    async def ask(self, label: str, value: str = "", hint: str = "") -> str | None:
        """Ask for one line of text; None when cancelled. Call from a worker."""
        return await self.dashboard.ask(label, value, hint)

    async def enter(
        self, label: str, value: str, hint: str, read: Callable[[str], T], act: Callable[[T], None]
    ) -> None:
        """Ask for a line until `read` can parse it, then call `act`; call from a worker.

        `read` raises InvalidRequest, which becomes the new hint. `act` is not called when the user
        cancels or leaves the value unchanged.
        """
        text = value
        while (answer := await self.ask(label, text, hint)) is not None and answer != value:
            try:
                parsed = read(answer)
            except InvalidRequest as error:
                text, hint = answer, str(error)
            else:
                act(parsed)
                return

    def at_stake(self) -> str:
        """What leaving now would lose, as a sentence; empty for nothing."""
        return ""

    def keys_shown(self) -> Sequence[Entry]:
        """Keys of this view in the footer; call `dashboard.keys_changed` after a change."""
        return [(self.NAME, command) for command in self.COMMANDS if command.footer]

    @property
    def writing(self) -> bool:
        """Whether a text field has the focus, so that letters are no keys."""
        return False

    def activated(self) -> None:
        """Set the focus, after the view came to the front."""

    def undone(self) -> None:
        """Reload data that is not part of State, after an action was undone."""

    def dismiss(self) -> bool:
        """Go back one step (`esc`); False when there is no step to go back."""
        return False
