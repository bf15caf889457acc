"""The questions of the catalog: to the Hub about words and repositories, to the planner about fits.

Each waits until the cursor or the typing rests, runs beside the screen, and is called off by the
next one, so none holds up a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from textual.reactive import var
from textual.widget import Widget
from textual.worker import Worker

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import Model, Repository, SearchHit
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.catalog.detail import DetailPane, DetailTarget, choices
from modeldeck.tui.dashboard.screens.catalog.results import HubResults
from modeldeck.tui.dashboard.screens.catalog.rows import Row
from modeldeck.tui.dashboard.screens.view import View
from modeldeck.tui.dashboard.widgets.table import Table

REST_S = 0.15
"""A cursor that rests this long is asked about; one that runs past is not."""
LEAST_QUERY = 2
"""Letters that the Hub is asked for; one finds everything."""
LEAST_CONTEXT, MOST_CONTEXT = 256, 1 << 20
PARTS = ("#rows", "#variants", "#detail-words", "#bar-count", "#checks")


class CatalogRequests(View):
    """The part of the catalog that asks."""

    words = ""
    """What is written in the filter."""
    context: var[int] = var(0)
    """The context length that fits are told for; 0 before the first State."""
    chosen_context: int | None = None
    """The context length that the person chose; None where it is the setting's."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.known = HubResults()
        self._parts: list[Widget] = []
        """What it consists of, once all of it was there."""
        self._judged: tuple[object, ...] = ()
        """What the last judgement of all models depended on."""

    @property
    def table(self) -> Table[Row]:
        """The rows."""
        return self.query_one("#rows", Table)

    @property
    def detail(self) -> DetailPane:
        """The pane."""
        return self.query_one(DetailPane)

    def subject(self) -> Model | SearchHit | None:
        """The row under the cursor."""
        row = self.table.cursor_item
        return row if isinstance(row, Model | SearchHit) else None

    def beside(
        self, work: Callable[[], Coroutine[Any, Any, None]], *, group: str, exclusive: bool = False
    ) -> Worker[None]:
        """Run something beside the screen; where it is exclusive, the newest of a group wins.

        It takes a function, not a coroutine: one that is called off before it began leaves nothing.
        """
        return self.run_worker(work, group=group, exclusive=exclusive)

    @property
    def stands(self) -> bool:
        """Whether all of it is there: a question may be answered while it is taken down."""
        if len(self._parts) < len(PARTS):
            self._parts = [part for name in PARTS for part in self.query(name)]
        return (
            self.is_mounted
            and len(self._parts) == len(PARTS)
            and all(part.is_attached for part in self._parts)
        )

    def refresh_rows(self) -> None:
        """Bring everything on the screen up to date."""
        raise NotImplementedError

    def refresh_detail(self) -> None:
        """Bring the pane up to date."""
        raise NotImplementedError

    # The Hub

    def search(self, after_s: float) -> None:
        """Ask the Hub for the words of the filter; the newest question wins."""
        words = self.words
        if len(words) < LEAST_QUERY:
            self.workers.cancel_group(self, "hub")
            return
        self.beside(partial(self._ask_hub, words, after_s), group="hub", exclusive=True)

    async def _ask_hub(self, words: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self.known.asking = True
        self.refresh_rows()
        found = await self.known.search(self.dashboard.link, words)
        if words == self.words:
            self.known.found, self.known.asking = found, False
            self.refresh_rows()

    def repository(self, repo: str) -> Repository | None:
        """What a repository holds; None while that is not known."""
        return self.known.repositories.get(repo)

    async def learn(self, repo: str) -> Repository:
        """What a repository holds; asks the Hub where that is not known. Raises DeckError."""
        try:
            return await self.known.learn(self.dashboard.link, repo)
        finally:
            self.refresh_detail()

    def variants(self, row: Model | SearchHit) -> Sequence[DetailTarget]:
        """What can be chosen of a row, as far as it is known."""
        state = self.state
        if state is None:
            return ()
        known = self.repository(row.repo) if row.repo else None
        current = state.models.get(row.id, row) if isinstance(row, Model) else row
        return choices(current, known, state.models)

    # The row under the cursor

    def inquire(self) -> None:
        """Ask about the row and the variant under the cursor, once it rests."""
        self.beside(partial(self._ask_about, self.subject()), group="detail", exclusive=True)

    async def _ask_about(self, subject: Model | SearchHit | None) -> None:
        await asyncio.sleep(REST_S)
        if subject is None:
            return
        repo, told = subject.repo, True
        if repo and self.repository(repo) is None:
            try:
                await self.learn(repo)
            except DeckError:
                told = False  # why, stands in the pane
        choice = self.detail.choice if self.stands else None
        if choice is not None and (told or (choice.model and choice.model.downloaded)):
            await self._ask_fit(choice)

    async def _ask_fit(self, choice: DetailTarget) -> None:
        """The planner's own word on one variant."""
        context = self.context
        fit = await self.known.plan(self.dashboard.link, choice, context)
        if fit is None:
            self.refresh_detail()
        elif context == self.context:
            self.known.planned(choice, fit)
            self.refresh_rows()

    # Fits

    def action_context(self, factor: float) -> None:
        """Halve or double the context length; fits follow."""
        context = int(self.context * factor)
        if self.context and LEAST_CONTEXT <= context <= MOST_CONTEXT:
            self.context = self.chosen_context = context
            self.known.fits = {}
            self.refresh_rows()
            self.inquire()

    def judge(self, state: State, live: frozenset[str]) -> None:
        """Have all models judged, where something changed that fits depend on."""
        depends = (self.context, live, id(state.models))  # a changed mapping is another one
        if depends != self._judged:
            self._judged = depends
            self.beside(self._ask_fits, group="fits", exclusive=True)

    def judge_again(self) -> None:
        """Have all models judged, where they are seen: what is free changes by itself."""
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
            self.known.judged(fits)
            self.refresh_rows()
