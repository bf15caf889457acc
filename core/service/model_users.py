"""Instances and downloads that use the files of a model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from modeldeck.core.errors import DeckError, NotFound
from modeldeck.core.runtime.engines_manager import Engines
from modeldeck.core.schema import Instance, Model
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.library.library import ModelLibrary
from modeldeck.core.service.library.pulling import ModelDownloads


class ModelUsers:
    """Finds and ends the instances and downloads that use the files of a model."""

    def __init__(
        self, *, feed: Feed, library: ModelLibrary, engines: Engines, downloads: ModelDownloads
    ) -> None:
        self._feed = feed
        self._library = library
        self._engines = engines
        self._downloads = downloads

    def instances(self, model: Model) -> tuple[Instance, ...]:
        """Return the live instances that have the model's files open, also as a draft model."""
        found = []
        for instance in self._feed.state.instances.values():
            draft = instance.options.draft_model
            if instance.state.live and (
                instance.model_id == model.id
                or (draft is not None and self._is_name_of(draft, model))
            ):
                found.append(instance)
        return tuple(found)

    async def release(self, models: Sequence[Model]) -> None:
        """Cancel the downloads of these models and unload their instances."""
        for model in models:
            await self._downloads.drop(model)
            for instance in self.instances(model):
                with suppress(NotFound):  # it ended while another one was unloaded
                    await self._engines.unload(instance.id)

    def _is_name_of(self, ref: str, model: Model) -> bool:
        try:
            return self._library.find(ref).id == model.id
        except DeckError:
            return False
