"""`View`: base class of all screens.

The app sets `state` through `data_bind`; a view never requests it. An action is a method
`action_<name>` that hands its work to `perform`, which runs it in a worker and shows the receipt or
the error as a notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from textual import on
from textual.containers import Vertical
from textual.reactive import var
from textual.worker import Worker

from modeldeck.core.errors import DeckError, InvalidRequest
from modeldeck.tui.dashboard.commands import Command
from modeldeck.tui.dashboard.dialogs.help_screen import Part
from modeldeck.tui.dashboard.go_to.entries import GoToEntry
from modeldeck.tui.dashboard.questions import NOTHING_CHANGED, LineQuestion
from modeldeck.tui.dashboard.widgets.column_chooser import QUESTION, ColumnChooser
from modeldeck.tui.dashboard.widgets.footer import Entry
from modeldeck.tui.dashboard.widgets.table import Table

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.schema.state import State
    from modeldeck.tui.dashboard.interface import DashboardInterface

T = TypeVar("T")

PATIENCE_S = 1.0
"""Seconds to wait for a question that does not come, as another one is shown."""


class View(Vertical, can_focus=False):
    """A screen between the status bar and the footer."""

    NAME: ClassVar[str]
    """Its id, and the scope of its commands in the keymap."""
    TITLE: ClassVar[str]
    """Its name in the footer."""
    COMMANDS: ClassVar[tuple[Command, ...]] = ()
    PLAIN_TABLES: ClassVar[frozenset[str]] = frozenset()
    """Ids of its tables whose columns are not chosen."""
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

    async def confirm(
        self,
        lines: Sequence[str],
        verb: str,
        keep: str,
        *,
        cancelled: str = NOTHING_CHANGED,
        subject: Callable[[State], bool] | None = None,
    ) -> bool:
        """Ask yes or no: see `DashboardInterface.confirm`. Call from a worker."""
        return await self.dashboard.confirm(lines, verb, keep, cancelled=cancelled, subject=subject)

    async def ask(self, label: str, value: str = "", hint: str = "") -> str | None:
        """Ask for one line of text; None when cancelled. Call from a worker."""
        return await self.dashboard.ask(label, value, hint)

    async def enter(
        self,
        label: str,
        value: str,
        hint: str,
        read: Callable[[str], T],
        act: Callable[[T], None],
        *,
        word: str = "",
    ) -> None:
        """Ask for a line that `read` can parse, then call `act`; call from a worker.

        `read` raises InvalidRequest, whose message is shown under the line, which stays. `act` is
        not called when the user cancels or leaves the value unchanged. `word` names the question in
        its key line.
        """

        def problem(text: str) -> str:
            try:
                read(text)
            except InvalidRequest as error:
                return str(error)
            return ""

        question = LineQuestion(title=label, value=value, hint=hint, problem=problem, word=word)
        answer = await self.dashboard.ask_question(question)
        if answer is not None and answer != value:
            act(read(answer))

    # Columns of its table

    def on_mount(self) -> None:
        """Show the columns that the person chose earlier."""
        for table in self.query(Table).results():
            if table.id not in self.PLAIN_TABLES:
                table.choice = self.dashboard.columns.choice(self.NAME)
                table.ask_columns = self._ask_columns

    async def _ask_columns(self, table: Table[Any]) -> None:
        """Ask for the columns; returns once the question has the keys."""
        chooser = ColumnChooser(table.arrangement, self.dashboard.glyphs)
        ask = partial(self.dashboard.ask_question, QUESTION, chooser)
        _asking: Worker[str | None] = self.run_worker(ask, group="ask")
        with suppress(TimeoutError):
            await asyncio.wait_for(chooser.ready.wait(), PATIENCE_S)

    @on(Table.ColumnsChosen)
    def _columns_chosen(self, event: Table.ColumnsChosen) -> None:
        event.stop()
        self.dashboard.columns.choose(self.NAME, event.table.choice)
        _saving: Worker[None] = self.run_worker(self._save_columns, group="columns")
        self.columns_chosen(event.table)

    async def _save_columns(self) -> None:
        try:
            await asyncio.to_thread(self.dashboard.columns.save)
        except DeckError as error:
            self.dashboard.say(str(error), "error")

    def columns_chosen(self, table: Table[Any]) -> None:
        """Draw the rows again: the person chose other columns, or another order."""

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

    def take_back(self) -> bool:
        """Undo the last action that this view keeps itself (`z`); False when there is none."""
        return False

    @property
    def row_key(self) -> str:
        """Key of the row under the cursor of its first table; empty for none."""
        return next((table.cursor_key or "" for table in self.query(Table).results()), "")

    def go_to_row(self, key: str) -> None:
        """Put the cursor of its first table on a row, where it is listed."""
        for table in list(self.query(Table).results())[:1]:
            table.move_to(key)

    def go_to(self, written: str) -> Sequence[GoToEntry]:
        """What it adds to the go-to line, on which this is written: its models, its values."""
        return ()

    def undone(self) -> None:
        """Reload data that is not part of State, after an action was undone."""

    def dismiss(self) -> bool:
        """Go back one step (`esc`); False when there is no step to go back."""
        return False
