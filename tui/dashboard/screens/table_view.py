"""`TableView`: a view whose keys belong to one table of things that verbs are done to.

A verb acts on the marked rows, or on the one under the cursor; on each by itself, so that what goes
wrong with one does not stop the others, and with one receipt for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from rich.text import Text
from textual import events, on

from modeldeck.core.errors import DeckError
from modeldeck.tui.dashboard.screens.view import View
from modeldeck.tui.dashboard.theme import ThemeStyles, ink
from modeldeck.tui.dashboard.widgets.table import Table
from modeldeck.tui.text import format as fmt

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client


class ListedItem(Protocol):
    """What verbs are done to: a download, an instance."""

    @property
    def id(self) -> str:
        """What the core knows it by."""

    @property
    def unique(self) -> str:
        """The unique name of its model."""

    @property
    def state(self) -> str:
        """A word for how it stands."""


RowT = TypeVar("RowT")
ThingT = TypeVar("ThingT", bound=ListedItem)
A = TypeVar("A")

LOW = 16
"""Lines of a view below which its table gets those that part the others."""


class TableView(View, Generic[RowT, ThingT]):
    """What Downloads and Memory have in common."""

    NOUN: ClassVar[str]
    """What several things are counted as."""

    DEFAULT_CSS = """
    TableView { padding: 0 1; }
    """

    def on_mount(self) -> None:
        """Lines are drawn in the colours of the theme."""
        self.dashboard.theme_changed_signal.subscribe(self, lambda _: self.redraw())

    # What a view of this kind says

    def draw(self) -> None:
        """Bring everything on the screen up to date; what stays as it is is not drawn again."""
        raise NotImplementedError

    def draw_below(self) -> None:
        """Draw what is said of the row under the cursor."""
        raise NotImplementedError

    def action_open_row(self) -> None:
        """Show more of the row under the cursor, or hide it again."""
        raise NotImplementedError

    def thing(self, row: RowT) -> ThingT:
        """What a row stands for."""
        raise NotImplementedError

    # Drawing

    @property
    def inks(self) -> ThemeStyles:
        """The theme's colours."""
        return ink(self.dashboard.theme_variables)

    @property
    def table(self) -> Table[RowT]:
        """The rows."""
        return self.query_one(Table)

    @property
    def waiting(self) -> list[Text]:
        """What is said before the first State."""
        return [Text("waiting for the core", self.inks.muted)]

    def redraw(self) -> None:
        """Draw, where the view is seen."""
        if self.display:
            self.draw()

    def activated(self) -> None:
        """The keys belong to the table."""
        self.redraw()
        self.table.focus()

    def on_resize(self, event: events.Resize) -> None:
        """Where it is low, the table gets the lines."""
        self.set_class(event.size.height < LOW, "low")
        self.redraw()

    @on(Table.Highlighted)
    def _highlighted(self, event: Table.Highlighted) -> None:
        event.stop()
        self.draw_below()

    @on(Table.RowOpened)
    def _row_chosen(self, event: Table.RowOpened) -> None:
        event.stop()
        self.action_open_row()

    # Verbs

    def chosen(self, fitting: Callable[[ThingT], bool], verb: str) -> list[ThingT]:
        """What is marked or under the cursor, as far as the verb means something; else says so."""
        things = list({(thing := self.thing(row)).id: thing for row in self.table.marked}.values())
        fit = [thing for thing in things if fitting(thing)]
        if things and not fit:
            first = things[0]
            self.dashboard.say(f"{first.unique} is {first.state}: there is nothing to {verb}.")
        return fit

    def named(self, things: Sequence[ListedItem]) -> str:
        """The one by its name, several by their number."""
        return things[0].unique if len(things) == 1 else fmt.number(len(things), self.NOUN)

    def each(
        self,
        things: Sequence[ThingT],
        act: Callable[[Client, ThingT], Awaitable[A]],
        words: Callable[[Sequence[A]], str],
    ) -> None:
        """Do it to each; `words` makes the receipt of what was done, errors are said besides."""

        async def one(client: Client, thing: ThingT) -> A | DeckError:
            try:
                return await act(client, thing)
            except DeckError as error:
                return error

        async def all_of_them(client: Client) -> None:
            answers = await asyncio.gather(*(one(client, thing) for thing in things))
            done = [answer for answer in answers if not isinstance(answer, DeckError)]
            if done:
                self.dashboard.say(words(done), "done")
            for problem in dict.fromkeys(str(a) for a in answers if isinstance(a, DeckError)):
                self.dashboard.say(problem, "error")

        if things:
            self.table.unmark()
            self.perform(all_of_them)

    def action_copy(self) -> None:
        """Copy the name of the model to the clipboard of the terminal."""
        if (row := self.table.cursor_item) is not None:
            name = self.thing(row).unique
            self.app.copy_to_clipboard(name)
            self.dashboard.say(f"{name} copied", "done")
