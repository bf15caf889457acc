"""Catalog: every model that is listed or lies on this machine, and what the Hub has.

One table holds the models and, under a rule, what the Hub found for the words of the filter. Beside
it, or in its place where it is narrow, stands the detail of the row under the cursor, where a
variant is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.reactive import var
from textual.widgets import Input

from modeldeck.core.schema import Model
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.commands import Command, bindings
from modeldeck.tui.dashboard.screens.catalog.actions import CatalogActions
from modeldeck.tui.dashboard.screens.catalog.cells import CellPainter
from modeldeck.tui.dashboard.screens.catalog.checks import VerificationList
from modeldeck.tui.dashboard.screens.catalog.commands import COMMANDS
from modeldeck.tui.dashboard.screens.catalog.detail import DetailFacts, DetailPane, room
from modeldeck.tui.dashboard.screens.catalog.filter_bar import FilterBar, FilterInput
from modeldeck.tui.dashboard.screens.catalog.requests import LEAST_QUERY
from modeldeck.tui.dashboard.screens.catalog.rows import (
    COLUMNS,
    CatalogSort,
    Row,
    RowContext,
    Show,
    firsts,
    glance_at,
    hub_rows,
    key,
    select,
    standing,
)
from modeldeck.tui.dashboard.widgets.table import Table, TableLine
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records

WIDE = 120
"""Cells from which on the detail stands beside the table (SCREENS.md)."""
LOW = 18
"""Rows under which the detail keeps to what decides: the variants, and what one would take."""
TYPING_S = 0.4
"""A pause in typing after which the Hub is asked."""
FITS_S = 15.0
"""Between two judgements of all models: what is free changes with what other programs do."""


class CatalogView(CatalogActions):
    """The first view."""

    NAME = "catalog"
    TITLE = "Catalog"
    COMMANDS: ClassVar[tuple[Command, ...]] = COMMANDS
    BINDINGS = bindings(NAME, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    DEFAULT_CSS = """
    CatalogView {
        & > #body { height: 1fr; }
        & #rows { width: 1fr; }
        & DetailPane { display: none; width: 1fr; }
        &.wide DetailPane { display: block; width: 42%; min-width: 50; max-width: 76;
                        border-left: solid $panel; }
        &.detail DetailPane { display: block; }
        &.detail #rows { display: none; }
        &.wide.detail #rows { display: block; }
    }
    """

    shown: var[Show] = var(Show.ALL)
    sort: var[CatalogSort] = var(CatalogSort.HERE)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._models: Sequence[Model] = ()
        self._first: frozenset[str] = frozenset()
        """The models that came first when the person last came to the list."""
        self._basis: tuple[object, ...] = ()
        self._wanted = ""
        """A model that the cursor shall go to once it is listed."""
        self._now = RowContext()
        self._painter: CellPainter | None = None

    def compose(self) -> ComposeResult:
        """The bar, and table and detail under it."""
        glyphs = self.dashboard.glyphs
        yield FilterBar(f"{self.key_of('filter')} filters")
        with Horizontal(id="body"):
            yield Table[Row](COLUMNS, self._line, glyphs, "Waiting for the core.", id="rows")
            yield DetailPane(glyphs, self.key_of)
        yield VerificationList(glyphs, self.key_of("cancel"))

    def on_mount(self) -> None:
        """Judge all models again now and then."""
        self.set_interval(FITS_S, self.judge_again)
        self.dashboard.theme_changed_signal.subscribe(self, lambda _: self.refresh_rows())

    def on_resize(self, event: events.Resize) -> None:
        """Where it is wide the detail stands beside the table."""
        self.set_class(event.size.width >= WIDE, "wide")
        self.set_class(event.size.height < LOW, "low")
        self.refresh_rows()

    def activated(self) -> None:
        """The keys belong to the table, or to the variants where they are all there is."""
        in_detail = self.has_class("detail")
        (self.detail.table if in_detail else self.table).focus()
        self._arrange()
        self.refresh_rows()

    def _arrange(self) -> None:
        """Put first what is here or on its way now; while one looks, rows stay where they are."""
        if self.state is not None:
            now = standing(self.state, self.known.fits)
            self._first = firsts(self.state.models.values(), now)

    def dismiss(self) -> bool:
        """Back: from the filter, the detail, the marks, the filter's words, what is shown."""
        words = self.query_one(FilterInput)
        if words.has_focus:
            words.value = ""
            self.table.focus()
        elif self.has_class("detail"):
            self.open(False)
        elif self.table.unmark():
            self.refresh_rows()
        elif words.value:
            words.value = ""
        elif self.shown is not Show.ALL:
            self.shown = Show.ALL
        else:
            return False
        return True

    # Rows

    def watch_state(self, before: State | None, now: State | None) -> None:
        """The core has news; with the first of it, what was written before is asked as well."""
        if self.is_mounted and self.dashboard.current == self.NAME:
            self.refresh_rows()
        if self.is_mounted and before is None and now is not None:
            self.search(0)

    def watch_shown(self) -> None:
        """Other models are shown."""
        self._restart()

    def watch_sort(self) -> None:
        """In another order."""
        self._restart()

    def _restart(self) -> None:
        """Show what is asked for from the top, unless the row under the cursor is among it."""
        if not self.is_mounted:
            return
        here = self.table.cursor_key
        self._arrange()
        self.refresh_rows()
        if self.table.cursor_key != here:
            self.table.action_first()

    def refresh_rows(self) -> None:
        """Bring everything on the screen up to date; draws only what changed."""
        state = self.state
        if state is None or not self.stands:
            return
        if not self.context:
            self.context = state.settings.context_length
            self._arrange()
        fits = self.known.fits
        self._now = standing(state, fits)
        self._painter = CellPainter(self.dashboard.glyphs, self.dashboard.theme_variables)
        live = frozenset(i.model_id for i in records.live(state))
        going = (live, state.downloads, self._now.checking, self._now.corrupt)
        moving = going if self.shown is Show.MOVING else live
        basis = (state.models, self.words, self.shown, self.sort, fits, self._first, moving)
        if len(basis) != len(self._basis) or any(
            a is not b and (isinstance(a, dict) or a != b)
            for a, b in zip(basis, self._basis, strict=False)
        ):
            self._basis = basis
            self._models = select(
                state.models.values(), self.words, self.shown, self.sort, self._now, self._first
            )
        hub = hub_rows(
            self.known.found, self.words, asking=self.known.asking, key=self.key_of("hub")
        )
        self.table.empty = self._nothing(state)
        self.table.show([*self._models, *hub], key)
        if self._wanted and self.table.move_to(self._wanted):
            self._wanted = ""
        self._refresh_bar(state)
        self.refresh_detail()
        self.query_one(VerificationList).show(state)
        self.judge(state, live)

    def _nothing(self, state: State) -> str:
        if self.words or self.shown is not Show.ALL:
            back, ask = self.dashboard.key_of("app.back"), self.key_of("hub")
            return f"No model is like this.\n{back} shows the others, {ask} searches the Hub."
        add, find = self.key_of("new"), self.key_of("filter")
        return f"The list is empty.\n{add} adds a model, {find} and a few words search the Hub."

    def _line(self, row: Row) -> TableLine:
        assert self._painter is not None
        return self._painter.line(row, self._now)

    def _refresh_bar(self, state: State) -> None:
        assert self._painter is not None
        count = fmt.number(len(self._models), "model")
        if marked := len(self.table.marks & {model.id for model in self._models}):
            count = f"{marked} marked of {count}"
        glance = glance_at(state.models.values(), self._now)
        self.query_one(FilterBar).show(self.shown, self.sort, glance, count, self._painter)

    # The filter, and the Hub

    @on(Input.Changed, "#filter")
    def _filtered(self, event: Input.Changed) -> None:
        event.stop()
        self.words = event.value.strip()
        if not self.words:
            self.known.stop_searching()
        self._restart()
        self.search(TYPING_S)

    @on(Input.Submitted, "#filter")
    def _filter_kept(self, event: Input.Submitted) -> None:
        event.stop()
        self.table.focus()

    @on(FilterInput.Moved)
    def _move_from_filter(self, event: FilterInput.Moved) -> None:
        self.table.action_move(event.by)

    # The detail

    @on(Table.Highlighted, "#rows")
    def _other_row(self) -> None:
        self.refresh_detail()
        self.inquire()

    @on(Table.Highlighted, "#variants")
    def _other_variant(self) -> None:
        self.refresh_detail()
        self.inquire()

    @on(Table.RowOpened, "#rows")
    def _row_chosen(self) -> None:
        self.open(True)

    def open(self, opened: bool) -> None:
        """Go into the detail, or come back."""
        if opened and not self.detail.table.items and not self.subject():
            return
        self.set_class(opened, "detail")
        self.activated()
        self.inquire()

    def refresh_detail(self) -> None:
        """Bring the pane up to date; draws only what changed."""
        state = self.state
        if state is None or self._painter is None or not self.stands:
            return
        subject = self.subject()
        if isinstance(subject, Model):
            subject = state.models.get(subject.id, subject)
        repo = subject.repo if subject is not None else None
        facts = DetailFacts(
            subject=subject,
            repository=self.repository(repo) if repo else None,
            note=self.known.note(repo),
            notes=self.known.notes,
            choices=self.variants(subject) if subject is not None else (),
            fits=self.known.fits,
            context=self.context,
            room_bytes=room(state),
            hub=state.host.hub,
            now=self._now,
        )
        self.detail.show(facts, self._painter)

    # Looking

    def reveal(self, model_id: str) -> None:
        """Show a model that is about to be listed, whatever was filtered."""
        self.query_one(FilterInput).value = ""
        self.shown = Show.ALL
        self._wanted = model_id
        self.refresh_rows()

    def action_filter(self) -> None:
        """Write the filter."""
        if self.has_class("detail"):
            self.open(False)
        self.query_one(FilterInput).focus()

    def action_hub(self) -> None:
        """Search the Hub now; for what, if there is no filter."""
        if len(self.words) < LEAST_QUERY:
            self.action_filter()
            self.dashboard.say("Write what to search the Hub for.")
        else:
            self.search(0)

    def action_shown(self) -> None:
        """Show the next kind."""
        kinds = list(Show)
        self.shown = kinds[(kinds.index(self.shown) + 1) % len(kinds)]

    def action_sort(self) -> None:
        """Sort by the next column."""
        orders = list(CatalogSort)
        self.sort = orders[(orders.index(self.sort) + 1) % len(orders)]
