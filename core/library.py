"""The models of this machine: the built-in catalog, what the cache holds, and what people added.

The library alone writes `State.models`. It looks at the cache when something in it changed, by
whatever tool, and asks the Hub only when a repository is named that it does not know.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from core.catalog import builtin, listing
from core.catalog.hub import Hub
from core.catalog.variants import variants
from core.entries import Facts, choose, from_seed, from_variant, hub_name, is_of, read_facts
from core.errors import Conflict, DeckError, InvalidRequest, NotFound
from core.feed import Feed
from core.names import is_commit
from core.runtime.platforms import preferred_format
from core.schema import (
    CachedSnapshot,
    Engine,
    Format,
    Model,
    ModelSeed,
    RepoFile,
    Variant,
    model_id,
)
from core.state import ModelChanged, ModelRemoved
from core.store import Store

logger = logging.getLogger(__name__)

CHANGEABLE = frozenset(
    {"name", "description", "version", "parameters", "quantization", "context_length", "size_bytes"}
    | {"usage", "documented", "unique"}
)
"""Fields of a custom model that a person may change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The files of one model at one commit."""

    repo: str
    revision: str
    """The commit."""
    ref: str | None
    """The branch or tag that led to it; None where a commit was named."""
    variant: Variant

    @property
    def files(self) -> tuple[RepoFile, ...]:
        """What is fetched, the file that an engine is given first."""
        return self.variant.files


class Library:
    """Everything that can be named, and where its files are."""

    def __init__(
        self,
        *,
        feed: Feed,
        store: Store,
        hub: Hub,
        scan: Callable[[], tuple[CachedSnapshot, ...]],
        cache_root: Path,
    ) -> None:
        self._feed = feed
        self._store = store
        self._hub = hub
        self._scan = scan
        self._cache_root = cache_root
        self._builtin = builtin.load()
        self._added: dict[str, Model] = {}
        self._facts: dict[tuple[str, int, int], Facts] = {}
        self._signature: object = None
        self._looking = asyncio.Lock()
        self._cached: list[Model] = []
        self._engines: dict[Format, Engine] = {}
        self.snapshots: tuple[CachedSnapshot, ...] = ()

    async def open(self) -> None:
        """Read what people added, and look at the cache once."""
        for body in await self._store.documents("models"):
            model = msgspec.json.decode(body, type=Model)
            self._added[model.id] = model
        await self.look()

    async def look(self, *, force: bool = False) -> None:
        """Bring `State.models` up to what is on disk, if anything there changed."""
        async with self._looking:
            paths = [m.path for m in self._added.values() if m.local and m.path]
            signature = await asyncio.to_thread(_signature, self._cache_root, paths)
            if force or signature != self._signature:
                self.snapshots, found = await asyncio.to_thread(self._read_disk)
                self._signature = signature
                self._publish(found)

    def _read_disk(self) -> tuple[tuple[CachedSnapshot, ...], list[Model]]:
        snapshots = tuple(listing.newest_first(self._scan()))
        found = [model for s in snapshots for model in listing.from_snapshot(s)]
        return snapshots, [self._with_facts(model) for model in found]

    def set_engines(self, engines: Mapping[Format, Engine]) -> None:
        """Say which engine loads which format on this machine."""
        self._engines = dict(engines)
        self._publish()

    def _publish(self, cached: list[Model] | None = None) -> None:
        """Commit every difference between what is known and what State says."""
        if cached is not None:
            self._cached = cached
        added = [self._with_presence(model) for model in self._added.values()]
        wanted = listing.merge(self._builtin, added, self._cached)
        for key in [key for key in self._feed.state.models if key not in wanted]:
            self._feed.commit(ModelRemoved, id=key)
        for key, entry in wanted.items():
            engine = self._engines.get(entry.format)
            model = entry if entry.engine == engine else replace(entry, engine=engine)
            if self._feed.state.models.get(key) != model:
                self._feed.commit(ModelChanged, model=model)

    def _with_presence(self, model: Model) -> Model:
        """An added model with whether its files are there, where `listing.merge` cannot tell."""
        if model.local and model.path is not None:
            return replace(model, downloaded=os.path.exists(model.path))
        name = hub_name(model.unique)
        if name is None or name.file is None:
            return model
        for snapshot in self.snapshots:
            if snapshot.repo == name.repo and any(f.path == name.file for f in snapshot.files):
                path = os.path.join(snapshot.folder, *name.file.split("/"))
                return replace(model, downloaded=True, path=path, revision=snapshot.revision)
        return model

    def _with_facts(self, model: Model) -> Model:
        """The model with what its header on disk says; a bad header adds nothing, loading tells."""
        if model.path is None:
            return model
        try:
            stat = os.stat(model.path)
            key = (model.path, stat.st_size, stat.st_mtime_ns)
            if key not in self._facts:
                self._facts[key] = read_facts(Path(model.path), model.format)
        except (OSError, DeckError) as error:
            logger.info("%s: the header cannot be read: %s", model.unique, error)
            return model
        facts = self._facts[key]
        return replace(
            model,
            context_length=facts.context_length or model.context_length,
            architecture=facts.architecture or model.architecture,
            parameters=model.parameters or facts.parameters,
            usage=model.usage or (("embedding",) if facts.embedding else ("chat",)),
        )

    def find(self, ref: str) -> Model:
        """The model with this id, unique name or short name. Raises NotFound or Ambiguous."""
        return listing.find(self._feed.state.models, ref, self._preferred)

    @property
    def _preferred(self) -> Format:
        return preferred_format(sys.platform, platform.machine(), self._engines)

    async def resolve(self, ref: str) -> Model:
        """As `look_up`; what is not listed is added to the list."""
        model = await self.look_up(ref)
        if model.id not in self._feed.state.models:
            await self._add(model)
        return self._feed.state.models[model.id]

    async def look_up(self, ref: str) -> Model:
        """As `find`; a Hub name that is not listed is asked of the Hub, and not added."""
        if (model := listing.known(self._feed.state.models, ref, self._preferred)) is not None:
            return model
        name = hub_name(ref, self._hub.endpoint)
        if name is None:
            return self.find(ref)  # which says what was meant
        repository = await self._hub.repository(name.repo, name.revision)
        variant = choose(repository, name)
        if known := self._feed.state.models.get(model_id(variant.unique)):
            return known
        return replace(from_variant(repository, variant), engine=self._engines.get(variant.format))

    async def selection(self, model: Model) -> Selection:
        """The files of a model as the Hub has them now. Raises NotFound, Gated, HubUnavailable."""
        name = hub_name(model.unique)
        if name is None or model.repo is None:
            raise NotFound(
                f"{model.name} has no files to fetch: {model.unique} is not a place on the Hub.",
                "Give it a `unique` name such as owner/repo:Q4_K_M.",
            )
        repository = await self._hub.repository(model.repo, name.revision)
        variant = choose(repository, name)
        ref = name.revision or "main"
        return Selection(
            repo=repository.repo,
            revision=repository.revision,
            ref=None if is_commit(ref) else ref,
            variant=variant,
        )

    def files(self, model: Model, *, every_revision: bool) -> Iterator[tuple[str, list[str]]]:
        """Where a downloaded model's files are in the cache: revisions, each with their paths."""
        for snapshot in self.snapshots:
            if snapshot.repo == model.repo and (
                every_revision or snapshot.revision == model.revision
            ):
                files = [
                    RepoFile(path=f.path, size_bytes=f.size_bytes, blob=f.blob)
                    for f in snapshot.files
                ]
                for variant in variants(snapshot.repo, files):
                    if is_of(variant, model):
                        yield snapshot.revision, [f.path for f in variant.files]

    async def keep(self, model: Model) -> None:
        """Keep the entry of a model that was only known from its files."""
        if model.source == "cache" and model.id not in self._added:
            kept = replace(
                model, source="hub", downloaded=False, path=None, projector=None, revision=None
            )
            self._added[model.id] = kept
            await self._store.put("models", model.id, msgspec.json.encode(kept))

    async def create(self, seed: ModelSeed) -> Model:
        """Add a custom model. Raises Conflict for a duplicate, InvalidRequest for a bad name."""
        model = await asyncio.to_thread(from_seed, seed, self._hub.endpoint)
        self._refuse_duplicate(model, seed.unique)
        await self._add(model)
        return self._feed.state.models[model.id]

    def _refuse_duplicate(
        self, model: Model, unique: str | None, own_id: str | None = None
    ) -> None:
        """Same unique name, or without one the same name and version (CONTRACT, Q9)."""

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
        """Change the named fields of a custom model. Raises NotFound, Conflict, InvalidRequest."""
        self.custom(key)
        model = self._added[key]  # as it was added: what State knows of its files is not kept
        if unknown := set(changes) - CHANGEABLE:
            raise InvalidRequest(f"These fields cannot be changed: {', '.join(sorted(unknown))}.")
        unique = changes.get("unique", model.unique)
        if unique != model.unique:
            model = await self._renamed(model, unique)
        try:
            rest = {name: value for name, value in changes.items() if name != "unique"}
            known = {f.name: getattr(model, f.name) for f in fields(model)}
            changed = msgspec.convert({**msgspec.to_builtins(known), **rest}, Model)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"The change is not valid: {error}.") from error
        named = unique if not unique.startswith("custom:") else None
        self._refuse_duplicate(changed, named, own_id=key)
        await self._add(changed)
        return self._feed.state.models[key]

    async def _renamed(self, model: Model, unique: str) -> Model:
        """The model under a new unique name and its old id: who holds the id keeps the model."""
        if self._feed.state.models[model.id].downloaded:
            raise Conflict(
                f"{model.name} is downloaded, so its unique name stays.", "Delete its files first."
            )
        fresh = await asyncio.to_thread(
            from_seed,
            ModelSeed(unique=unique, name=model.name, created_at=model.created_at),
            self._hub.endpoint,
        )
        place = ("unique", "format", "repo", "path", "local", "downloaded", "quantization")
        return replace(model, **{name: getattr(fresh, name) for name in place})

    async def delete(self, key: str) -> None:
        """Take a custom model off the list; its files are not touched."""
        model = self.custom(key)
        self._added.pop(model.id)
        await self._store.remove("models", model.id)
        self._publish()

    def custom(self, key: str) -> Model:
        """The custom model with this id. Raises NotFound, or Conflict for any other."""
        model = self._feed.state.models.get(key)
        if model is None:
            raise NotFound(f"There is no model {key}.", "GET /deck/state lists them.")
        if not model.custom or key not in self._added:
            raise Conflict(
                f"{model.name} is not a custom model.",
                "Only custom ones can be changed or removed.",
            )
        return model

    async def _add(self, model: Model) -> None:
        self._added[model.id] = model
        await self._store.put("models", model.id, msgspec.json.encode(model))
        self._publish()


def _signature(root: Path, paths: list[str]) -> object:
    """Something that differs when files came or went: the times of the folders that list them."""
    seen: list[tuple[str, int]] = []

    def note(path: str | os.PathLike[str]) -> bool:
        try:
            seen.append((os.fspath(path), os.stat(path).st_mtime_ns))
        except OSError:
            return False
        return True

    for path in paths:
        note(path)
    if note(root):
        for repo in root.glob("models--*"):
            note(repo / "refs")
            note(repo / "blobs")
            if note(repo / "snapshots"):
                for folder, _, _ in os.walk(repo / "snapshots"):
                    note(folder)
    return seen
