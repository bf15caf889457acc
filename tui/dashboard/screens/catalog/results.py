"""What the catalog was told besides State: repositories, verdicts, and what the Hub found.

Each question is asked by the view, beside the screen; here stands what became of it. No widgets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import Fit, Repository, SearchResult
from modeldeck.tui.dashboard.screens.catalog.detail import DetailTarget

if TYPE_CHECKING:
    from modeldeck.tui.remote.core_link import CoreLink


class HubResults:
    """Answers, each kept until a newer one comes."""

    def __init__(self) -> None:
        self.found: SearchResult | None = None
        """What the Hub has for the words of the filter; None before it was asked."""
        self.asking = False
        """Whether the Hub is being asked for them."""
        self.repositories: dict[str, Repository] = {}
        self.notes: dict[str, str] = {}
        """Why the Hub would not tell of a repository, or the planner of a variant, by its key."""
        self.fits: Mapping[str, Fit] = {}
        """Verdicts at the context length on the screen, by the id of the model."""

    def note(self, repo: str | None) -> str:
        """How it stands with asking for a repository; empty where it is known, or none."""
        if repo is None or repo in self.repositories:
            return ""
        return self.notes.get(repo, "asking the Hub")

    def stop_searching(self) -> None:
        """There are no words to search for."""
        self.found, self.asking = None, False

    async def search(self, link: CoreLink, words: str) -> SearchResult:
        """What the Hub has for the words; an error is part of it."""
        try:
            return await link.client.search(words)
        except DeckError as error:
            return SearchResult(query=words, hits=(), error=error.message)

    async def learn(self, link: CoreLink, repo: str) -> Repository:
        """What a repository holds, asked once. Raises DeckError, and keeps the reason."""
        if repo not in self.repositories:
            try:
                self.repositories[repo] = await link.client.repository(repo)
            except DeckError as error:
                self.notes[repo] = str(error)
                raise
            self.notes.pop(repo, None)
        return self.repositories[repo]

    async def plan(self, link: CoreLink, choice: DetailTarget, context: int) -> Fit | None:
        """The planner's own word on one variant; None, with a note, where it has none."""
        try:
            fit = await link.client.fit(choice.ref, context)
        except DeckError as error:
            self.notes[choice.key] = str(error)
            return None
        self.notes.pop(choice.key, None)
        return fit

    def planned(self, choice: DetailTarget, fit: Fit) -> None:
        """Keep the planner's word."""
        self.fits = {**self.fits, choice.key: fit}

    def judged(self, fits: Mapping[str, Fit]) -> None:
        """Keep new verdicts on what is listed; those on variants that are not listed stay."""
        self.fits = {**self.fits, **fits}
