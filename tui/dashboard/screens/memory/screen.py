"""Memory screen: memory of the machine, loaded models, and unloading."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import events, work
from textual.app import ComposeResult

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import (
    CacheSelection,
    Instance,
    InstanceState,
    LogLine,
    Settings,
    UnloadReceipt,
)
from modeldeck.tui.dashboard.commands import Command, bindings
from modeldeck.tui.dashboard.screens.delete_flow import delete
from modeldeck.tui.dashboard.screens.memory import rows as drawn
from modeldeck.tui.dashboard.screens.memory.commands import COMMANDS
from modeldeck.tui.dashboard.screens.table_view import TableParts, TableView
from modeldeck.tui.dashboard.widgets.bars import History, TextLines, wrapped
from modeldeck.tui.dashboard.widgets.history_chart import HistoryChart
from modeldeck.tui.dashboard.widgets.table import Table
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import parse, records

PAST_S = 600.0
"""Seconds of memory history."""
PAST_SLOTS = 600
TALL = 26
"""Height in lines from which on a chart of the history is shown."""

STEPS = 512
"""Steps of the chart; smaller changes of the machine's memory are not drawn."""

LOG_S = 1.0
"""Seconds between two requests for the log of the open instance."""
LOG_KEPT = 200
"""Most log lines requested; the Log screen has all."""

PARTIALS = CacheSelection(partials=True)


class MemoryView(TableView[Instance, Instance]):
    """The machine, the table of instances, the disk, and details of the open instance."""

    DEFAULT_CSS = """
    MemoryView #machine { padding: 0 0 1 2; }
    MemoryView #disk { padding: 1 0 0 2; }
    MemoryView #details { display: none; height: 1fr; margin: 1 0 0 0; padding: 0 2;
                      border-top: solid $primary; }
    MemoryView.open #details { display: block; }
    MemoryView.open #disk { display: none; }
    MemoryView #past { display: none; }
    MemoryView.tall #past { display: block; }
    MemoryView.open #past { display: none; }
    MemoryView.low #machine { padding: 0 0 0 2; }
    MemoryView.low #disk { padding: 0 0 0 2; }
    MemoryView.low #details { margin: 0; height: 2fr; }
    """
    NAME = "memory"
    TITLE = "Memory"
    COMMANDS: ClassVar[tuple[Command, ...]] = COMMANDS
    BINDINGS = bindings(NAME, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    def __init__(self, *, id: str | None = None) -> None:
        parts: TableParts[Instance, Instance] = TableParts(
            noun="model",
            item_of=lambda instance: instance,
            draw=self.draw,
            draw_cursor_row=self._other_instance,
            open_row=self._toggle_details,
        )
        super().__init__(parts, id=id)
        self.past = History(PAST_S, PAST_SLOTS)
        """History of the machine's memory in use."""
        self._pasts: dict[str, History] = {}
        """Histories of instances, by id."""
        self._log: tuple[LogLine, ...] = ()

    def compose(self) -> ComposeResult:
        """The machine, the table, the chart, the disk, and the details."""
        yield TextLines(id="machine")
        yield Table[Instance](
            drawn.COLUMNS,
            lambda instance: drawn.line(
                instance,
                self.state.models if self.state else {},
                self.dashboard.glyphs,
                self.inks,
            ),
            self.dashboard.glyphs,
            "No model is loaded.\nPress 1, choose one, then l.",
        )
        yield HistoryChart(self.dashboard.glyphs, id="past")
        yield TextLines(id="disk")
        yield TextLines(id="details")

    def on_mount(self) -> None:
        """Request the log of an open instance regularly."""
        self.set_interval(LOG_S, self._look_at_log)

    # Drawing

    def on_resize(self, event: events.Resize) -> None:
        """Show the chart on a tall terminal."""
        self.set_class(event.size.height >= TALL, "tall")

    @property
    def instances(self) -> list[Instance]:
        """All instances of the core."""
        return list(self.state.instances.values()) if self.state else []

    def watch_state(self) -> None:
        """Record the histories, and draw the new State."""
        if not self.is_mounted or self.state is None:
            return
        now = time.monotonic()
        self.past.add(now, drawn.used(self.state.memory))
        for instance in self.instances:
            past = self._pasts.setdefault(instance.id, History(PAST_S, PAST_SLOTS))
            past.add(now, instance.measured_bytes)
        for gone in self._pasts.keys() - self.state.instances.keys():
            del self._pasts[gone]
        self.redraw()

    def draw(self) -> None:
        """Draw the machine, the table, the disk, and the details."""
        glyphs, inks, width = self.dashboard.glyphs, self.inks, self.size.width - 4
        if self.state is None:
            self.query_one("#machine", TextLines).show(self.waiting)
            return
        is_tall = self.has_class("tall") and not self.has_class("open")
        cells = width if is_tall else drawn.past_width(width)
        past = self.past.values(time.monotonic(), cells)
        beside = () if is_tall else past
        machine = drawn.machine(self.state, beside, width, self.key_of("budget"), glyphs, inks)
        self.query_one("#machine", TextLines).show(machine)
        self.table.show(self.instances, key=lambda instance: instance.id)
        keys = (self.key_of("disk"), self.key_of("prune"))
        disk = drawn.disk(self.state, keys, glyphs, inks, width)
        self.query_one("#disk", TextLines).show([disk])
        if is_tall:
            total = self.state.memory.total_bytes or 1
            words = drawn.past_words(past, inks)
            self.query_one(HistoryChart).show(past, total / STEPS, words, inks)
        self._draw_details()

    def _other_instance(self) -> None:
        """Show the details of another instance, if they are open."""
        self._log = ()
        self._draw_details()
        self._look_at_log()

    def _draw_details(self) -> None:
        if not self.has_class("open"):
            return
        instance, pane = self.table.cursor_item, self.query_one("#details", TextLines)
        if instance is None:
            pane.show([])
            return
        width = max(10, pane.size.width)
        history = self._pasts.get(instance.id)
        past = history.values(time.monotonic(), drawn.past_width(width)) if history else []
        facts = drawn.facts(instance, past, self.dashboard.glyphs, self.inks)
        lines = [part for line in facts for part in wrapped(line, width, drawn.LABEL)]
        room = max(0, pane.size.height - len(lines) - 1)
        said = drawn.log(self._log[-room:] if room else (), self.inks)
        for line in said:
            line.truncate(width, overflow="ellipsis")
        pane.show([*lines, Text(), *said])

    # The log of the open instance

    def _look_at_log(self) -> None:
        instance = self.table.cursor_item
        if self.has_class("open") and self.display and instance is not None:
            self.run_worker(self._fetch_log(instance.id), group="log", exclusive=True)

    async def _fetch_log(self, instance_id: str) -> None:
        after = self._log[-1].seq if self._log else 0
        try:
            lines = await self.dashboard.link.client.log(
                after, LOG_KEPT, source=f"engine:{instance_id}"
            )
        except DeckError:
            return  # the status bar shows that the core does not answer
        if lines:
            self._log = (*self._log, *lines)[-LOG_KEPT:]
            self._draw_details()

    # Actions

    def action_unload(self) -> None:
        """Unload the selected instances; failed ones are removed from the list."""
        wanted = self.selected(lambda i: i.state is not InstanceState.STOPPING, "unload")
        failed = [instance for instance in wanted if instance.state is InstanceState.FAILED]
        live = [instance for instance in wanted if instance not in failed]
        for instances, words in ((failed, _taken_off), (live, _unloaded)):
            self.each(instances, lambda client, instance: client.unload(instance.id), words)

    def action_unload_all(self) -> None:
        """Unload everything, with one receipt."""
        if not any(instance.state.live for instance in self.instances):
            self.dashboard.say("No model is loaded.")
            return
        if all(instance.options.pinned for instance in self.instances if instance.state.live):
            self.dashboard.say(f"All that is loaded is pinned; {self.key_of('pin')} unpins one.")
            return
        self.perform(lambda client: client.unload_all(), _unloaded)

    def _change(self, wanted: Sequence[Instance], words: str, **changes: bool | float) -> None:
        self.each(
            wanted,
            lambda client, instance: client.change_instance(instance.id, **changes),
            lambda done: f"{self.named(done)}: {words}",
        )

    def action_pin(self) -> None:
        """Pin the selected instances, or unpin them if all are pinned."""
        wanted = self.selected(_live, "pin")
        pinned = not all(instance.options.pinned for instance in wanted)
        self._change(
            wanted, "pinned: only you can unload it" if pinned else "unpinned", pinned=pinned
        )

    @work
    async def action_idle_time(self) -> None:
        """Ask for the idle time after which the selected instances are unloaded."""
        wanted = self.selected(_live, "unload")
        if not wanted:
            return

        def act(seconds: float) -> None:
            words = (
                f"unloaded after {fmt.duration(seconds)} idle"
                if seconds
                else "never unloaded for being idle"
            )
            self._change(wanted, words, idle_ttl_s=seconds)

        now = wanted[0].options.idle_ttl_s
        await self.enter(
            f"Unload {self.named(wanted)} when idle for",
            fmt.duration(now) if now else "",
            parse.TIME_FORMS,
            parse.span,
            act,
        )

    @work
    async def action_budget(self) -> None:
        """Ask for the memory budget of all models together."""
        if self.state is None:
            return
        now = self.state.settings.memory_budget_bytes

        def act(count: int | None) -> None:
            self.perform(
                lambda client: client.change_settings(memory_budget_bytes=count), _budgeted
            )

        await self.enter(
            "Memory for all models together",
            "" if now is None else fmt.memory(now),
            parse.MEMORY_FORMS,
            parse.memory,
            act,
        )

    @work(exclusive=True, group="delete")
    async def action_prune(self) -> None:
        """Delete partial files that no download needs, after showing the plan and asking."""
        words = "leftover partial files"
        await delete(self.dashboard, PARTIALS, f"Prune {words}.", f"There are no {words}.")

    def _toggle_details(self) -> None:
        """Show or hide the details of the instance under the cursor."""
        if self.table.cursor_item is None and not self.has_class("open"):
            return
        self.toggle_class("open")
        self._log = ()
        self.call_after_refresh(self._draw_details)
        self._look_at_log()

    def dismiss(self) -> bool:
        """Hide the details, else clear the marks."""
        if self.has_class("open"):
            self.remove_class("open")
            return True
        return self.table.unmark()


def _live(instance: Instance) -> bool:
    return instance.state.live


def _budgeted(settings: Settings) -> str:
    if settings.memory_budget_bytes is None:
        return "No budget"
    return f"Budget: {fmt.memory(settings.memory_budget_bytes)} for models"


def _taken_off(receipts: Sequence[UnloadReceipt]) -> str:
    names = ", ".join(receipt.unique for receipt in receipts)
    return f"{names} taken off the list"


def _unloaded(receipts: Sequence[UnloadReceipt]) -> str:
    if len(receipts) == 1:
        return records.unloaded(receipts[0])
    freed = sum(receipt.freed_bytes or 0 for receipt in receipts)
    seconds = max((receipt.seconds for receipt in receipts), default=0.0)
    models = fmt.number(len(receipts), "model")
    return f"{models} unloaded: freed {fmt.memory(freed)} in {fmt.duration(seconds)}"
