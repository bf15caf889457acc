"""`View`: what the five screens have in common.

The state comes down by `data_bind`; a view never asks for it. A verb is an `action_<name>` method
that hands its work to `perform`, which runs it beside the screen, and turns what comes of it into a
notice: the receipt, or the error with what to do about it.
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
    """One of the screens, inside the frame of top line, notice and footer."""

    NAME: ClassVar[str]
    """Its id, and the scope of its commands."""
    TITLE: ClassVar[str]
    """Its word in the footer."""
    COMMANDS: ClassVar[tuple[Command, ...]] = ()
    MORE: ClassVar[tuple[Part, ...]] = ()
    """Further keys for the help: such as those that hold while one writes."""

    state: var[State | None] = var(None)
    """The newest State of the core; None before the first."""

    @property
    def dashboard(self) -> DashboardInterface:
        """The app, typed."""
        return cast("DashboardInterface", self.app)

    def key_of(self, name: str) -> str:
        """The key of one of its commands, as the person has it."""
        return self.dashboard.key_of(f"{self.NAME}.{name}")

    def perform(
        self,
        doing: Callable[[Client], Awaitable[T]],
        done: Callable[[T], str] | None = None,
        *,
        group: str = "",
    ) -> None:
        """Run a verb beside the screen; `done` words its receipt. In a group the newest wins."""
        self.dashboard.perform(doing, done, group=group)

    async def confirm(self, lines: Sequence[str], verb: str) -> bool:
        """Show a plan and ask; True when the person says `verb`. Call from a worker."""
        return await self.dashboard.confirm(lines, verb)

    async def ask(self, label: str, value: str = "", hint: str = "") -> str | None:
        """One line of text from the person; None when they thought better of it."""
        return await self.dashboard.ask(label, value, hint)

    async def enter(
        self, label: str, value: str, hint: str, read: Callable[[str], T], act: Callable[[T], None]
    ) -> None:
        """Ask for a line until `read` makes something of it, and do that; call from a worker.

        Nothing is done where the person thought better of it, or left what stood there.
        """
        text = value
        while (answer := await self.ask(label, text, hint)) is not None and answer != value:
            try:
                meant = read(answer)
            except InvalidRequest as error:
                text, hint = answer, str(error)
            else:
                act(meant)
                return

    def at_stake(self) -> str:
        """What would be lost if the person left now, as a sentence; empty for nothing."""
        return ""

    def keys_shown(self) -> Sequence[Entry]:
        """What the footer shows of this view now; the app is told of a change by `keys_changed`."""
        return [(self.NAME, command) for command in self.COMMANDS if command.footer]

    @property
    def writing(self) -> bool:
        """Whether letters are text now, so that no single letter is a key."""
        return False

    def activated(self) -> None:
        """The view came to the front: give the focus to where the keys belong."""

    def undone(self) -> None:
        """An action was taken back: look again at what the State does not tell."""

    def dismiss(self) -> bool:
        """Go back one step (`esc`); False when there is no step to go back."""
        return False
