"""Commands that ask the Hub: search, contents of a repository, newer files."""

from __future__ import annotations

from modeldeck.core.formats.unique_names import is_address
from modeldeck.core.schema import Card, Repository, SearchResult, UpdateCheck
from modeldeck.core.service.library import model_cards
from modeldeck.core.service.wiring import ServiceParts


class HubCommands:
    """The commands of `Deck.hub`."""

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts

    async def search(self, query: str, limit: int | None = None) -> SearchResult:
        """Search the Hub; return the cached result when it cannot be reached."""
        if is_address(query):  # the address of a repository was pasted
            query = self._parts.library.repository_of(query)
        result = await self._parts.hub.search(query, limit or self._parts.config.hub.search_limit)
        self._parts.hub_status.note(result.error)
        return result

    async def repository(self, repo: str, revision: str | None = None) -> Repository:
        """Return a repository with its variants; it may be given by any name of a model in it.

        Raises NotFound, Gated, HubUnavailable.
        """
        repo = self._parts.library.repository_of(repo)
        found = await self._parts.hub_status.ask(self._parts.hub.repository(repo, revision))
        return await self._parts.forecaster.judged(found)

    async def card(self, repo: str, revision: str | None = None) -> Card:
        """Return the model card of a repository. Raises NotFound, Gated, HubUnavailable."""
        snapshots = self._parts.library.snapshots
        repo = self._parts.library.repository_of(repo)
        return await self._parts.hub_status.ask(
            model_cards.find(self._parts.hub, snapshots, repo, revision)
        )

    async def check_updates(self, origin: str) -> UpdateCheck:
        """Ask the Hub for newer files of the models that came from it. Raises HubUnavailable."""
        async with self._parts.audit.action(origin, "check updates", ""):
            return await self._parts.updates.check()
