"""Fleet screen: all machines, which would serve a model, and copying models between them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.worker import Worker

from modeldeck.core.errors import Cancelled, CoreUnreachable, DeckError
from modeldeck.core.schema import Download
from modeldeck.tui.dashboard.commands import Command, bindings
from modeldeck.tui.dashboard.messages import severity_of
from modeldeck.tui.dashboard.questions import LineQuestion
from modeldeck.tui.dashboard.screens.fleet import ranking, texts
from modeldeck.tui.dashboard.screens.fleet import rows as drawn
from modeldeck.tui.dashboard.screens.fleet.copying import source_of
from modeldeck.tui.dashboard.screens.fleet.question import ServingQuestion
from modeldeck.tui.dashboard.screens.fleet.rows import MachineRow, ModelCopy
from modeldeck.tui.dashboard.screens.fleet.texts import FleetKeys
from modeldeck.tui.dashboard.screens.view import View
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.bars import TextLines
from modeldeck.tui.dashboard.widgets.footer import Entry
from modeldeck.tui.dashboard.widgets.table import Table, TableLine
from modeldeck.tui.remote.core_link import LinkState

LOOK_S = 0.5
"""Seconds between two updates."""
MARGIN = 3
"""Cells before the lines above and below the table."""
LOW = 16
"""Height in lines below which there is no blank line above the table."""
MODEL = "a name, or owner/repo:QUANT"
ASKED = f"{MODEL}; and a context length, such as 16k"

COMMANDS = (
    Command(name="enter", keys="enter", label="go into", help="Show this machine.", changes=False),
    Command(
        name="serves",
        keys="f",
        label="who serves",
        help="Ask every machine how it would serve a model: loaded, fits now, fits after unloading"
        " idle ones, or downloads it first.",
        changes=False,
    ),
    Command(
        name="copy",
        keys="c",
        label="copy a model here",
        help="Copy a model to this machine from one that has it.",
    ),
    Command(
        name="reach",
        keys="r",
        label="again",
        help="Connect to this machine again; ssh may ask for a password.",
        changes=False,
    ),
)


class FleetView(View):
    """Table of the machines of this dashboard."""

    DEFAULT_CSS = """
    FleetView #asked { padding: 0 1 1 3; }
    FleetView.low #asked { padding: 0 1 0 3; }
    FleetView #about { padding: 0 1 0 2; }
    """
    NAME = "fleet"
    TITLE = "Fleet"
    COMMANDS: ClassVar[tuple[Command, ...]] = COMMANDS
    BINDINGS = bindings(NAME, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._question: ServingQuestion | None = None
        """The model that was asked about last, with the answers."""
        self._copies: dict[int, ModelCopy] = {}
        """Running copies, by the index of the receiving machine."""
        self._receiving: set[int] = set()
        """The machines that a copy is prepared for, or runs to."""

    def compose(self) -> ComposeResult:
        """The model asked about, the table, and details."""
        yield TextLines(id="asked")
        yield Table[MachineRow](drawn.columns((), 0), self._line, self.dashboard.glyphs)
        yield TextLines(id="about")

    def on_mount(self) -> None:
        """Update regularly, as other machines change without a new State."""
        self.set_interval(LOOK_S, self.draw)
        self.draw()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self.set_class(self.size.height < LOW, "low")
        self.draw()

    # Drawing

    def _line(self, row: MachineRow) -> TableLine:
        inks, again = ink(self.dashboard.theme_variables), self.key_of("reach")
        narrow = self.size.width < drawn.NARROW
        return drawn.line(row, self.dashboard.glyphs, inks, again, narrow=narrow)

    @property
    def _live(self) -> list[int]:
        """Indices of the machines whose core answers."""
        return [
            at
            for at, station in enumerate(self.dashboard.stations)
            if station.link.status.state is LinkState.LIVE
        ]

    @property
    def rows(self) -> list[MachineRow]:
        """A row per machine with its current state."""
        here, stations = self.dashboard.station, self.dashboard.stations
        answers = self._question.answers(self._live) if self._question is not None else {}
        places = ranking.ranks(answers, {at: each.prefer for at, each in enumerate(stations)})
        return [
            MachineRow(
                at=at,
                name=station.title,
                way=station.way,
                status=station.link.status,
                state=station.link.latest,
                seen_at=station.link.seen_at,
                current=station is here,
                asked=self._question is not None,
                answer=answers.get(at),
                place=places.get(at),
                copy=self._copies.get(at),
            )
            for at, station in enumerate(stations)
        ]

    def draw(self) -> None:
        """Bring the screen up to date, and ask again what is old; draws only what changed."""
        if not self.display or not self.size.width or not self.query(Table):
            return  # timers and workers still run while its parts are removed
        self._ask_due()
        rows, table = self.rows, self.query_one(Table)
        table.columns = drawn.columns(rows, self.size.width)
        before = self._row
        table.show(rows, key=lambda row: str(row.at))
        if (before is None or before.is_live) != (self._row is None or self._row.is_live):
            self.dashboard.keys_changed()
        self._draw_texts(rows)

    def _draw_texts(self, rows: Sequence[MachineRow]) -> None:
        inks, question, width = ink(self.dashboard.theme_variables), self._question, self.size.width
        wanted = question.wanted if question is not None else None
        answers = [row.answer for row in rows if row.answer is not None]
        length = ranking.common_context(wanted, answers) if wanted is not None else None
        took_s = question.took_s(self._live) if question is not None else None
        keys = FleetKeys(ask=self.key_of("serves"), again=self.key_of("reach"))
        heading = texts.heading(
            len(rows), wanted, length, took_s, width - MARGIN - 1, keys.ask, inks
        )
        self.query_one("#asked", TextLines).show([heading])
        cursor = self._row.at if self._row is not None else None
        size = (width - MARGIN, self.size.height)
        self.query_one("#about", TextLines).show(texts.foot(rows, cursor, size, keys, inks))

    @property
    def _row(self) -> MachineRow | None:
        """The row of the machine under the cursor."""
        row: MachineRow | None = self.query_one(Table).cursor_item
        return row

    def keys_shown(self) -> Sequence[Entry]:
        """Its keys; `r`, and then first, where the machine under the cursor is not connected."""
        away = self._row is not None and not self._row.is_live
        again = [entry for entry in super().keys_shown() if entry[1].name == "reach"]
        others = [entry for entry in super().keys_shown() if entry[1].name != "reach"]
        return [*again, *others] if away else others

    @on(Table.Highlighted)
    def _highlighted(self, event: Table.Highlighted) -> None:
        event.stop()
        self.draw()
        self.dashboard.keys_changed()

    def activated(self) -> None:
        """Connect to the machines, and give the focus to the table."""
        self.dashboard.reach_all()
        self.draw()
        self.query_one(Table).focus()

    @on(Table.RowOpened)
    def _chosen(self, event: Table.RowOpened) -> None:
        event.stop()
        self.action_enter()

    def action_enter(self) -> None:
        """Show the machine under the cursor; the one that is shown keeps its screens."""
        if (row := self._row) is None:
            return
        if self.dashboard.stations[row.at] is self.dashboard.station:
            self.dashboard.action_show("catalog")
        else:
            self.dashboard.go(row.at)

    def action_reach(self) -> None:
        """Connect to the machine under the cursor again, unless it answers."""
        if (row := self._row) is not None:
            self.dashboard.again(row.at)

    # Which machine would serve a model

    @work(exclusive=True, group="serves")
    async def action_serves(self) -> None:
        """Ask for a model, then ask every machine how it would serve it."""
        before = self._question.wanted.name if self._question is not None else ""
        text = await self.dashboard.ask_question(
            LineQuestion(
                title="Which machine would serve?",
                value=before,
                hint=ASKED,
                word="Who serves",
                verb="ask",
            )
        )
        if text is None:
            return
        wanted = ranking.wanted(text)
        self._question = ServingQuestion(wanted) if wanted is not None else None
        self.draw()

    def _ask_due(self) -> None:
        """Ask the machines that were not asked yet, and those whose answer is old."""
        if self._question is None:
            return
        for at in self._live:
            if self._question.claim(at):
                ask = partial(self._ask, self._question, at)
                _asking: Worker[None] = self.run_worker(ask, group=f"ask {at}", exclusive=True)

    async def _ask(self, question: ServingQuestion, at: int) -> None:
        await question.ask(at, self.dashboard.stations[at].link)
        self.draw()

    # Copying a model from one machine to another

    @work(group="copy")
    async def action_copy(self) -> None:
        """Copy a model to the machine under the cursor, after showing the plan."""
        row = self._row
        if row is None:
            return
        if row.at in self._receiving:
            self.dashboard.say(f"A copy to {row.name} is under way.")
            return
        self._receiving.add(row.at)
        asked = self._question.wanted.name if self._question is not None else ""
        try:
            model = asked or await self.ask(f"Copy what to {row.name}?", "", MODEL)
            if model and model.strip():
                await self._copy(row, model.strip())
        except DeckError as error:
            self.dashboard.say(str(error), severity_of(error))
        finally:
            self._receiving.discard(row.at)
            self._copies.pop(row.at, None)
            self.draw()

    async def _copy(self, row: MachineRow, model: str) -> None:
        from modeldeck.tui.remote.copy import copied, kept

        target = self.dashboard.stations[row.at]
        key = self.dashboard.key_of("catalog.download")
        source, manifest = await source_of(model, target, self.dashboard.stations, key)
        if not await self.confirm(
            texts.plan(manifest, source.title, row), "copy it", "leave it there"
        ):
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
                self.dashboard.say(f"{entry.unique} is on {row.name} already.")
                return
            self._copies[row.at] = ModelCopy(source.title, job)
            async with kept(client, job):
                job = await self._arrived(row.at, job)
        self.dashboard.say(copied(job, source.title, row.name), "done")

    async def _arrived(self, at: int, job: Download) -> Download:
        """Wait for the download; raises DeckError if it did not complete."""
        from modeldeck.tui.remote.copy import over

        again = f"{self.key_of('copy')} continues the copy."
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
                raise CoreUnreachable("Connection lost.", again)
            await asyncio.sleep(LOOK_S)

    def at_stake(self) -> str:
        """Running copies, which end with the connections of this dashboard."""
        names = ", ".join(self.dashboard.stations[at].title for at in self._copies)
        words = f"A copy to {names} is under way. It goes through this dashboard, and ends with it."
        return words if names else ""
