"""Removal of downloaded files: what would go, what stays because others need it, what came back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from core.cache import deletion
from core.errors import Conflict
from core.feed import Feed
from core.library import Library
from core.schema import DeletionPlan, DeletionReceipt, Model


class Removal:
    """Plans and executes deletions of whole models."""

    def __init__(self, *, feed: Feed, library: Library, cache_root: Path) -> None:
        self._feed = feed
        self._library = library
        self._cache_root = cache_root

    async def plan(self, models: Sequence[Model], *, every_revision: bool) -> DeletionPlan:
        """What deleting the files of these models would do to the cache as it lies there now.

        Raises Conflict for a model at a path of the person's own: that is never deleted.
        """
        for model in models:
            if model.local:
                raise Conflict(
                    f"{model.name} lies at {model.path}: that is yours, never deleted from here.",
                    "Delete the file yourself, or take the entry off the list.",
                )
        await self._library.look(force=True)
        going = {model.id for model in models}
        wanted = [want for model in models for want in self._files(model, every_revision)]
        others = [
            want
            for other in self._feed.state.models.values()
            if other.downloaded and other.repo and other.id not in going
            for want in self._files(other, every_revision=True)
        ]
        plan = await asyncio.to_thread(deletion.plan, self._cache_root, wanted, others)
        loaded = {i.model_id for i in self._feed.state.instances.values() if i.state.live}
        blocked = tuple(f"{m.unique} is loaded" for m in models if m.id in loaded)
        return replace(plan, model_ids=tuple(m.id for m in models), blocked=blocked)

    def _files(self, model: Model, every_revision: bool) -> list[deletion.Wanted]:
        return [
            deletion.Wanted(
                repo=model.repo or "", revision=revision, paths=tuple(paths), reason=model.unique
            )
            for revision, paths in self._library.files(model, every_revision=every_revision)
        ]

    async def execute(self, models: Sequence[Model], *, every_revision: bool) -> DeletionReceipt:
        """Delete the files of these models, which nothing may hold; their entries stay."""
        plan = await self.plan(models, every_revision=every_revision)
        for model in models:
            await self._library.keep(model)
        receipt = await asyncio.to_thread(deletion.execute, self._cache_root, plan)
        await self._library.look(force=True)
        return receipt
