"""Catalog: every model that is listed or lies on this machine, and what the Hub has.

One table holds the models and, under a rule, what the Hub found for the words of the filter. Beside
it, or in its place where it is narrow, stands the detail of the row under the cursor, where a
variant is chosen. Questions to the Hub and to the planner wait until the cursor rests, run beside
the screen, and are called off by the next one, so none holds up a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.reactive import var
from textual.widgets import Input

from core.errors import DeckError
from core.schema import Fit, Model, Repository, SearchHit, SearchResult
from core.state import State
from tui import format as fmt
from tui import pages
from tui.commands import Command, bindings
from tui.screens.catalog_bar import Bar, Filter
from tui.screens.catalog_commands import COMMANDS
from tui.screens.catalog_detail import Choice, Detail, Facts, choices, room
from tui.screens.catalog_rows import (
    COLUMNS,
    Painter,
    Row,
    Show,
    Sort,
    Standing,
    hub_rows,
    key,
    select,
    standing,
)
from tui.screens.catalog_verbs import CatalogVerbs
from tui.widgets.table import Line, Table

WIDE = 120
"""Cells from which on the detail stands beside the table (SCREENS.md)."""
LOW = 18
"""Rows under which the detail keeps to what decides: the variants, and what one would take."""
REST_S = 0.15
"""A cursor that rests this long is asked about; one that runs past is not."""
TYPING_S = 0.4
"""A pause in typing after which the Hub is asked."""
LEAST_QUERY = 2
"""Letters that the Hub is asked for; one finds everything."""
FITS_S = 15.0
"""Between two judgements of all models: what is free changes with what other programs do."""
PARTS = ("#rows", "#variants", "#detail-words", "#bar-count")
LEAST_CONTEXT, MOST_CONTEXT = 256, 1 << 20


class Catalog(CatalogVerbs):
    """The first view."""

    NAME = "catalog"
    TITLE = "Catalog"
    COMMANDS: ClassVar[tuple[Command, ...]] = COMMANDS
    BINDINGS = bindings(NAME, COMMANDS)  # type: ignore[assignment] # a list of one kind of what Textual takes

    DEFAULT_CSS = """
    Catalog {
        & > #body { height: 1fr; }
        & #rows { width: 1fr; }
        & Detail { display: none; width: 1fr; }
        &.wide Detail { display: block; width: 42%; min-width: 50; max-width: 76;
                        border-left: solid $panel; }
        &.detail Detail { display: block; }
        &.detail #rows { display: none; }
        &.wide.detail #rows { display: block; }
    }
    """

    shown: var[Show] = var(Show.ALL)
    sort: var[Sort] = var(Sort.HERE)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._words = ""
        self._found: SearchResult | None = None
        self._asking = False
        self._models: Sequence[Model] = ()
        self._basis: tuple[object, ...] = ()
        self._judged: tuple[object, ...] = ()
        self._fits: dict[str, Fit] = {}
        self._repositories: dict[str, Repository] = {}
        self._notes: dict[str, str] = {}
        """Why the Hub would not tell of a repository, or the planner of a variant, by its id."""
        self._wanted = ""
        """A model that the cursor shall go to once it is listed."""
        self._now = Standing()
        self._painter: Painter | None = None

    def compose(self) -> ComposeResult:
        """The bar, and table and detail under it."""
        glyphs = self.dashboard.glyphs
        yield Bar()
        with Horizontal(id="body"):
            yield Table[Row](COLUMNS, self._line, glyphs, "Waiting for the core.", id="rows")
            yield Detail(glyphs)

    def on_mount(self) -> None:
        """Judge all models again now and then."""
        self.set_interval(FITS_S, self._judge_again)

    def on_resize(self, event: events.Resize) -> None:
        """Where it is wide the detail stands beside the table."""
        self.set_class(event.size.width >= WIDE, "wide")
        self.set_class(event.size.height < LOW, "low")
        self.refresh_rows()

    def activated(self) -> None:
        """The keys belong to the table, or to the variants where they are all there is."""
        in_detail = self.has_class("detail")
        (self.detail.table if in_detail else self.table).focus()
        self.refresh_rows()

    def dismiss(self) -> bool:
        """Back: from the filter, the detail, the marks, the filter's words, what is shown."""
        words = self.query_one(Filter)
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

    def watch_state(self) -> None:
        """The core has news."""
        if self.is_mounted and self.dashboard.current == self.NAME:
            self.refresh_rows()

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
        self.refresh_rows()
        if self.table.cursor_key != here:
            self.table.action_first()

    @property
    def _stands(self) -> bool:
        """Whether all of it is there: a question may be answered while it is taken down."""
        return self.is_mounted and all(self.query(part) for part in PARTS)

    def refresh_rows(self) -> None:
        """Bring everything on the screen up to date; draws only what changed."""
        state = self.state
        if state is None or not self._stands:
            return
        if not self.context:
            self.context = state.settings.context_length
        self._now = standing(state, self._fits)
        self._painter = Painter(self.dashboard.glyphs, self.dashboard.theme_variables)
        live = frozenset(i.model_id for i in pages.live(state))
        basis = (state.models, self._words, self.shown, self.sort, self._fits, live)
        if len(basis) != len(self._basis) or any(
            a is not b and (isinstance(a, dict) or a != b)
            for a, b in zip(basis, self._basis, strict=False)
        ):
            self._basis = basis
            self._models = select(
                state.models.values(), self._words, self.shown, self.sort, self._now
            )
        hub = hub_rows(self._found, self._words, asking=self._asking)
        self.table.empty = self._nothing(state)
        self.table.show([*self._models, *hub], key)
        if self._wanted and self.table.move_to(self._wanted):
            self._wanted = ""
        self._refresh_bar(state)
        self._refresh_detail()
        self._judge(state, live)

    def _nothing(self, state: State) -> str:
        if self._words or self.shown is not Show.ALL:
            return "No model is like this.\nesc shows the others, h searches the Hub."
        return "The list is empty.\nn adds a model, / and a few words search the Hub."

    def _line(self, row: Row) -> Line:
        assert self._painter is not None
        return self._painter.line(row, self._now)

    def _refresh_bar(self, state: State) -> None:
        assert self._painter is not None
        count = fmt.number(len(self._models), "model")
        if marked := len(self.table.marks & {model.id for model in self._models}):
            count = f"{marked} marked of {count}"
        self.query_one(Bar).show(self.shown, self.sort, count, self._painter.ink("muted"))

    # The filter, and the Hub

    @on(Input.Changed, "#filter")
    def _filtered(self, event: Input.Changed) -> None:
        event.stop()
        self._words = event.value.strip()
        if not self._words:
            self._found, self._asking = None, False
        self._restart()
        self._search(TYPING_S)

    @on(Input.Submitted, "#filter")
    def _filter_kept(self, event: Input.Submitted) -> None:
        event.stop()
        self.table.focus()

    @on(Filter.Moved)
    def _move_from_filter(self, event: Filter.Moved) -> None:
        self.table.action_move(event.by)

    def _search(self, after_s: float) -> None:
        """Ask the Hub for the words of the filter; the newest question wins."""
        words = self._words
        if len(words) < LEAST_QUERY:
            self.workers.cancel_group(self, "hub")
            return
        self.beside(partial(self._ask_hub, words, after_s), group="hub", exclusive=True)

    async def _ask_hub(self, words: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._asking = True
        self.refresh_rows()
        try:
            found = await self.dashboard.link.client.search(words)
        except DeckError as error:
            found = SearchResult(query=words, hits=(), error=error.message)
        if words == self._words:
            self._found, self._asking = found, False
            self.refresh_rows()

    # The detail

    @on(Table.Highlighted, "#rows")
    def _other_row(self) -> None:
        self._refresh_detail()
        self._inquire()

    @on(Table.Highlighted, "#variants")
    def _other_variant(self) -> None:
        self._refresh_detail()
        self._inquire()

    @on(Table.Chosen, "#rows")
    def _row_chosen(self) -> None:
        self.open(True)

    def open(self, opened: bool) -> None:
        """Go into the detail, or come back."""
        if opened and not self.detail.table.items and not self.subject():
            return
        self.set_class(opened, "detail")
        self.activated()
        self._inquire()

    def variants(self, row: Model | SearchHit) -> Sequence[Choice]:
        """What can be chosen of a row, as far as it is known."""
        state = self.state
        if state is None:
            return ()
        known = self._repositories.get(row.repo) if row.repo else None
        current = state.models.get(row.id, row) if isinstance(row, Model) else row
        return choices(current, known, state.models)

    def _refresh_detail(self) -> None:
        state = self.state
        if state is None or self._painter is None or not self._stands:
            return
        subject = self.subject()
        if isinstance(subject, Model):
            subject = state.models.get(subject.id, subject)
        repo = subject.repo if subject is not None else None
        repository = self._repositories.get(repo) if repo else None
        note = self._notes.get(repo, "" if repository else "asking the Hub") if repo else ""
        facts = Facts(
            subject=subject,
            repository=repository,
            note=note,
            notes=self._notes,
            choices=self.variants(subject) if subject is not None else (),
            fits=self._fits,
            context=self.context,
            room_bytes=room(state),
            hub=state.host.hub,
            now=self._now,
        )
        self.detail.show(facts, self._painter)

    def _inquire(self) -> None:
        """Ask about the row and the variant under the cursor, once it rests."""
        self.beside(partial(self._ask_about, self.subject()), group="detail", exclusive=True)

    async def _ask_about(self, subject: Model | SearchHit | None) -> None:
        await asyncio.sleep(REST_S)
        if subject is None:
            return
        repo = subject.repo
        if repo and repo not in self._repositories:
            try:
                self._repositories[repo] = await self.dashboard.link.client.repository(repo)
                self._notes.pop(repo, None)
            except DeckError as error:
                self._notes[repo] = str(error)
            self._refresh_detail()
        choice = self.detail.choice if self._stands else None
        told = repo not in self._notes or (choice and choice.model and choice.model.downloaded)
        if choice is not None and told:
            await self._ask_fit(choice)

    async def _ask_fit(self, choice: Choice) -> None:
        """The planner's own word on one variant."""
        context = self.context
        try:
            fit = await self.dashboard.link.client.fit(choice.ref, context)
        except DeckError as error:
            self._notes[choice.key] = str(error)
            self._refresh_detail()
            return
        self._notes.pop(choice.key, None)
        if context == self.context:
            self._fits = {**self._fits, choice.key: fit}
            self.refresh_rows()

    # Fits

    def action_context(self, factor: float) -> None:
        """Halve or double the context length; fits follow."""
        context = int(self.context * factor)
        if self.context and LEAST_CONTEXT <= context <= MOST_CONTEXT:
            self.context = self.chosen_context = context
            self._fits = {}
            self.refresh_rows()
            self._inquire()

    def _judge(self, state: State, live: frozenset[str]) -> None:
        """Have all models judged, where something changed that fits depend on."""
        depends = (self.context, live, id(state.models))  # a changed mapping is another one
        if depends != self._judged:
            self._judged = depends
            self.beside(self._ask_fits, group="fits", exclusive=True)

    def _judge_again(self) -> None:
        if self.dashboard.current == self.NAME and self.state is not None:
            self.beside(self._ask_fits, group="fits", exclusive=True)

    async def _ask_fits(self) -> None:
        context = self.context
        await asyncio.sleep(REST_S)
        try:
            fits = await self.dashboard.link.client.fits(context)
        except DeckError:
            return  # the line on top says that the core is away; the verdicts stay as they were
        if context == self.context:
            kept = {k: fit for k, fit in self._fits.items() if fit.exact and k not in fits}
            self._fits = kept | fits
            self.refresh_rows()

    # Looking

    def reveal(self, model_id: str) -> None:
        """Show a model that is about to be listed, whatever was filtered."""
        self.query_one(Filter).value = ""
        self.shown = Show.ALL
        self._wanted = model_id
        self.refresh_rows()

    def action_filter(self) -> None:
        """Write the filter."""
        if self.has_class("detail"):
            self.open(False)
        self.query_one(Filter).focus()

    def action_hub(self) -> None:
        """Search the Hub now; for what, if there is no filter."""
        if len(self._words) < LEAST_QUERY:
            self.action_filter()
            self.dashboard.say("Write what to search the Hub for.")
        else:
            self._search(0)

    def action_shown(self) -> None:
        """Show the next kind."""
        kinds = list(Show)
        self.shown = kinds[(kinds.index(self.shown) + 1) % len(kinds)]

    def action_sort(self) -> None:
        """Sort by the next column."""
        orders = list(Sort)
        self.sort = orders[(orders.index(self.sort) + 1) % len(orders)]
