"""Fleet: every machine on one line, going into one, and where a model fits now."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult

from core.errors import CoreUnreachable, DeckError
from tui.commands import Command, bindings
from tui.link import LinkState
from tui.screens import fleet_rows as drawn
from tui.screens.fleet_rows import Answer, Row
from tui.screens.view import View
from tui.theme import ink
from tui.widgets.bars import Lines, wrapped
from tui.widgets.table import Table

LOOK_S = 0.5
"""Between two looks at the machines."""

COMMANDS = (
    Command(name="enter", keys="enter", label="go into", help="Show this machine."),
    Command(
        name="fit",
        keys="f",
        label="where does it fit",
        help="Ask every machine whether a model fits the memory that is free there now.",
    ),
    Command(
        name="reach",
        keys="r",
        label="reach",
        help="Look for the core of this machine again.",
    ),
)


class Fleet(View):
    """The machines of this dashboard."""

    DEFAULT_CSS = """
    Fleet { padding: 0 1; }
    Fleet #asked { margin: 0 0 1 2; }
    Fleet #about { margin: 0 0 0 2; }
    """
    NAME = "fleet"
    TITLE = "Fleet"
    COMMANDS: ClassVar[tuple[Command, ...]] = COMMANDS
    BINDINGS = bindings(NAME, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._model = ""
        """What was asked about last."""
        self._fits: dict[int, Answer] = {}

    def compose(self) -> ComposeResult:
        """What was asked, and the machines."""
        yield Lines(id="asked")
        yield Table[Row](
            drawn.COLUMNS,
            lambda row: drawn.line(row, self.dashboard.glyphs, ink(self.dashboard.theme_variables)),
            self.dashboard.glyphs,
        )
        yield Lines(id="about")

    def on_mount(self) -> None:
        """The other machines change without the one that is shown."""
        self.set_interval(LOOK_S, self.draw)
        self.draw()

    @property
    def rows(self) -> list[Row]:
        """Every machine as it is known now."""
        here = self.dashboard.station
        return [
            Row(
                at=at,
                name=station.name,
                way=station.way,
                status=station.link.status,
                state=station.link.latest,
                fit=self._fits.get(at),
                asked=bool(self._model),
                current=station is here,
            )
            for at, station in enumerate(self.dashboard.stations)
        ]

    def draw(self) -> None:
        """Bring the lines up to date; what stays as it is is not drawn again."""
        if not self.display:
            return
        self.query_one(Table).show(self.rows, key=lambda row: str(row.at))
        inks = ink(self.dashboard.theme_variables)
        words = f"where {self._model} fits now" if self._model else "every machine"
        self.query_one("#asked", Lines).show([Text(words, inks.muted)])
        row = self._row
        said = drawn.about(row, inks) if row is not None else []
        self.query_one("#about", Lines).show(
            [part for text in said for part in wrapped(text, max(10, self.size.width - 4))]
        )

    @property
    def _row(self) -> Row | None:
        """The machine under the cursor, as it is known now."""
        row: Row | None = self.query_one(Table).cursor_item
        return row

    @on(Table.Highlighted)
    def _highlighted(self, event: Table.Highlighted) -> None:
        event.stop()
        self.draw()

    def activated(self) -> None:
        """The keys belong to the table."""
        self.draw()
        self.query_one(Table).focus()

    @on(Table.Chosen)
    def _chosen(self, event: Table.Chosen) -> None:
        event.stop()
        self.action_enter()

    def action_enter(self) -> None:
        """Show the machine under the cursor."""
        if (row := self._row) is not None:
            self.dashboard.go(row.at)

    def action_reach(self) -> None:
        """Look for the core of the machine under the cursor again, unless it answers."""
        row = self._row
        if row is not None and row.status.state in (LinkState.LOST, LinkState.FAILED):
            self.dashboard.reach(row.at)

    # Where does a model fit?

    @work(exclusive=True, group="fit")
    async def action_fit(self) -> None:
        """Ask for a model, and every machine whether it fits there now."""
        model = await self.ask("Where does it fit now?", self._model, "a name, or owner/repo:QUANT")
        if model is None:
            return
        self._model, self._fits = model.strip(), {}
        self.draw()
        if self._model:
            stations = range(len(self.dashboard.stations))
            await asyncio.gather(*(self._ask(at, self._model) for at in stations))

    async def _ask(self, at: int, model: str) -> None:
        link = self.dashboard.stations[at].link
        try:
            self._fits[at] = await link.client.fit(model)
        except CoreUnreachable:
            return  # the line says so already
        except DeckError as error:
            self._fits[at] = error
        self.draw()
