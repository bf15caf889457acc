"""Requests of the catalog: Hub searches, repository contents, and memory fits.

Each waits until typing or the cursor pauses, runs in a worker, and is cancelled by the next one of
its group, so none delays a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import Model, Repository, SearchHit
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.catalog.interface import CatalogInterface
from modeldeck.tui.dashboard.screens.catalog.results import HubResults
from modeldeck.tui.dashboard.screens.catalog.targets import DetailTarget, choices

REST_S = 0.15
"""Seconds that the cursor has to rest on a row before the row's details are requested."""
LEAST_QUERY = 2
"""Minimum length of a Hub search in characters; a single one matches everything."""
LEAST_CONTEXT, MOST_CONTEXT = 256, 1 << 20
"""Bounds of the context length in tokens; the trained one is another."""


class CatalogRequests:
    """Asks the Hub and the core, and keeps the answers in `results`."""

    def __init__(self, view: CatalogInterface) -> None:
        self.results = HubResults()
        self.chosen_context: int | None = None
        """Context length in tokens that the user chose for all models; None where each has the one
        that a load would give it."""
        self._view = view
        self._fit_basis: tuple[object, ...] = ()
        """What the fits of all models were last calculated from."""

    # The Hub

    def search(self, after_s: float) -> None:
        """Search the Hub for the words of the filter after a pause of `after_s` seconds."""
        words = self._view.words
        if len(words) < LEAST_QUERY:
            self._view.cancel("hub")
            return
        self._view.background(partial(self._search, words, after_s), group="hub", exclusive=True)

    async def _search(self, words: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self.results.searching = True
        self._view.refresh_rows()
        found = await self.results.search(self._view.dashboard.link, words)
        if words == self._view.words:
            self.results.found, self.results.searching = found, False
            self._view.refresh_rows()

    def repository(self, repo: str) -> Repository | None:
        """Contents of a repository; None until they are known."""
        return self.results.repositories.get(repo)

    async def fetch_repository(self, repo: str) -> Repository:
        """Contents of a repository, from the Hub if they are not known. Raises DeckError."""
        try:
            return await self.results.repository(self._view.dashboard.link, repo)
        finally:
            self._view.refresh_detail()

    def variants(self, row: Model | SearchHit) -> Sequence[DetailTarget]:
        """Variants of a row that can be chosen, as far as they are known."""
        state = self._view.state
        if state is None:
            return ()
        known = self.repository(row.repo) if row.repo else None
        current = state.models.get(row.id, row) if isinstance(row, Model) else row
        return choices(current, known, state.models)

    # The row under the cursor

    def fetch_details(self) -> None:
        """Request what is missing of the row and the variant under the cursor."""
        fetch = partial(self._fetch_details, self._view.subject())
        self._view.background(fetch, group="detail", exclusive=True)

    async def _fetch_details(self, subject: Model | SearchHit | None) -> None:
        await asyncio.sleep(REST_S)
        if subject is None:
            return
        repo, is_known = subject.repo, True
        if repo and self.repository(repo) is None:
            try:
                await self.fetch_repository(repo)
            except DeckError:
                is_known = False  # the detail shows the reason
        choice = self._view.detail.choice if self._view.complete else None
        if choice is not None and (is_known or (choice.model and choice.model.downloaded)):
            await self._plan(choice)

    async def _plan(self, choice: DetailTarget) -> None:
        """Request the planner's fit of one variant."""
        chosen, context = self.chosen_context, self.requested(choice)
        fit = await self.results.plan(self._view.dashboard.link, choice, context)
        if fit is None:
            self._view.refresh_detail()
        elif chosen == self.chosen_context:
            self.results.add_fits({choice.key: fit})
            self._view.refresh_rows()

    # The context length

    def longest(self, choice: DetailTarget | None) -> int | None:
        """The context length that a variant was trained for; None where it is not known."""
        return choice.model.context_length if choice and choice.model else None

    def requested(self, choice: DetailTarget) -> int | None:
        """The context length to load a variant with; None for what the core would give it.

        It is the chosen one, or the trained one if that is shorter.
        """
        if self.chosen_context is None:
            return None
        return min(self.chosen_context, self.longest(choice) or self.chosen_context)

    def shown_context(self, choice: DetailTarget | None, state: State) -> int:
        """The context length that a load of this variant would have now."""
        if choice is not None and (context := self.requested(choice)) is not None:
            return context
        fit = self.results.fits.get(choice.key) if choice else None
        if fit is not None and fit.context_length:
            return fit.context_length
        setting = state.settings.context_length
        return min(setting, self.longest(choice) or setting)

    def scale_context(self, factor: float) -> None:
        """Multiply the shown context length within its bounds, and calculate all fits for it."""
        view = self._view
        if view.state is None or not view.complete:
            return
        choice = view.detail.choice
        before = self.shown_context(choice, view.state)
        most = self.longest(choice) or MOST_CONTEXT
        context = max(min(LEAST_CONTEXT, before), min(int(before * factor), most))
        if context != before:
            self.chosen_context = context
            self.results.fits = {}
            view.refresh_rows()
            self.fetch_details()

    # Fits of all models

    def update_fits(self, state: State, live: frozenset[str]) -> None:
        """Request the fits of all models if their basis changed."""
        chosen = (self.chosen_context, state.settings.context_length)
        # A changed mapping is another object. What engines take for themselves is measured late.
        basis = (chosen, live, id(state.models), state.runtimes)
        if basis != self._fit_basis:
            self._fit_basis = basis
            self._view.background(self._fetch_fits, group="fits", exclusive=True)

    def repeat_fits(self) -> None:
        """Request the fits again while the catalog is in front: free memory changes on its own."""
        view = self._view
        if view.dashboard.current == view.NAME and view.state is not None:
            view.background(self._fetch_fits, group="fits", exclusive=True)

    async def _fetch_fits(self) -> None:
        context = self.chosen_context
        await asyncio.sleep(REST_S)
        try:
            fits = await self._view.dashboard.link.client.fits(context)
        except DeckError:
            return  # the status bar shows that the core is away; the fits stay as they were
        if context == self.chosen_context:
            self.results.add_fits(fits)
            self._view.refresh_rows()
