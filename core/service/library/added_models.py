"""Models that were added to the list: by a person, or because a client named them.

They are kept in the database; the built-in catalog and models that only the cache has are not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any

import msgspec

from modeldeck.core.concurrency import whole
from modeldeck.core.errors import Conflict, InvalidRequest, NotFound
from modeldeck.core.schema import OTHER_TOOLS, Model, ModelSeed
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.library.entries import from_seed
from modeldeck.core.service.library.other_tools import deletion_refused
from modeldeck.core.storage.database import Database
from modeldeck.core.storage.foreign_files import in_file_thread

CHANGEABLE = frozenset(
    {"name", "description", "version", "parameters", "quantization", "context_length", "size_bytes"}
    | {"usage", "documented", "unique"}
)
"""Fields of a custom model that a client may change."""


class AddedModels:
    """Creates, changes and removes the models that were added, in the database and in State."""

    def __init__(
        self, *, feed: Feed, store: Database, endpoint: str, publish: Callable[[], None]
    ) -> None:
        """`endpoint` is the Hub's URL; `publish` brings State up to date with a change."""
        self._feed = feed
        self._store = store
        self._endpoint = endpoint
        self._publish = publish
        self._models: dict[str, Model] = {}
        self._change_lock = asyncio.Lock()
        """Held from checking a change until it is written, then applied in memory."""

    async def open(self) -> None:
        """Read the database."""
        for _, model in await self._store.records("models", Model):
            self._models[model.id] = model

    @property
    def models(self) -> Iterable[Model]:
        """All of them, as they were added: without the state of their files."""
        return self._models.values()

    @whole
    async def keep(self, model: Model) -> None:
        """Store the entry of a model that was known only from its files. Raises StorageFailed."""
        async with self._change_lock:
            if model.source == "cache" and model.id not in self._models:
                kept = replace(
                    model, source="hub", downloaded=False, path=None, projector=None, revision=None
                )
                await self._store.put("models", model.id, msgspec.json.encode(kept))
                self._models[model.id] = kept

    async def create(self, seed: ModelSeed) -> Model:
        """Add a custom model. Raises Conflict for a duplicate, InvalidRequest for a bad name."""
        # Reading the file may hang, so it holds no lock, and ends with its caller.
        model = await self.from_seed(seed)
        return await self._create(model, seed.unique)

    @whole
    async def _create(self, model: Model, unique: str | None) -> Model:
        async with self._change_lock:
            self._refuse_duplicate(model, unique)
            return await self._add(model)

    async def from_seed(self, seed: ModelSeed) -> Model:
        """Return the model that a seed describes; a path is read in a thread. Adds nothing."""
        make = partial(from_seed, seed, self._endpoint)
        return await in_file_thread(make, seed.unique or seed.name or "", custom=True)

    def _refuse_duplicate(
        self, model: Model, unique: str | None, own_id: str | None = None
    ) -> None:
        """Raise Conflict for a duplicate of the unique name, or without one of name and version."""

        def same(a: str | None, b: str | None) -> bool:
            return (a or "").strip().casefold() == (b or "").strip().casefold()

        for other in self._feed.state.models.values():
            if other.id == own_id:
                continue
            if (
                (unique and same(other.unique, unique))
                or other.id == model.id
                or (
                    not unique
                    and same(other.name, model.name)
                    and same(other.version, model.version)
                )
            ):
                raise Conflict(
                    f"There is such a model already: {other.name}, id {other.id}.",
                    "Use that one, or choose another name.",
                )

    async def update(self, key: str, changes: Mapping[str, Any]) -> Model:
        """Change fields of a custom model. Raises NotFound, Conflict, InvalidRequest."""
        model = self.custom(key)
        if unknown := set(changes) - CHANGEABLE:
            raise InvalidRequest(f"These fields cannot be changed: {', '.join(sorted(unknown))}.")
        fresh = None
        unique = changes.get("unique", model.unique)
        if unique != model.unique:
            self._refuse_rename(model)
            seed = ModelSeed(unique=unique, name=model.name, created_at=model.created_at)
            fresh = await self.from_seed(seed)
        return await self._update(key, changes, fresh)

    @whole
    async def _update(self, key: str, changes: Mapping[str, Any], fresh: Model | None) -> Model:
        async with self._change_lock:
            changed, unique = self._changed(key, changes, fresh)
            self._refuse_duplicate(changed, unique, own_id=key)
            return await self._add(changed)

    def _changed(
        self, key: str, changes: Mapping[str, Any], fresh: Model | None
    ) -> tuple[Model, str | None]:
        """Return a custom model with changes, and its unique name unless that is made up."""
        listed = self.custom(key)
        model = self._models[key]  # without the state of its files, which is not stored
        if fresh is not None:
            self._refuse_rename(listed)
            model = _renamed(model, fresh)
        try:
            rest = {name: value for name, value in changes.items() if name != "unique"}
            known = {f.name: getattr(model, f.name) for f in fields(model)}
            changed = msgspec.convert({**msgspec.to_builtins(known), **rest}, Model)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"The change is not valid: {error}.") from error
        unique = changes.get("unique", model.unique)
        return changed, None if unique.startswith("custom:") else unique

    def _refuse_rename(self, listed: Model) -> None:
        """Raise Conflict for a downloaded model: its unique name tells where its files are."""
        if listed.downloaded:
            raise Conflict(
                f"{listed.name} is downloaded, so its unique name stays.", "Delete its files first."
            )

    @whole
    async def delete(self, key: str) -> Model:
        """Remove a custom model from the list; its files stay. Returns its stored entry.

        `restore` adds it again. Raises NotFound, Conflict, StorageFailed.
        """
        async with self._change_lock:
            model = self._models[self.custom(key).id]
            await self._store.remove("models", model.id)
            del self._models[model.id]
            self._publish()
            return model

    @whole
    async def restore(self, model: Model) -> None:
        """Add a model again that `delete` removed. Raises Conflict for a duplicate."""
        unique = model.unique if not model.unique.startswith("custom:") else None
        async with self._change_lock:
            self._refuse_duplicate(model, unique)
            await self._add(model)

    def custom(self, key: str) -> Model:
        """Return the custom model with this id. Raises NotFound, and Conflict for other models."""
        model = self._feed.state.models.get(key)
        if model is None:
            raise NotFound(f"There is no model {key}.", "`modeldeck ls` lists them.")
        if model.source in OTHER_TOOLS:
            raise deletion_refused(model)
        if not model.custom or key not in self._models:
            raise Conflict(
                f"{model.name} is not a custom model.",
                "Only custom ones can be changed or removed.",
            )
        return model

    @whole
    async def add_missing(self, model: Model) -> Model:
        """Add a model unless it is listed already. Returns the listed entry."""
        async with self._change_lock:
            if model.id not in self._feed.state.models:
                return await self._add(model)
            return self._feed.state.models[model.id]

    async def _add(self, model: Model) -> Model:
        """Store an entry, then list it. `_change_lock` must be held. Raises StorageFailed."""
        await self._store.put("models", model.id, msgspec.json.encode(model))
        self._models[model.id] = model
        self._publish()
        return self._feed.state.models[model.id]


def _renamed(model: Model, fresh: Model) -> Model:
    """Return the model with the place of `fresh`; it keeps its id, which clients may hold."""
    place = ("unique", "format", "repo", "path", "local", "downloaded", "quantization", "projector")
    return replace(model, **{name: getattr(fresh, name) for name in place})
