"""Fleet screen: all machines, where a model fits, and copying models between them."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult

from modeldeck.core.errors import Cancelled, Conflict, CoreUnreachable, DeckError, NotDownloaded
from modeldeck.core.schema import Download, Manifest
from modeldeck.tui.dashboard.commands import Command, bindings
from modeldeck.tui.dashboard.fleet import FleetMachine
from modeldeck.tui.dashboard.screens.fleet import rows as drawn
from modeldeck.tui.dashboard.screens.fleet.rows import Answer, MachineRow, ModelCopy
from modeldeck.tui.dashboard.screens.view import View
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.bars import TextLines, wrapped
from modeldeck.tui.dashboard.widgets.table import Table
from modeldeck.tui.remote.core_link import LinkState

LOOK_S = 0.5
"""Seconds between two updates."""
MODEL = "a name, or owner/repo:QUANT"

COMMANDS = (
    Command(name="enter", keys="enter", label="go into", help="Show this machine."),
    Command(
        name="fit",
        keys="f",
        label="which machine fits",
        help="Ask every machine whether a model fits the memory that is free there now.",
    ),
    Command(
        name="copy",
        keys="c",
        label="copy here",
        help="Copy a model to this machine from one that has it.",
    ),
    Command(
        name="reach",
        keys="r",
        label="reach",
        help="Look for the core of this machine again.",
    ),
)


class FleetView(View):
    """Table of the machines of this dashboard."""

    DEFAULT_CSS = """
    FleetView { padding: 0 1; }
    FleetView #asked { margin: 0 0 1 2; }
    FleetView #about { margin: 0 0 0 2; }
    """
    NAME = "fleet"
    TITLE = "Fleet"
    COMMANDS: ClassVar[tuple[Command, ...]] = COMMANDS
    BINDINGS = bindings(NAME, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._model = ""
        """The model that was asked about last."""
        self._fits: dict[int, Answer] = {}
        self._copies: dict[int, ModelCopy] = {}
        """Running copies, by the index of the receiving machine."""

    def compose(self) -> ComposeResult:
        """The model asked about, the table, and details."""
        yield TextLines(id="asked")
        yield Table[MachineRow](
            drawn.COLUMNS,
            lambda row: drawn.line(row, self.dashboard.glyphs, ink(self.dashboard.theme_variables)),
            self.dashboard.glyphs,
        )
        yield TextLines(id="about")

    def on_mount(self) -> None:
        """Update regularly, as other machines change without a new State."""
        self.set_interval(LOOK_S, self.draw)
        self.draw()

    @property
    def rows(self) -> list[MachineRow]:
        """A row per machine with its current state."""
        here = self.dashboard.station
        return [
            MachineRow(
                at=at,
                name=station.name,
                way=station.way,
                status=station.link.status,
                state=station.link.latest,
                fit=self._fits.get(at),
                asked=bool(self._model),
                current=station is here,
                copy=self._copies.get(at),
            )
            for at, station in enumerate(self.dashboard.stations)
        ]

    def draw(self) -> None:
        """Bring the screen up to date; draws only what changed."""
        if not self.display:
            return
        self.query_one(Table).show(self.rows, key=lambda row: str(row.at))
        inks = ink(self.dashboard.theme_variables)
        words = f"where {self._model} fits now" if self._model else "every machine"
        self.query_one("#asked", TextLines).show([Text(words, inks.muted)])
        row = self._row
        said = drawn.about(row, inks) if row is not None else []
        self.query_one("#about", TextLines).show(
            [part for text in said for part in wrapped(text, max(10, self.size.width - 4))]
        )

    @property
    def _row(self) -> MachineRow | None:
        """The row of the machine under the cursor."""
        row: MachineRow | None = self.query_one(Table).cursor_item
        return row

    @on(Table.Highlighted)
    def _highlighted(self, event: Table.Highlighted) -> None:
        event.stop()
        self.draw()

    def activated(self) -> None:
        """Give the focus to the table."""
        self.draw()
        self.query_one(Table).focus()

    @on(Table.RowOpened)
    def _chosen(self, event: Table.RowOpened) -> None:
        event.stop()
        self.action_enter()

    def action_enter(self) -> None:
        """Show the machine under the cursor."""
        if (row := self._row) is not None:
            self.dashboard.go(row.at)

    def action_reach(self) -> None:
        """Reconnect to the machine under the cursor, unless it answers."""
        if (row := self._row) is not None:
            self.dashboard.again(row.at)

    # Fits

    @work(exclusive=True, group="fit")
    async def action_fit(self) -> None:
        """Ask for a model, then ask every machine whether it fits."""
        model = await self.ask("Which machine does it fit on?", self._model, MODEL)
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
            return  # its row shows that
        except DeckError as error:
            self._fits[at] = error
        self.draw()

    # Copying a model from one machine to another

    @work(group="copy")
    async def action_copy(self) -> None:
        """Copy a model to the machine under the cursor, after showing the plan."""
        row = self._row
        if row is None:
            return
        if row.at in self._copies:
            self.dashboard.say(f"A copy to {row.name} is under way.")
            return
        model = self._model or await self.ask(f"Copy what to {row.name}?", "", MODEL)
        if not model or not model.strip():
            return
        try:
            await self._copy(row, model.strip())
        except DeckError as error:
            self.dashboard.say(str(error), "error")
        finally:
            self._copies.pop(row.at, None)
            self.draw()

    async def _copy(self, row: MachineRow, model: str) -> None:
        from modeldeck.tui.remote.copy import copied, kept

        target = self.dashboard.stations[row.at]
        source, manifest = await self._source(target, model)
        if not await self.confirm(drawn.plan(manifest, source.name, row), "copy it"):
            return
        assert source.host is not None
        assert target.host is not None
        client = target.link.client
        async with (
            source.host.bulk() as giver,
            target.host.bulk() as taker,
            taker.lent(giver.here) as peer,
        ):
            entry, job = await client.take(manifest, peer)
            if job is None:
                self.dashboard.say(f"{entry.unique} is on {target.name} already.")
                return
            self._copies[row.at] = ModelCopy(source.name, job)
            async with kept(client, job):
                job = await self._arrived(row.at, job)
        self.dashboard.say(copied(job, source.name, target.name), "done")

    async def _source(self, target: FleetMachine, model: str) -> tuple[FleetMachine, Manifest]:
        """A machine that has the model, and the manifest. Raises Conflict or NotDownloaded."""
        others = [station for station in self.dashboard.stations if station is not target]
        here, *there = await asyncio.gather(
            *(_manifest(station, model) for station in (target, *others))
        )
        if here is not None:
            raise Conflict(f"{here.model.unique} is on {target.name} already.")
        for station, manifest in zip(others, there, strict=True):
            if manifest is not None:
                return station, manifest
        key = self.dashboard.key_of("catalog.download")
        raise NotDownloaded(
            f"No other machine has {model}.", f"{key} in the Catalog of one of them downloads it."
        )

    async def _arrived(self, at: int, job: Download) -> Download:
        """Wait for the download; raises DeckError if it did not complete."""
        from modeldeck.tui.remote.copy import over

        again = f"{self.key_of('copy')} goes on from what is there."
        link, seen = self.dashboard.stations[at].link, False
        while True:
            now = link.latest.downloads.get(job.id) if link.latest is not None else None
            if now is not None:
                job, seen = now, True
                self._copies[at] = ModelCopy(self._copies[at].source, job)
                if over(job, again):
                    return job
            elif seen:
                raise Cancelled(f"The copy of {job.unique} was removed.", again)
            if link.status.state is not LinkState.LIVE:
                raise CoreUnreachable("The connection that carried the copy is lost.", again)
            await asyncio.sleep(LOOK_S)

    def at_stake(self) -> str:
        """Running copies, which end with the connections of this dashboard."""
        names = ", ".join(self.dashboard.stations[at].name for at in self._copies)
        return f"A copy to {names} is under way, over a line of this dashboard." if names else ""


async def _manifest(station: FleetMachine, model: str) -> Manifest | None:
    """Manifest of a model on a machine; None if it is not there, or the core is away."""
    try:
        return await station.link.client.manifest(model)
    except DeckError:
        return None
