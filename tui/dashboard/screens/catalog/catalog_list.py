"""The models that the catalog lists, selected again only when an input changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modeldeck.core.schema import Fit, Model
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.catalog.rows import CatalogSort, RowContext, Show, select


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFilter:
    """What the user chose to see, and in which order."""

    words: str
    shown: Show
    sort: CatalogSort
    first: frozenset[str]
    """Ids of the models at the top."""


class CatalogList:
    """The selected models, in order."""

    def __init__(self) -> None:
        self.models: Sequence[Model] = ()
        self._inputs: tuple[object, ...] = ()

    def update(
        self,
        state: State,
        fits: Mapping[str, Fit],
        chosen: ListFilter,
        now: RowContext,
        live: frozenset[str],
    ) -> None:
        """Select again if an input changed; `live` are the ids of loaded models.

        Mappings are compared by identity, as State replaces those that change.
        """
        moving = (live, state.downloads, now.checking, now.corrupt)
        inputs = (state.models, fits, chosen, moving if chosen.shown is Show.MOVING else live)
        if not _equal(inputs, self._inputs):
            self._inputs = inputs
            self.models = select(
                state.models.values(), chosen.words, chosen.shown, chosen.sort, now, chosen.first
            )


def _equal(inputs: tuple[object, ...], before: tuple[object, ...]) -> bool:
    return len(inputs) == len(before) and all(
        a is b or (not isinstance(a, dict) and a == b) for a, b in zip(inputs, before, strict=True)
    )
