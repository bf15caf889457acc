"""Memory screen: memory of the machine, loaded models and who asks them, and unloading."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

from rich.text import Text
from textual import events, work
from textual.app import ComposeResult

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import (
    CacheSelection,
    Instance,
    InstanceState,
    LoadRecord,
    LogLine,
    UnloadReceipt,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.commands import Command, bindings
from modeldeck.tui.dashboard.go_to.entries import GoToEntry, valued
from modeldeck.tui.dashboard.screens.delete_flow import delete
from modeldeck.tui.dashboard.screens.load_form.facts import LoadTarget
from modeldeck.tui.dashboard.screens.load_form.place import FormPlace
from modeldeck.tui.dashboard.screens.memory import details, gauge, receipts
from modeldeck.tui.dashboard.screens.memory import rows as drawn
from modeldeck.tui.dashboard.screens.memory.below import BelowKeys, BelowTable
from modeldeck.tui.dashboard.screens.memory.commands import COMMANDS
from modeldeck.tui.dashboard.screens.memory.history import MemoryHistory
from modeldeck.tui.dashboard.screens.memory.rows import MemoryRow
from modeldeck.tui.dashboard.screens.table_view import TableParts, TableView
from modeldeck.tui.dashboard.widgets.bars import TextLines, wrapped
from modeldeck.tui.dashboard.widgets.filter_input import FilterLine
from modeldeck.tui.dashboard.widgets.row_order import KeptOrder
from modeldeck.tui.dashboard.widgets.scrolled_lines import ScrolledLines
from modeldeck.tui.dashboard.widgets.table import Table, TableLine
from modeldeck.tui.remote.core_link import LinkState
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import parse
from modeldeck.tui.text.filter_language import Language
from modeldeck.tui.text.model_names import row_name, title

SPARK = 24
"""Cells of the history of one instance."""
LOW = 18
"""Height in lines below which blank lines and the labels of the gauges give way."""
TABLE_LEAST = 4
"""Lines that the table has at least, where what is below needs room too."""
WIDE = 116
"""Width in cells from which on the load form stands beside the rest."""

LOG_S = 1.0
"""Seconds between two requests for the log of the open instance."""
LOG_KEPT = 200
"""Most log lines requested; the Log screen has all."""

PARTIALS = CacheSelection(partials=True)


class MemoryView(TableView[Instance, Instance]):
    """The machine, the table of instances, requests, history and disk, and one instance in full."""

    DEFAULT_CSS = """
    MemoryView { padding: 0; }
    MemoryView #machine { padding: 0 0 1 0; }
    MemoryView.filtered #machine { padding: 0; }
    MemoryView #below { height: 1fr; }
    MemoryView #details { display: none; height: 1fr; margin: 1 0 0 0; padding: 0 2;
                      border-top: solid $primary; }
    MemoryView.open #details { display: block; }
    MemoryView.open #below { display: none; }
    MemoryView.low #machine { padding: 0; }
    MemoryView.low #details { margin: 0; height: 2fr; }
    MemoryView > LoadForm { height: 100%; }
    MemoryView > LoadForm.beside { dock: right; }
    MemoryView.load-form-alone { padding: 0; }
    MemoryView.load-form-alone > * { display: none; }
    MemoryView.load-form-alone > LoadForm { display: block; }
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
            order=KeptOrder(drawn.VALUES, lambda row: row.instance.id),
        )
        super().__init__(parts, id=id)
        self.load_form = FormPlace(self, lambda: self)
        self.past = MemoryHistory()
        """What the machine and its instances held."""
        self._log: tuple[LogLine, ...] = ()
        self._detailed = ""
        """Id of the instance whose details were drawn last."""
        self._loads: tuple[LoadRecord, ...] | None = None
        """Earlier loads, for an empty table; None where they have to be asked for."""

    def compose(self) -> ComposeResult:
        """The machine, the table, what is below it, and the details."""
        yield TextLines(id="machine")
        yield FilterLine("idle memory>8", lambda: self.language)
        yield Table[Instance](
            drawn.columns(1), self._line, self.dashboard.glyphs, sortable=drawn.SORTABLE
        )
        yield TextLines(id="below")
        yield ScrolledLines(self.key_of, id="details")

    def _line(self, instance: Instance) -> TableLine:
        models = self.state.models if self.state else {}
        # A view out of sight is not redrawn: its rows may be of instances that are gone.
        number = gauge.by_number(self.state).get(instance.id, 0) if self.state else 0
        unit = drawn.unit_of(self.instances)
        return drawn.line(instance, number, unit, models, self.dashboard.glyphs, self.inks)

    def on_mount(self) -> None:
        """Request the log of an open instance, and draw ages, regularly."""
        self.set_interval(LOG_S, self._look)

    # Drawing

    def on_resize(self, event: events.Resize) -> None:
        """Drop blank lines on a low terminal."""
        self.set_class(event.size.height < LOW, "low")
        self.load_form.resized(beside=event.size.width >= WIDE)
        self.call_after_refresh(self.redraw)

    @property
    def _width(self) -> int:
        """Cells of a line: those beside the load form, where it is open."""
        form = self.load_form.form
        beside = form is not None and form.has_class("beside")
        return self.size.width - (form.outer_size.width if form is not None and beside else 0)

    @property
    def language(self) -> Language[MemoryRow]:
        """The tests of instances."""
        return drawn.LANGUAGE

    @property
    def instances(self) -> list[Instance]:
        """All instances of the core."""
        return list(self.state.instances.values()) if self.state else []

    def watch_state(self) -> None:
        """Record the histories, and draw the new State."""
        if not self.is_mounted or self.state is None:
            return
        self.past.note(time.monotonic(), self.state)
        self.redraw()
        self.load_form.new_state(self.state)

    def draw(self) -> None:
        """Draw the machine, the table, and what is below it or the details."""
        width, machine = self._width, self.query_one("#machine", TextLines)
        if not width:
            return  # before the first layout
        if self.state is None:
            machine.show([Text("  ").append_text(line) for line in self.waiting])
            return
        glyphs, inks, low = self.dashboard.glyphs, self.inks, self.has_class("low")
        lines = gauge.lines(self.state, width, self.key_of("budget"), glyphs, inks, low=low)
        machine.show(lines)
        if not self.instances:
            self._ask_for_loads()
        self._show_rows(drawn.listed(self.state), width)
        used = len(lines) + (1 if not low or self.has_class("filtered") else 0)
        if self.has_class("open"):
            self.table.styles.height = "1fr" if low else self._table_height(self.size.height // 2)
        else:
            self._draw_below(self.state, self.size.height - used)
        self._draw_details()

    def _nothing(self) -> str:
        """What is said without instances."""
        models = self.state.models if self.state is not None else {}
        return drawn.empty(
            self._loads or (), models, datetime.now().astimezone(), self.dashboard.key_of
        )

    def _show_rows(self, every: Sequence[MemoryRow], width: int) -> None:
        """Show the instances that pass the filter, in the chosen order."""
        found = self.in_order([row for row in every if self.passes(row)])
        self.show_count(len(found), len(every))
        table = self.table
        table.columns = drawn.columns(len(every))
        table.empty = "No match." if every else self._nothing()
        names = [row.name for row in every]
        table.arrangement.most_cells = drawn.cells_of_columns(width, names, len(names))
        table.show([row.instance for row in found], key=lambda instance: instance.id)

    def _table_height(self, most: int) -> int:
        """Lines of the table: the head and all rows, or the words of an empty one."""
        rows = len(self.table.items) or len(self.table.empty.split("\n")) + 1
        return max(2, min(rows + 1, most))

    def _draw_below(self, state: State, room: int) -> None:
        """Give the table the lines that it needs, and what is below the rest."""
        keys = BelowKeys(
            requests=self.key_of("requests"),
            disk=self.key_of("disk"),
            prune=self.key_of("prune"),
        )
        below = BelowTable(
            state=state,
            own=self.dashboard.link.client_id,
            now=datetime.now().astimezone(),
            keys=keys,
            width=self._width,
            view_height=self.size.height,
            glyphs=self.dashboard.glyphs,
            inks=self.inks,
        )
        height = self._table_height(max(TABLE_LEAST, room - below.least()))
        self.table.styles.height = height
        history = self.past.chart(state, time.monotonic(), self._width)
        self.query_one("#below", TextLines).show(below.lines(room - height, history))

    def _ask_for_loads(self) -> None:
        """Ask once for earlier loads, since the table is empty."""
        if self._loads is None:
            self._loads = ()
            self.run_worker(self._fetch_loads(), group="loads", exclusive=True)

    async def _fetch_loads(self) -> None:
        try:
            self._loads = tuple(await self.dashboard.link.client.loads(drawn.EARLIER))
        except DeckError:
            return  # the status bar shows that the core does not answer
        self.redraw()

    def _look(self) -> None:
        """Go on with the history; draw what grows older; look at the open log."""
        if self.state is not None:
            is_heard = self.dashboard.link.status.state is LinkState.LIVE
            is_due = self.past.goes_on(time.monotonic(), self.state if is_heard else None)
            if is_due or any(info.live for info in self.state.requests.values()):
                self.redraw()
        self._look_at_log()

    def _other_instance(self) -> None:
        """Show the details of another instance, if they are open."""
        self._log = ()
        self._draw_details()
        self._look_at_log()

    def _draw_details(self) -> None:
        if not self.has_class("open") or self.state is None:
            return
        instance, pane = self.table.cursor_item, self.query_one(ScrolledLines)
        if instance is None:
            pane.put([])
            return
        width = max(10, pane.size.width)
        past = self.past.of_instance(instance.id, time.monotonic(), SPARK)
        asked = [r for r in self.state.requests.values() if r.instance_id == instance.id]
        own = self.dashboard.link.client_id
        facts = details.facts(instance, past, asked, own, self.dashboard.glyphs, self.inks)
        lines = [part for line in facts for part in wrapped(line, width, details.LABEL)]
        room = max(0, pane.size.height - len(lines) - 1)
        said = details.log(self._log[-room:] if room else (), self.inks)
        for line in said:
            line.truncate(width, overflow="ellipsis")
        pane.put([*lines, Text(), *said] if room else lines, anew=instance.id != self._detailed)
        self._detailed = instance.id

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
        for instances, words in ((failed, self._taken_off), (live, self._unloaded)):
            self.each(instances, lambda client, instance: client.unload(instance.id), words)

    def action_unload_all(self) -> None:
        """Unload everything, with one receipt."""
        if not any(instance.state.live for instance in self.instances):
            self.dashboard.say("No model is loaded.")
            return
        if all(instance.options.pinned for instance in self.instances if instance.state.live):
            self.dashboard.say(f"All that is loaded is pinned; {self.key_of('pin')} unpins one.")
            return
        self.perform(lambda client: client.unload_all(), self._unloaded)

    def _taken_off(self, done: Sequence[UnloadReceipt]) -> str:
        return receipts.taken_off(done, {} if self.state is None else self.state.models)

    def _unloaded(self, done: Sequence[UnloadReceipt]) -> str:
        return receipts.unloaded(done, {} if self.state is None else self.state.models)

    def action_load_with(self) -> None:
        """Open the load form for the instance under the cursor."""
        instance = self.table.cursor_item
        if instance is None or self.state is None:
            return
        models = self.state.models
        model = models.get(instance.model_id)
        target = LoadTarget(
            ref=instance.model_id,
            key=instance.model_id,
            title=title(instance.model_id, instance.unique, models),
            name=row_name(instance.model_id, instance.unique, models),
            model=model,
        )
        self.load_form.open([target], beside=self.size.width >= WIDE)
        self.call_after_refresh(self.redraw)

    def activated(self) -> None:
        """Give the focus to the load form, or to the table."""
        super().activated()
        if self.load_form.form is not None:
            self.load_form.form.focus()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Close the load form after a click beside it."""
        self.load_form.clicked(event)

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
        await self.enter(
            "Memory for all models together",
            "" if now is None else fmt.memory(now),
            parse.MEMORY_FORMS,
            parse.memory,
            self._set_budget,
            word="Budget",
        )

    def _set_budget(self, count: int | None) -> None:
        """Set the memory of all models together; None for all that the machine has."""
        self.perform(
            lambda client: client.change_settings(memory_budget_bytes=count), receipts.budgeted
        )

    def go_to(self, written: str) -> Sequence[GoToEntry]:
        """`budget 48G`."""
        return valued(
            written, f"{self.NAME}.budget", parse.memory, self._set_budget, receipts.budgeting
        )

    @work(exclusive=True, group="delete")
    async def action_prune(self) -> None:
        """Delete partial files that no download needs, after showing the plan and asking."""
        words = "leftover partial files"
        await delete(self.dashboard, PARTIALS, f"Prune {words}.", f"No {words}.")

    def _toggle_details(self) -> None:
        """Show or hide the details of the instance under the cursor."""
        if self.table.cursor_item is None and not self.has_class("open"):
            return
        self.toggle_class("open")
        self._log = ()
        self.call_after_refresh(self._draw_details)
        self._look_at_log()

    def dismiss(self) -> bool:
        """Leave the filter, else hide the details; else clear the marks, the filter."""
        if self.writing and self.clear_filter():
            return True
        if self.has_class("open"):
            self.remove_class("open")
            return True
        return self.table.unmark() or self.clear_filter()


def _live(instance: Instance) -> bool:
    return instance.state.live
