"""`CatalogDrawing`: brings the widgets of the catalog up to date with the newest State."""

from __future__ import annotations

from collections.abc import Sequence

from modeldeck.core.schema import Model, SearchHit
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.catalog.catalog_list import CatalogList, ListFilter
from modeldeck.tui.dashboard.screens.catalog.cells import CellPainter
from modeldeck.tui.dashboard.screens.catalog.checks import VerificationList
from modeldeck.tui.dashboard.screens.catalog.columns import named, order_words
from modeldeck.tui.dashboard.screens.catalog.detail_words import DetailFacts
from modeldeck.tui.dashboard.screens.catalog.filter_bar import BarFacts, FilterBar
from modeldeck.tui.dashboard.screens.catalog.interface import CatalogInterface
from modeldeck.tui.dashboard.screens.catalog.requests import CatalogRequests
from modeldeck.tui.dashboard.screens.catalog.rows import (
    Heading,
    Row,
    RowContext,
    Show,
    firsts,
    glance_at,
    hub_rows,
    key,
    parted,
    standing,
)
from modeldeck.tui.dashboard.screens.catalog.targets import room
from modeldeck.tui.dashboard.widgets.table import TableLine
from modeldeck.tui.text import records


class CatalogDrawing:
    """Draws the rows, the filter bar, the detail and the verifications; only what changed."""

    def __init__(self, view: CatalogInterface, requests: CatalogRequests) -> None:
        self._view = view
        self._requests = requests
        self._list = CatalogList()
        self._first: frozenset[str] = frozenset()
        """Models that stay at the top until the user comes to the list again."""
        self._now = RowContext()
        self._painter: CellPainter | None = None

    def choose_firsts(self, state: State) -> None:
        """Choose the models at the top: local ones, and those being downloaded.

        Not done while the user looks at the list, so that rows do not move.
        """
        now = standing(state, self._requests.results.fits)
        self._first = firsts(state.models.values(), now)
        self._view.table.columns = named(state.models.values())

    def draw_rows(self, state: State) -> None:
        """Select and draw the rows; `draw_rest` belongs to it."""
        view, results = self._view, self._requests.results
        if not self._now.ready:
            view.choose_firsts()
        self._now = standing(state, results.fits)
        chosen = ListFilter(
            text=view.written, shown=view.shown, choice=view.table.choice, first=self._first
        )
        self._list.update(state, results.fits, chosen, self._now)
        self._painter = CellPainter(
            view.dashboard.glyphs,
            view.dashboard.theme_variables,
            self._list.filter.words,
            view.dashboard.is_demo,
        )
        view.table.show(self._rows(), key)

    def draw_rest(self, state: State) -> None:
        """Bring all but the rows up to date."""
        self._draw_bar(state)
        self.draw_detail(state)
        self._view.query_one(VerificationList).show(state)
        live = frozenset(i.model_id for i in records.live(state))
        self._requests.update_fits(state, live)

    def _rows(self) -> list[Row]:
        """Models, then results of the Hub; sets what is said where there are none."""
        view, results = self._view, self._requests.results
        found, text = results.found, " ".join(self._list.filter.words)
        hits = self._list.hits(found.hits, self._now) if found is not None else ()
        hub = hub_rows(found, text, hits, asking=results.searching, key=view.key_of("hub"))
        if not self._list.models and not hits:
            view.table.empty, hub = self._nothing(hub), []
        is_demo = view.dashboard.is_demo
        return [*(parted(self._list.models) if is_demo else self._list.models), *hub]

    def _nothing(self, hub: Sequence[Row]) -> str:
        """What is said without rows; `hub` is the rule that tells of the search on the Hub."""
        view = self._view
        if view.written or view.shown is not Show.ALL:
            told = [row.words for row in hub if isinstance(row, Heading)]
            back = f"{view.dashboard.key_of('app.back')} shows the others."
            return "\n".join(["No match.", *told, back])
        add, find = view.key_of("new"), view.key_of("filter")
        return f"The list is empty.\n{add} adds a model, {find} searches the Hub."

    def line(self, row: Row) -> TableLine:
        """The line of a row."""
        assert self._painter is not None
        return self._painter.line(row, self._now)

    def _draw_bar(self, state: State) -> None:
        assert self._painter is not None
        table, glyphs = self._view.table, self._view.dashboard.glyphs
        shown = {key(row) for row in table.items}
        # A mark on a result of the Hub ends with the results; a model may only be hidden.
        table.unmark({mark for mark in table.marks - shown if mark not in state.models})
        facts = BarFacts(
            show=self._view.shown,
            order=order_words(table.choice, glyphs),
            glance=glance_at(state.models.values(), self._now),
            listed=len(self._list.models),
            total=len(state.models),
            hub=sum(isinstance(row, SearchHit) for row in table.items),
            marked=len(table.marks),
            hidden=len(table.marks - shown),
        )
        self._view.query_one(FilterBar).show(facts, self._painter)

    def draw_detail(self, state: State) -> None:
        """Bring the detail up to date."""
        if self._painter is None:
            return
        subject = self._view.subject()
        if isinstance(subject, Model):
            subject = state.models.get(subject.id, subject)
        repo = subject.repo if subject is not None else None
        requests, results = self._requests, self._requests.results
        choice = self._view.detail.choice
        facts = DetailFacts(
            subject=subject,
            repository=requests.repository(repo) if repo else None,
            note=results.note(repo),
            notes=results.notes,
            choices=requests.variants(subject) if subject is not None else (),
            fits=results.fits,
            context=requests.shown_context(choice, state),
            longest=requests.longest(choice),
            room_bytes=room(state),
            budget_bytes=state.settings.memory_budget_bytes,
            hub=state.host.hub,
            now=self._now,
        )
        self._view.detail.show(facts, self._painter)
