"""`GoToNavigation`: opens the go-to line, does what is chosen there, and goes to earlier places."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from textual.widget import Widget
from textual.widgets import Input
from textual.worker import Worker

from modeldeck.tui.dashboard.command_registry import CommandRegistry
from modeldeck.tui.dashboard.commands import Command
from modeldeck.tui.dashboard.fleet import MachineSwitch
from modeldeck.tui.dashboard.frame import DashboardFrame
from modeldeck.tui.dashboard.go_to import peer_words, sources
from modeldeck.tui.dashboard.go_to.entries import GoToEntry
from modeldeck.tui.dashboard.go_to.line import QUESTION, GoToLine
from modeldeck.tui.dashboard.go_to.visits import Place, Visits
from modeldeck.tui.dashboard.help_opener import HelpOpener
from modeldeck.tui.dashboard.key_queue import OrderedKeyApp
from modeldeck.tui.dashboard.message_display import MessageDisplay
from modeldeck.tui.dashboard.question_asker import QuestionAsker
from modeldeck.tui.dashboard.theme_choice import ThemeChoice
from modeldeck.tui.dashboard.view_switch import ViewSwitch
from modeldeck.tui.remote.machines import LOCAL
from modeldeck.tui.text.format import Glyphs

PATIENCE_S = 5.0
"""Most seconds that keys wait for the go-to line to appear."""

ACTIONS = frozenset({"go_to", "everything", "earlier", "later"})
"""Actions of the app that belong to the navigation."""


def takes_text(widget: Widget | None) -> bool:
    """Whether keys are written into this widget.

    A TextArea is known by its name: its module is loaded with Chat, not for the first picture.
    """
    bases = () if widget is None else type(widget).__mro__
    return isinstance(widget, Input) or any(base.__name__ == "TextArea" for base in bases)


class GoToParts(Protocol):
    """The parts of the dashboard that the navigation uses."""

    frame: DashboardFrame
    machines: MachineSwitch
    views: ViewSwitch
    messages: MessageDisplay
    questions: QuestionAsker
    commands: CommandRegistry
    themes: ThemeChoice
    help: HelpOpener


class GoToNavigation:
    """The go-to line of a dashboard, and the places where the user was."""

    def __init__(
        self,
        app: OrderedKeyApp,
        parts: GoToParts,
        glyphs: Glyphs,
        *,
        show: Callable[[str], None],
        name_in_front: Callable[[], str],
    ) -> None:
        """Create the navigation; the user was nowhere yet.

        Args:
            app: The dashboard, as Textual sees it.
            parts: Its parts.
            glyphs: Characters that the terminal can show.
            show: Brings the view of a name to the front.
            name_in_front: Name of the view in front.
        """
        self._app = app
        self._parts = parts
        self._glyphs = glyphs
        self._show = show
        self._name_in_front = name_in_front
        self._visits = Visits()
        self._line: Worker[str | None] | None = None
        """Shows the go-to line, until it is left."""
        self._goes_back = False
        """Whether the view is being changed to an earlier one."""
        self._jumped = False
        """Whether the go-to line was the last that was used."""
        self._may_go_back = False
        """Whether the key that is handled now came right after the go-to line."""

    # The line

    async def open_line(self, *, everything: bool) -> None:
        """Open the line; returns once it has the keys, as the next ones may be waiting.

        With `everything` all entries are listed at once.
        """
        line = GoToLine(
            self.offers, self._chosen, self._is_dim, self._glyphs, everything=everything
        )
        ask = partial(self._parts.questions.ask, QUESTION, line)
        self._line = self._app.run_worker(ask, group="go to")
        with suppress(TimeoutError):
            await asyncio.wait_for(line.ready.wait(), PATIENCE_S)

    def offers(self, written: str) -> Sequence[GoToEntry]:
        """The entries for what is written, those of the views last."""
        offered = list(sources.entries(self._context(), written))
        for view in self._parts.views.existing:
            offered += view.go_to(written)
        return offered

    def _context(self) -> sources.GoToContext:
        machines = [station.name or LOCAL for station in self._parts.machines.stations]
        return sources.GoToContext(
            current=self._name_in_front(),
            views=self._parts.views.all,
            scopes=self._parts.commands.scopes,
            everywhere=self._parts.commands.everywhere,
            keymap=self._parts.commands.keymap,
            machines=machines if self._parts.machines.are_several else (),
            themes=self._parts.themes.names,
            show=self._show,
            run=self._run_command,
            point=self._point_at,
            go=self._parts.machines.show,
            choose_theme=self._parts.themes.choose,
            tell=self._parts.messages.say,
            help=self._parts.help.show,
        )

    def _is_dim(self, entry: GoToEntry) -> bool:
        commands = self._parts.commands
        return commands.is_refused(commands.named(entry.command))

    def _chosen(self, entry: GoToEntry, written: str) -> None:
        """Do what was chosen, once the line is gone; keys wait for that."""
        self._app.hold_keys()
        self._app.run_worker(self._do(entry, written), group="go to: does")

    async def _do(self, entry: GoToEntry, written: str) -> None:
        commands = self._parts.commands
        try:
            if self._line is not None:
                await self._line.wait()
            if entry.command and commands.refuses_named(entry.command):
                return
            self._jumped = True
            done = entry.run()
            if inspect.isawaitable(done):
                await done
            if words := peer_words.taught(written, entry.key):
                self._parts.messages.say(words)
        finally:
            self._app.release_keys()

    async def _run_command(self, scope: str, command: Command) -> None:
        """Run a command of the app, or of a view, which comes to the front."""
        if scope != "app":
            self._show(scope)
        namespace = self._app if scope == "app" else self._parts.views.front
        await self._app.run_action(command.action or command.name, namespace)

    def _point_at(self, scope: str, command: Command) -> None:
        """Bring the view of a command to the front, and name the command's key."""
        self._show(scope)
        key = self._parts.commands.key_of(f"{scope}.{command.name}")
        has_key = not key.startswith(":")
        words = f"{command.label} is {key}" if has_key else f"Choose a row, then {key}."
        self._parts.messages.say(words)

    # Earlier places

    def left(self, name: str) -> None:
        """Remember the place in a view that is left."""
        if not self._goes_back:
            self._visits.left(self._place(name))

    def _place(self, name: str) -> Place:
        view = self._parts.views.created(name)
        return Place(name, view.row_key if view is not None else "")

    def go_back(self) -> None:
        """Go back to the place before."""
        self._return_to(self._visits.back(self._place(self._name_in_front())))

    def go_forward(self) -> None:
        """Go forward to the place that was gone back from."""
        self._return_to(self._visits.forward(self._place(self._name_in_front())))

    def _return_to(self, place: Place | None) -> None:
        if place is None:
            self._parts.messages.say("There is no other place to go to.")
            return
        self._goes_back = True
        try:
            self._show(place.view)
        finally:
            self._goes_back = False
        if place.row and self._name_in_front() == place.view:
            self._parts.views.front.go_to_row(place.row)

    # Keys

    def key_comes(self) -> None:
        """A key begins to be handled: note whether it comes right after the go-to line."""
        self._may_go_back, self._jumped = self._jumped, False

    def applies(self, action: str) -> bool:
        """Whether one of `ACTIONS` applies now.

        Keys are left to a text field, and all of them to a question. Right after a jump into a view
        with a text field the key back still goes back.
        """
        if self._parts.questions.shown is not None or self._parts.frame.is_covered:
            return False
        writing = takes_text(self._app.focused)
        return not writing or self._may_go_back or action not in ("earlier", "later")
