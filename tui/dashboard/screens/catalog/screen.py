"""Catalog: all models that are listed or in the cache, and Hub search results.

One table holds the models and, below a rule, the Hub results for the words of the filter. The
detail of the row under the cursor stands beside it, or replaces it on a narrow terminal; there the
user chooses a variant. `CatalogRequests` asks the Hub and the core; `CatalogActions` runs the keys'
actions.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.reactive import var
from textual.widget import Widget
from textual.worker import Worker

from modeldeck.core.schema import Model, SearchHit, model_id
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.commands import Command, bindings
from modeldeck.tui.dashboard.go_to.entries import GoToEntry
from modeldeck.tui.dashboard.screens.catalog.actions import CatalogActions
from modeldeck.tui.dashboard.screens.catalog.checks import VerificationList
from modeldeck.tui.dashboard.screens.catalog.columns import COLUMNS, SORTABLE
from modeldeck.tui.dashboard.screens.catalog.commands import COMMANDS
from modeldeck.tui.dashboard.screens.catalog.detail import VARIANTS, DetailPane
from modeldeck.tui.dashboard.screens.catalog.drawing import CatalogDrawing
from modeldeck.tui.dashboard.screens.catalog.filter_bar import FilterBar
from modeldeck.tui.dashboard.screens.catalog.filters import LANGUAGE, FilteredRow
from modeldeck.tui.dashboard.screens.catalog.go_to import CatalogGoTo
from modeldeck.tui.dashboard.screens.catalog.requests import LEAST_QUERY, CatalogRequests
from modeldeck.tui.dashboard.screens.catalog.rows import Row, Show, key
from modeldeck.tui.dashboard.screens.filtered_view import FilteredView
from modeldeck.tui.dashboard.screens.load_form.facts import LoadTarget
from modeldeck.tui.dashboard.screens.load_form.place import FormPlace
from modeldeck.tui.dashboard.widgets.column_choice import arranged
from modeldeck.tui.dashboard.widgets.columns import widest
from modeldeck.tui.dashboard.widgets.table import Table
from modeldeck.tui.text.filter_language import Language

WIDE = 120
"""Width in cells from which on the detail stands beside the table."""
PANE = 46
"""Least width in cells of the detail beside the table, with its border."""
LOW = 18
"""Height in lines below which the detail shows only the variants and their memory."""
TYPING_S = 0.4
"""Seconds without typing after which the Hub is searched."""
FITS_S = 15.0
"""Seconds between two requests for all fits: free memory changes with other programs."""
PARTS = ("#rows", "#variants", "#detail-words", "#bar-count", "#checks")
"""Widgets that drawing needs."""


class CatalogView(FilteredView):
    """List of models with a filter, and the detail of one."""

    NAME = "catalog"
    TITLE = "Catalog"
    COMMANDS: ClassVar[tuple[Command, ...]] = COMMANDS
    PLAIN_TABLES = frozenset({VARIANTS})
    BINDINGS = bindings(NAME, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    DEFAULT_CSS = """
    CatalogView {
        & > #body { height: 1fr; }
        & #rows { width: 1fr; }
        & DetailPane { display: none; width: 1fr; }
        &.wide DetailPane { display: block; border-left: solid $panel; }
        &.detail DetailPane { display: block; }
        &.detail #rows { display: none; }
        &.wide.detail #rows { display: block; }
        &.load-form { & DetailPane, & #rows, & FilterBar, & VerificationList { display: none; } }
        &.wide.load-form { & #rows, & FilterBar { display: block; } }
        &.low #detail-head { max-height: 2; }
        &.low #variants { margin: 0; max-height: 4; }
        &.low #detail-words { display: none; }
    }
    """

    shown: var[Show] = var(Show.ALL)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.written = ""
        """The filter as it is written, without blanks around it."""
        self.requests = CatalogRequests(self)
        self.actions = CatalogActions(self, self.requests)
        self.load_form = FormPlace(self, lambda: self.query_one("#body"), self._reveal_unique)
        self._drawing = CatalogDrawing(self, self.requests)
        self._go_to = CatalogGoTo(self, self.actions)
        self._order = ("", False)
        """The column and the direction that rows were last sorted by."""
        self._for_hub = False
        """Whether words for the Hub are to be written, by the key that searches it."""
        self._wanted = ""
        """Model that the cursor moves to as soon as it is listed."""
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

    @property
    def words(self) -> str:
        """The words of the filter, without its tests."""
        return " ".join(LANGUAGE.parse(self.written).words)

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
            yield Table[Row](
                COLUMNS,
                self._drawing.line,
                glyphs,
                "Waiting for the core.",
                sortable=SORTABLE,
                id="rows",
            )
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
        self.load_form.resized(beside=self.has_class("wide"))
        self._share_width()
        self.refresh_rows()

    def _share_width(self) -> None:
        """Give the table what its columns can use, and the detail beside it the rest."""
        table = self.table
        if not self.has_class("wide") or self.load_form.form is not None:
            table.styles.width = "1fr"
            return
        wanted = widest(arranged(table.columns, table.choice)) + table.edge
        table.styles.width = min(self.app.size.width - PANE, wanted)

    def activated(self) -> None:
        """Give the focus to the table, or to the variants while the detail is open."""
        in_detail = self.has_class("detail")
        form = self.load_form.form
        (form or (self.detail.table if in_detail else self.table)).focus()
        self.choose_firsts()
        self.refresh_rows()

    def choose_firsts(self) -> None:
        """Choose the models at the top; not while the user looks, so that rows do not move."""
        if self.state is not None:
            self._drawing.choose_firsts(self.state)
            self._share_width()

    def dismiss(self) -> bool:
        """Leave the filter, else the detail; else clear the marks, the words, the kind shown."""
        words = self.filter_field
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
            self.load_form.new_state(now)
        if self.is_mounted and before is None and now is not None:
            self.requests.search(0)

    def watch_shown(self) -> None:
        """Show the other kind of models."""
        self._restart()

    def columns_chosen(self, table: Table[Any]) -> None:
        """Show the models in the chosen order, from its first one, and share the width anew."""
        self._share_width()
        order = (table.choice.sort, table.choice.reverse)
        self._restart()
        if order != self._order:
            self._order = order
            self.table.action_first()

    def _restart(self) -> None:
        """Draw the new list; the cursor goes to the top if its row is no longer listed."""
        if not self.is_mounted:
            return
        here = self.table.cursor_key
        self.choose_firsts()
        self.refresh_rows()
        if self.table.cursor_key != here:
            self.table.action_first()

    def refresh_rows(self) -> None:
        """Bring the whole screen up to date; draws only what changed."""
        if self.state is None or not self.complete:
            return
        self._drawing.draw_rows(self.state)
        if self._wanted and self.table.move_to(self._wanted):
            self._wanted = ""
        self._drawing.draw_rest(self.state)

    def marked_rows(self) -> Sequence[Row | None]:
        """The marked rows, also those that the filter hides; the one under the cursor for none."""
        if not self.table.marks:
            return [self.subject()]
        rows: list[Row] = [row for row in self.table.items if key(row) in self.table.marks]
        shown = {key(row) for row in rows}
        models = self.state.models.values() if self.state is not None else ()
        return [*rows, *(m for m in models if m.id in self.table.marks - shown)]

    # The filter, and the Hub

    @property
    def language(self) -> Language[FilteredRow]:
        """The tests of models, and of results of the Hub."""
        return LANGUAGE

    def rows_filtered(self) -> None:
        """Draw the models that pass the filter, and search the Hub for other words."""
        before, self.written = self.words, self.filter_field.value.strip()
        if not self.words:
            self.requests.results.stop_searching()
        self._restart()
        if self.words != before:
            self.requests.search(TYPING_S)

    def offer_tests(self) -> None:
        """Offer tests, or ask for words where the Hub is to be searched."""
        self._for_hub = self._for_hub and self.writing and not self.filter_field.value
        if self._for_hub:
            self.dashboard.hint("Write what to search the Hub for.")
        else:
            super().offer_tests()

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
        if self.state is not None and self.complete:
            self._drawing.draw_detail(self.state)

    # Keys that change what is shown

    def reveal(self, model_id: str) -> None:
        """Put the cursor on a model as soon as it is listed, without any filter."""
        self.filter_field.value = ""
        self.shown = Show.ALL
        self._wanted = model_id
        self.refresh_rows()

    def action_filter(self) -> None:
        """Give the focus to the filter."""
        self._for_hub = False
        if self.has_class("detail"):
            self.open(False)
        self.filter_field.focus()

    def action_hub(self) -> None:
        """Search the Hub now; without words, let the user write some."""
        if len(self.words) < LEAST_QUERY:
            self.action_filter()
            self._for_hub = True
        else:
            self.requests.search(0)

    def action_shown(self) -> None:
        """Show the next kind of models."""
        kinds = list(Show)
        self.shown = kinds[(kinds.index(self.shown) + 1) % len(kinds)]

    def action_context(self, factor: float) -> None:
        """Halve or double the context length."""
        self.requests.scale_context(factor)

    def go_to(self, written: str) -> Sequence[GoToEntry]:
        """Models, and commands on one of them."""
        return self._go_to.offered(written)

    # The load form

    def open_load_form(self, targets: Sequence[LoadTarget], chosen: Mapping[str, Any]) -> None:
        """Open the load form beside the list, or in its place on a narrow terminal."""
        self.load_form.open(targets, beside=self.has_class("wide"), chosen=chosen)
        self._share_width()

    def _reveal_unique(self, unique: str) -> None:
        self.reveal(model_id(unique))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Close the load form after a click beside it."""
        self.load_form.clicked(event)

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

    def action_bench(self) -> None:
        """Measure how fast the selected variant is."""
        self.actions.bench()

    def action_check_updates(self) -> None:
        """Ask the Hub for newer files."""
        self.actions.check_updates()

    def action_unload(self) -> None:
        """Unload them."""
        self.actions.unload()

    def action_load(self) -> None:
        """Load them."""
        self.actions.load()

    def action_load_with(self) -> None:
        """Open the load form."""
        self.actions.load_with()

    def action_forget_defaults(self) -> None:
        """Forget the load options that are saved for them."""
        self.actions.forget_defaults()

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
