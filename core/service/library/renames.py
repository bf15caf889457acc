"""Repositories of the Hub that were renamed: models are still found by their former names."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import msgspec

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import Model
from modeldeck.core.storage.database import Database

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    """A former name of a repository of the Hub."""

    name: str
    repo: str
    """Its name now."""


class RepositoryRenames:
    """The renamed repositories that are known, kept in the database."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self._renamed: dict[str, Renamed] = {}
        """By their former names in lower case."""

    async def open(self) -> None:
        """Read the database."""
        self._renamed.update(await self._store.records("renamed", Renamed))

    def new_name(self, repo: str) -> str | None:
        """Return the present name of a repository that was renamed, or None."""
        renamed = self._renamed.get(repo.casefold())
        return renamed.repo if renamed else None

    def former_names(self, model: Model) -> tuple[str, ...]:
        """Return the unique names of a model before its repository was renamed."""
        repo = model.repo or ""
        if not repo or model.unique.partition(":")[0].casefold() != repo.casefold():
            return ()
        return tuple(
            was.name + model.unique[len(repo) :]
            for was in self._renamed.values()
            if was.repo.casefold() == repo.casefold()
        )

    async def record(self, asked: str, answered: str) -> bool:
        """Store that the Hub has a repository under another name, or that it no longer has.

        Returns False where that was known.
        """
        key, renamed = asked.casefold(), Renamed(name=asked, repo=answered)
        is_renamed = key != answered.casefold()
        if self._renamed.get(key) == (renamed if is_renamed else None):
            return False
        try:
            if is_renamed:
                await self._store.put("renamed", key, msgspec.json.encode(renamed))
                self._renamed[key] = renamed
            else:  # the name belongs to another repository now
                await self._store.remove("renamed", key)
                self._renamed.pop(key, None)
        except DeckError as error:  # the Hub will be asked again
            logger.warning("the new name of %s cannot be stored: %s", asked, error)
        return True
