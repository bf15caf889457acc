"""The rows that the catalog lists, selected again only when an input changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from modeldeck.core.schema import Fit, Model, SearchHit
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.catalog.columns import ordered
from modeldeck.tui.dashboard.screens.catalog.filters import LANGUAGE, FilteredRow
from modeldeck.tui.dashboard.screens.catalog.rows import RowContext, Show, belongs
from modeldeck.tui.dashboard.widgets.column_choice import ColumnChoice
from modeldeck.tui.text.filter_language import RowFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFilter:
    """What the user chose to see, and in which order."""

    text: str
    """The filter as it is written."""
    shown: Show
    choice: ColumnChoice
    first: frozenset[str]
    """Ids of the models at the top."""


class CatalogList:
    """The selected models, in order."""

    def __init__(self) -> None:
        self.models: Sequence[Model] = ()
        self.filter: RowFilter[FilteredRow] = LANGUAGE.parse("")
        self._inputs: tuple[object, ...] = ()

    def update(
        self, state: State, fits: Mapping[str, Fit], chosen: ListFilter, now: RowContext
    ) -> None:
        """Select again if an input changed.

        Mappings are compared by identity, as State replaces those that change. What models do now
        selects again where the filter asks for it, but never sorts again: rows stay in their places
        while a person looks.
        """
        moving: object = None
        if chosen.text or chosen.shown in (Show.BUSY, Show.LOADED):
            doing = tuple((key, instance.state) for key, instance in now.instances.items())
            moving = (doing, tuple(now.jobs), now.checking, now.corrupt)
        inputs = (state.models, fits, chosen, moving)
        if not _equal(inputs, self._inputs):
            self._inputs = inputs
            self.filter = LANGUAGE.parse(chosen.text)
            self.models = select(state.models.values(), self.filter, chosen, now)

    def hits(self, found: Sequence[SearchHit], now: RowContext) -> list[SearchHit]:
        """Results of the Hub that pass the tests; it has matched the words itself."""
        return [hit for hit in found if self.filter.passes(FilteredRow(hit, now))]


def select(
    models: Iterable[Model], filter: RowFilter[FilteredRow], chosen: ListFilter, now: RowContext
) -> list[Model]:
    """Models of the kind shown that pass the filter, in order."""
    found = (
        model
        for model in models
        if belongs(model, chosen.shown, now) and filter.matches(FilteredRow(model, now))
    )
    return ordered(found, chosen.choice, now, chosen.first)


def _equal(inputs: tuple[object, ...], before: tuple[object, ...]) -> bool:
    return len(inputs) == len(before) and all(
        a is b or (not isinstance(a, dict) and a == b) for a, b in zip(inputs, before, strict=True)
    )
