"""Answers that the catalog keeps besides State: repositories, fits, and the Hub search. No widgets.

`modeldeck.tui.dashboard.screens.catalog.requests` decides when to ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import Fit, Repository, SearchResult
from modeldeck.tui.dashboard.screens.catalog.detail_words import ASKING
from modeldeck.tui.dashboard.screens.catalog.targets import DetailTarget
from modeldeck.tui.text.steady_figures import with_steady_room

if TYPE_CHECKING:
    from modeldeck.tui.remote.core_link import CoreLink


class HubResults:
    """Answers, each kept until a newer one replaces it."""

    def __init__(self) -> None:
        self.found: SearchResult | None = None
        """Hub results for the words of the filter; None before the first answer."""
        self.searching = False
        """Whether a Hub search is under way."""
        self.repositories: dict[str, Repository] = {}
        """Contents of repositories, by repository name."""
        self.notes: dict[str, str] = {}
        """Error of a repository (by name) or of a variant's plan (by `DetailTarget.key`)."""
        self.fits: Mapping[str, Fit] = {}
        """Fits at the context length on the screen, by model id or `DetailTarget.key`."""

    def note(self, repo: str | None) -> str:
        """Why a repository's contents are not known; empty where they are, or without a name."""
        if repo is None or repo in self.repositories:
            return ""
        return self.notes.get(repo, ASKING)

    def stop_searching(self) -> None:
        """Drop the results: the filter is empty."""
        self.found, self.searching = None, False

    async def search(self, link: CoreLink, words: str) -> SearchResult:
        """Search the Hub; an error becomes part of the result."""
        try:
            return await link.client.search(words)
        except DeckError as error:
            return SearchResult(query=words, hits=(), error=error.message)

    async def repository(self, link: CoreLink, repo: str) -> Repository:
        """Contents of a repository, requested once. Keeps the reason of a DeckError it raises."""
        if repo not in self.repositories:
            try:
                self.repositories[repo] = await link.client.repository(repo)
            except DeckError as error:
                self.notes[repo] = str(error)
                raise
            self.notes.pop(repo, None)
        return self.repositories[repo]

    async def plan(self, link: CoreLink, choice: DetailTarget, context: int | None) -> Fit | None:
        """The planner's fit of one variant; None, with a note, on an error."""
        try:
            fit = await link.client.fit(choice.ref, context)
        except DeckError as error:
            self.notes[choice.key] = str(error)
            return None
        self.notes.pop(choice.key, None)
        return fit

    def add_fits(self, fits: Mapping[str, Fit]) -> None:
        """Replace the fits given; those of other models and variants stay."""
        self.fits = {**self.fits, **with_steady_room(self.fits, fits)}
