"""Catalog: all models that are listed or in the cache, and Hub search results.

One table holds the models and, below a rule, the Hub results for the words of the filter. The
detail of the row under the cursor stands beside it, or replaces it on a narrow terminal; there the
user chooses a variant. `CatalogRequests` asks the Hub and the core; `CatalogActions` runs the keys'
actions.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.reactive import var
from textual.widget import Widget
from textual.widgets import Input
from textual.worker import Worker

from modeldeck.core.schema import Model, SearchHit
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.commands import Command, bindings
from modeldeck.tui.dashboard.screens.catalog.actions import CatalogActions
from modeldeck.tui.dashboard.screens.catalog.catalog_list import CatalogList, ListFilter
from modeldeck.tui.dashboard.screens.catalog.cells import CellPainter
from modeldeck.tui.dashboard.screens.catalog.checks import VerificationList
from modeldeck.tui.dashboard.screens.catalog.commands import COMMANDS
from modeldeck.tui.dashboard.screens.catalog.detail import DetailFacts, DetailPane, room
from modeldeck.tui.dashboard.screens.catalog.filter_bar import FilterBar, FilterInput
from modeldeck.tui.dashboard.screens.catalog.requests import LEAST_QUERY, CatalogRequests
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
    standing,
)
from modeldeck.tui.dashboard.screens.view import View
from modeldeck.tui.dashboard.widgets.table import Table, TableLine
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records

WIDE = 120
"""Width in cells from which on the detail stands beside the table."""
LOW = 18
"""Height in lines below which the detail shows only the variants and their memory."""
TYPING_S = 0.4
"""Seconds without typing after which the Hub is searched."""
FITS_S = 15.0
"""Seconds between two requests for all fits: free memory changes with other programs."""
PARTS = ("#rows", "#variants", "#detail-words", "#bar-count", "#checks")
"""Widgets that drawing needs."""


class CatalogView(View):
    """List of models with a filter, and the detail of one."""

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
        self.words = ""
        """Text of the filter, without blanks around it."""
        self.requests = CatalogRequests(self)
        self.actions = CatalogActions(self, self.requests)
        self._list = CatalogList()
        self._first: frozenset[str] = frozenset()
        """Models that stay at the top until the user comes to the list again."""
        self._wanted = ""
        """Model that the cursor moves to as soon as it is listed."""
        self._now = RowContext()
        self._painter: CellPainter | None = None
        self._widgets: list[Widget] = []
        """The widgets named in PARTS, once all of them are mounted."""

    @property
    def table(self) -> Table[Row]:
        """The list of models and Hub results."""
        return self.query_one("#rows", Table)

    @property
    def detail(self) -> DetailPane:
        """The detail of the row under the cursor."""
        return self.query_one(DetailPane)

    @property
    def complete(self) -> bool:
        """Whether all widgets are mounted; an answer may arrive while the screen is removed."""
        if len(self._widgets) < len(PARTS):
            self._widgets = [widget for name in PARTS for widget in self.query(name)]
        return (
            self.is_mounted
            and len(self._widgets) == len(PARTS)
            and all(widget.is_attached for widget in self._widgets)
        )

    def subject(self) -> Model | SearchHit | None:
        """The model or Hub result under the cursor."""
        row = self.table.cursor_item
        return row if isinstance(row, Model | SearchHit) else None

    def background(
        self, work: Callable[[], Coroutine[Any, Any, None]], *, group: str, exclusive: bool = False
    ) -> Worker[None]:
        """Run work in a worker; an exclusive one cancels the others of its group.

        `work` is a function, as a coroutine that is cancelled before it starts warns.
        """
        return self.run_worker(work, group=group, exclusive=exclusive)

    def cancel(self, group: str) -> None:
        """Cancel the workers of a group."""
        self.workers.cancel_group(self, group)

    def compose(self) -> ComposeResult:
        """The filter bar, the table and the detail, and running verifications."""
        glyphs = self.dashboard.glyphs
        yield FilterBar(f"{self.key_of('filter')} filters")
        with Horizontal(id="body"):
            yield Table[Row](COLUMNS, self._line, glyphs, "Waiting for the core.", id="rows")
            yield DetailPane(glyphs, self.key_of)
        yield VerificationList(glyphs, self.key_of("cancel"))

    def on_mount(self) -> None:
        """Request the fits now and then, and redraw when the theme changes."""
        self.set_interval(FITS_S, self.requests.repeat_fits)
        self.dashboard.theme_changed_signal.subscribe(self, lambda _: self.refresh_rows())

    def on_resize(self, event: events.Resize) -> None:
        """Place the detail beside the table on a wide terminal."""
        self.set_class(event.size.width >= WIDE, "wide")
        self.set_class(event.size.height < LOW, "low")
        self.refresh_rows()

    def activated(self) -> None:
        """Give the focus to the table, or to the variants while the detail is open."""
        in_detail = self.has_class("detail")
        (self.detail.table if in_detail else self.table).focus()
        self._arrange()
        self.refresh_rows()

    def _arrange(self) -> None:
        """Choose the models at the top: local ones, and those being downloaded.

        Not done while the user looks at the list, so that rows do not move.
        """
        if self.state is not None:
            now = standing(self.state, self.requests.results.fits)
            self._first = firsts(self.state.models.values(), now)

    def dismiss(self) -> bool:
        """Leave the filter, else the detail; else clear the marks, the words, the kind shown."""
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
        """Draw the new State; after the first one, search the Hub for words written before it."""
        if self.is_mounted and self.dashboard.current == self.NAME:
            self.refresh_rows()
        if self.is_mounted and before is None and now is not None:
            self.requests.search(0)

    def watch_shown(self) -> None:
        """Show the other kind of models."""
        self._restart()

    def watch_sort(self) -> None:
        """Show the models in the other order."""
        self._restart()

    def _restart(self) -> None:
        """Draw the new list; the cursor goes to the top if its row is no longer listed."""
        if not self.is_mounted:
            return
        here = self.table.cursor_key
        self._arrange()
        self.refresh_rows()
        if self.table.cursor_key != here:
            self.table.action_first()

    def refresh_rows(self) -> None:
        """Bring the whole screen up to date; draws only what changed."""
        state = self.state
        if state is None or not self.complete:
            return
        results = self.requests.results
        if not self.requests.context:
            self.requests.context = state.settings.context_length
            self._arrange()
        self._now = standing(state, results.fits)
        self._painter = CellPainter(self.dashboard.glyphs, self.dashboard.theme_variables)
        live = frozenset(i.model_id for i in records.live(state))
        chosen = ListFilter(words=self.words, shown=self.shown, sort=self.sort, first=self._first)
        self._list.update(state, results.fits, chosen, self._now, live)
        hub = hub_rows(results.found, self.words, asking=results.searching, key=self.key_of("hub"))
        self.table.empty = self._nothing(state)
        self.table.show([*self._list.models, *hub], key)
        if self._wanted and self.table.move_to(self._wanted):
            self._wanted = ""
        self._refresh_bar(state)
        self.refresh_detail()
        self.query_one(VerificationList).show(state)
        self.requests.update_fits(state, live)

    def _nothing(self, state: State) -> str:
        if self.words or self.shown is not Show.ALL:
            back, ask = self.dashboard.key_of("app.back"), self.key_of("hub")
            return f"No match.\n{back} shows the others, {ask} searches the Hub."
        add, find = self.key_of("new"), self.key_of("filter")
        return f"The list is empty.\n{add} adds a model, {find} and a few words search the Hub."

    def _line(self, row: Row) -> TableLine:
        assert self._painter is not None
        return self._painter.line(row, self._now)

    def _refresh_bar(self, state: State) -> None:
        assert self._painter is not None
        count = fmt.number(len(self._list.models), "model")
        if marked := len(self.table.marks & {model.id for model in self._list.models}):
            count = f"{marked} marked of {count}"
        glance = glance_at(state.models.values(), self._now)
        self.query_one(FilterBar).show(self.shown, self.sort, glance, count, self._painter)

    # The filter, and the Hub

    @on(Input.Changed, "#filter")
    def _filtered(self, event: Input.Changed) -> None:
        event.stop()
        self.words = event.value.strip()
        if not self.words:
            self.requests.results.stop_searching()
        self._restart()
        self.requests.search(TYPING_S)

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
        self.requests.fetch_details()

    @on(Table.Highlighted, "#variants")
    def _other_variant(self) -> None:
        self.refresh_detail()
        self.requests.fetch_details()

    @on(Table.RowOpened, "#rows")
    def _row_chosen(self) -> None:
        self.open(True)

    def open(self, opened: bool) -> None:
        """Move the keys into the detail, or back to the table."""
        if opened and not self.detail.table.items and not self.subject():
            return
        self.set_class(opened, "detail")
        self.activated()
        self.requests.fetch_details()

    def refresh_detail(self) -> None:
        """Bring the detail up to date; draws only what changed."""
        state = self.state
        if state is None or self._painter is None or not self.complete:
            return
        subject = self.subject()
        if isinstance(subject, Model):
            subject = state.models.get(subject.id, subject)
        repo = subject.repo if subject is not None else None
        requests, results = self.requests, self.requests.results
        facts = DetailFacts(
            subject=subject,
            repository=requests.repository(repo) if repo else None,
            note=results.note(repo),
            notes=results.notes,
            choices=requests.variants(subject) if subject is not None else (),
            fits=results.fits,
            context=requests.context,
            room_bytes=room(state),
            hub=state.host.hub,
            now=self._now,
        )
        self.detail.show(facts, self._painter)

    # Keys that change what is shown

    def reveal(self, model_id: str) -> None:
        """Put the cursor on a model as soon as it is listed, without any filter."""
        self.query_one(FilterInput).value = ""
        self.shown = Show.ALL
        self._wanted = model_id
        self.refresh_rows()

    def action_filter(self) -> None:
        """Give the focus to the filter."""
        if self.has_class("detail"):
            self.open(False)
        self.query_one(FilterInput).focus()

    def action_hub(self) -> None:
        """Search the Hub now; without words, let the user write some."""
        if len(self.words) < LEAST_QUERY:
            self.action_filter()
            self.dashboard.say("Write what to search the Hub for.")
        else:
            self.requests.search(0)

    def action_shown(self) -> None:
        """Show the next kind of models."""
        kinds = list(Show)
        self.shown = kinds[(kinds.index(self.shown) + 1) % len(kinds)]

    def action_sort(self) -> None:
        """Sort by the next column."""
        orders = list(CatalogSort)
        self.sort = orders[(orders.index(self.sort) + 1) % len(orders)]

    def action_context(self, factor: float) -> None:
        """Halve or double the context length."""
        self.requests.scale_context(factor)

    # Keys that act on models

    def action_download(self) -> None:
        """Download the selected variants."""
        self.actions.download()

    def action_cancel(self) -> None:
        """Cancel their downloads or loads."""
        self.actions.cancel()

    def action_delete(self) -> None:
        """Delete their files, after asking."""
        self.actions.delete()

    def action_verify(self) -> None:
        """Check their files against their hashes."""
        self.actions.verify()

    def action_unload(self) -> None:
        """Unload them."""
        self.actions.unload()

    def action_load(self) -> None:
        """Load them."""
        self.actions.load()

    def action_load_with(self) -> None:
        """Ask for load options, then load."""
        self.actions.load_with()

    def action_chat(self) -> None:
        """Open Chat with the model."""
        self.actions.chat()

    def action_card(self) -> None:
        """Show the model card."""
        self.actions.card()

    def action_new(self) -> None:
        """Open the form for a new custom model."""
        self.actions.new()

    def action_edit(self) -> None:
        """Open the form for the custom model under the cursor."""
        self.actions.edit()

    def action_remove(self) -> None:
        """Remove the custom model under the cursor from the list, after asking."""
        self.actions.remove()

    def action_copy(self) -> None:
        """Copy names or paths."""
        self.actions.copy()
