"""Commands about models: find one, add, change and remove custom ones, and what one takes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from modeldeck.core.errors import NotFound
from modeldeck.core.schema import CacheSelection, Fit, Model, ModelSeed
from modeldeck.core.service.library import chat_templates
from modeldeck.core.service.library.aliases import alias_of
from modeldeck.core.service.library.chat_templates import Template
from modeldeck.core.service.library.deletion import deletion_error
from modeldeck.core.service.wiring import ServiceParts
from modeldeck.core.storage.foreign_files import in_file_thread


class ModelCommands:
    """The commands of `Deck.models`."""

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts

    def find(self, ref: str) -> Model:
        """Return the model with this id, unique name, short name or alias.

        Raises NotFound or Ambiguous.
        """
        try:
            return self._parts.library.find(ref)
        except NotFound:
            if (other := alias_of(ref, self._parts.config.api.aliases)) is None:
                raise
            return self._parts.library.find(other)

    async def resolve(self, ref: str) -> Model:
        """Find a model as `find` does; one that is only on the Hub is added to the list."""
        return await self._parts.hub_status.ask(self._parts.library.resolve(ref))

    async def create(self, seed: ModelSeed, origin: str) -> Model:
        """Add a custom model. Raises Conflict for a duplicate, InvalidRequest for a bad name."""
        async with self._parts.audit.action(origin, "create", seed.unique or seed.name or ""):
            return await self._parts.library.added.create(seed)

    async def update(self, model_id: str, changes: Mapping[str, Any], origin: str) -> Model:
        """Change a custom model. Raises NotFound, Conflict, InvalidRequest."""
        async with self._parts.audit.action(origin, "update", model_id):
            return await self._parts.library.added.update(model_id, changes)

    async def delete(self, model_id: str, origin: str) -> None:
        """Unload a custom model, delete its files from the cache, and remove it from the list."""
        async with self._parts.audit.action(origin, "delete", model_id):
            model = self._parts.library.added.custom(model_id)
            await self._parts.users.release([model])
            if not model.local:
                selection = CacheSelection(models=(model.id,), every_revision=True)
                receipt = await self._parts.deletion.delete(selection, force=True)
                if receipt.failed:
                    raise deletion_error(receipt)
            entry = await self._parts.library.added.delete(model_id)
            undo = partial(self._parts.library.added.restore, entry)
            self._parts.undo.offer(
                f"removed {entry.name} from the list", f"{entry.name} is in the list again", undo
            )

    async def chat_template(self, model: Model) -> Template | None:
        """Return the chat template of a downloaded model; None if it has none."""
        if model.path is None:
            return None
        read = partial(chat_templates.read, Path(model.path), model.format)
        return await in_file_thread(read, model.path, custom=model.local)

    async def fit(self, ref: str, context_length: int | None = None) -> Fit:
        """Return whether a model, listed or on the Hub, would fit the free memory."""
        model = await self._parts.hub_status.ask(self._parts.library.look_up(ref))
        return await self._parts.fit_checker.fit(model, context_length)

    async def fits(self, context_length: int | None = None) -> dict[str, Fit]:
        """Return whether each listed model would fit, by id, without asking the Hub.

        For models that are not downloaded this is an estimate by size, until `fit` was called for
        them.
        """
        return await self._parts.fit_checker.fits(
            list(self._parts.feed.state.models.values()), context_length
        )
