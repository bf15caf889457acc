"""The models of this machine: the built-in catalog, what the cache holds, and what people added.

The library alone writes `State.models`. It looks at the cache when something in it changed, by
whatever tool, and asks the Hub only when a repository is named that it does not know.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from modeldeck.core.catalog import builtin, listing
from modeldeck.core.catalog.hub import HubClient
from modeldeck.core.catalog.variants import variants
from modeldeck.core.concurrency import whole
from modeldeck.core.downloads.http.source import DownloadSource
from modeldeck.core.errors import Conflict, DeckError, InvalidRequest, NotFound, StorageTimeout
from modeldeck.core.formats import gguf
from modeldeck.core.formats.gguf_header import GgufHeader
from modeldeck.core.formats.hub_names import canonical, is_commit, repository, whole_repository
from modeldeck.core.runtime.platforms import preferred_format
from modeldeck.core.schema import (
    CachedSnapshot,
    Engine,
    Format,
    Model,
    ModelSeed,
    RepoFile,
    Variant,
    model_id,
)
from modeldeck.core.schema.state import ModelChanged, ModelRemoved
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.library.entries import (
    choose,
    from_seed,
    from_url,
    from_variant,
    hub_name,
    is_of,
    url_name,
    url_variant,
)
from modeldeck.core.service.library.local_files import LocalFiles, look_at, signature
from modeldeck.core.storage.database import Database
from modeldeck.core.storage.foreign_files import SCAN_S, in_thread

logger = logging.getLogger(__name__)

OPEN_S = 10.0
"""Time limit in seconds for the first look into a folder of models: a start must not wait longer
for a mount that hangs. What is there is listed when it answers."""

LOOK_S = 5.0
"""Time limit in seconds for a look whether a custom model is still there."""

CHANGEABLE = frozenset(
    {"name", "description", "version", "parameters", "quantization", "context_length", "size_bytes"}
    | {"usage", "documented", "unique"}
)
"""Fields of a custom model that a person may change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSelection:
    """The files of one model at one commit."""

    repo: str
    revision: str
    """The commit."""
    ref: str | None
    """The branch or tag that led to it; None where a commit was named."""
    variant: Variant
    url: str | None = None
    """Where its one file is, when that is not on the Hub."""

    @property
    def files(self) -> tuple[RepoFile, ...]:
        """What is fetched, the file that an engine is given first."""
        return self.variant.files


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    """A repository of the Hub under a name that it had before."""

    name: str
    repo: str
    """What the Hub calls it now."""


def _variants(snapshot: CachedSnapshot) -> tuple[Variant, ...]:
    """The models that a cached revision holds."""
    files = [RepoFile(path=f.path, size_bytes=f.size_bytes, blob=f.blob) for f in snapshot.files]
    return variants(snapshot.repo, files)


class ModelLibrary:
    """Everything that can be named, and where its files are."""

    def __init__(
        self,
        *,
        feed: Feed,
        store: Database,
        hub: HubClient,
        source: DownloadSource,
        roots: Sequence[Path],
    ) -> None:
        """`roots` are the folders that hold models."""
        self._feed = feed
        self._store = store
        self._hub = hub
        self._source = source
        self._local_files = LocalFiles(roots)
        self._builtin = builtin.load()
        self._added: dict[str, Model] = {}
        self._former: dict[str, Renamed] = {}
        """Repositories that the Hub calls otherwise now, by what they were called (lower case)."""
        self._signatures: dict[Path, object] = {}
        self._looking = asyncio.Lock()
        self._changing = asyncio.Lock()
        """Held while what people added is changed: looked at, written down, then held in memory."""
        self._engines: dict[Format, Engine] = {}

    async def open(self) -> None:
        """Read what people added, and look at the cache once."""
        for _, model in await self._store.records("models", Model):
            self._added[model.id] = model
        self._former.update(await self._store.records("renamed", Renamed))
        await self.look(limit_s=OPEN_S)

    async def look(self, *, force: bool = False, limit_s: float = SCAN_S) -> None:
        """Bring `State.models` up to what is on disk, if anything there changed.

        A folder that does not answer within `limit_s` seconds keeps what was known of it.
        """
        async with self._looking:
            customs = {m.path for m in self._added.values() if m.local and m.path}
            news = await asyncio.gather(
                *(self._look_into(root, force, limit_s) for root in self._local_files.roots),
                *(self._look_at_custom(path) for path in customs),
            )
            if any(news):
                self._publish()

    async def _look_into(self, root: Path, force: bool, limit_s: float) -> bool:
        """Read a folder of models if anything there changed; whether it was read."""
        try:
            now = await in_thread(partial(signature, root), root, limit_s=limit_s)
            if not force and now == self._signatures.get(root):
                return False
            held = await in_thread(partial(self._local_files.read, root), root, limit_s=limit_s)
        except StorageTimeout as error:
            logger.warning("The models in %s are not looked at: %s", root, error)
            return False
        self._signatures[root] = now
        self._local_files.take(root, held)
        return True

    async def _look_at_custom(self, path: str) -> bool:
        """Look whether a model of a person's own is there; whether that is something new.

        One that does not answer stays as it was: loading it tells.
        """
        try:
            is_there = await in_thread(partial(look_at, path), path, custom=True, limit_s=LOOK_S)
        except StorageTimeout as error:
            logger.warning("A custom model is not looked at: %s", error)
            return False
        return self._local_files.saw(path, is_there)

    @property
    def snapshots(self) -> tuple[CachedSnapshot, ...]:
        """What is on disk, as of the last look: of each repository the newest first."""
        return self._local_files.snapshots

    def set_engines(self, engines: Mapping[Format, Engine]) -> None:
        """Say which engine loads which format on this machine."""
        self._engines = dict(engines)
        self._publish()

    def _publish(self) -> None:
        """Commit every difference between what is known and what State says."""
        added = [self._local_files.found(model) for model in self._added.values()]
        wanted = listing.merge(self._builtin, added, self._local_files.models())
        for key in [key for key in self._feed.state.models if key not in wanted]:
            self._feed.commit(ModelRemoved, id=key)
        for key, entry in wanted.items():
            engine = self._engines.get(entry.format)
            model = replace(entry, engine=engine, aliases=self._aliases(entry))
            if self._feed.state.models.get(key) != model:
                self._feed.commit(ModelChanged, model=model)

    def find(self, ref: str) -> Model:
        """The model with this id, short name, or unique name in any of its forms.

        Raises NotFound or Ambiguous, and InvalidRequest for an address that names no model.
        """
        name = canonical(ref, self._hub.endpoint)
        if (model := self._known(name)) is not None:
            return model
        return listing.find(self._feed.state.models, name, self._preferred)

    def _known(self, name: str) -> Model | None:
        """The listed model with this name, in its shortest form. Raises Ambiguous."""
        models = self._feed.state.models
        if (model := listing.known(models, name, self._preferred)) is not None:
            return model
        at = hub_name(name)
        if at is None or at.file is None or at.revision is not None:
            return None
        renamed = self._former.get(at.repo.casefold())
        repos = {at.repo.casefold(), renamed.repo.casefold() if renamed else ""}
        for snapshot in self.snapshots:
            for variant in _variants(snapshot) if snapshot.repo.casefold() in repos else ():
                if any(file.path == at.file for file in variant.files):
                    return models.get(model_id(variant.unique))
        return None

    def repository_of(self, ref: str) -> str:
        """The repository that a name on the Hub is of, in whatever form it is given."""
        return repository(ref, self._hub.endpoint)

    def whole_repository(self, ref: str) -> str:
        """As `repository_of`. Raises InvalidRequest for the name of a single model in it."""
        return whole_repository(ref, self._hub.endpoint)

    def revision_name(self, ref: str) -> str:
        """`owner/repo@revision`, of a repository in whatever form it is given."""
        repo, at, revision = ref.rpartition("@")
        return f"{self.whole_repository(repo)}@{revision}" if at else ref

    def _aliases(self, model: Model) -> tuple[str, ...]:
        """What a model was called before its repository was renamed."""
        repo = model.repo or ""
        if not repo or model.unique.partition(":")[0].casefold() != repo.casefold():
            return ()
        return tuple(
            was.name + model.unique[len(repo) :]
            for was in self._former.values()
            if was.repo.casefold() == repo.casefold()
        )

    async def _note_name(self, asked: str, answered: str) -> None:
        """Remember that the Hub calls a repository otherwise than it was asked for, or no more."""
        key, renamed = asked.casefold(), Renamed(name=asked, repo=answered)
        is_renamed = key != answered.casefold()
        if self._former.get(key) == (renamed if is_renamed else None):
            return
        try:
            if is_renamed:
                await self._store.put("renamed", key, msgspec.json.encode(renamed))
                self._former[key] = renamed
            else:  # it is the name of another repository by now
                await self._store.remove("renamed", key)
                self._former.pop(key, None)
        except DeckError as error:  # it costs another question to the Hub
            logger.warning("what %s is called now cannot be kept: %s", asked, error)
        self._publish()

    @property
    def _preferred(self) -> Format:
        return preferred_format(sys.platform, platform.machine(), self._engines)

    async def resolve(self, ref: str) -> Model:
        """As `look_up`; what is not listed is added to the list.

        For a path raises what reading the file there may: InvalidRequest, Corrupt, StorageFailed.
        """
        name = canonical(ref, self._hub.endpoint)
        if name.startswith("/") and self._known(name) is None:
            model = await self._at_path(name)
        else:
            model = await self.look_up(name)
        return await self._listed(model)

    async def look_up(self, ref: str) -> Model:
        """As `find`; a path, Hub name or URL that is not listed is looked at, and not added.

        Of a path nothing is told but whether a model is there: who may ask this may not learn what
        else lies on the machine.
        """
        ref = canonical(ref, self._hub.endpoint)
        if (model := self._known(ref)) is not None:
            return model
        if ref.startswith("/"):
            try:
                return await self._at_path(ref)
            except DeckError as error:
                raise NotFound(
                    f"There is no model at {ref}.", "Give the path of a GGUF file or an MLX folder."
                ) from error
        if (at := url_name(ref, self._hub.endpoint)) is not None:
            if (model := self._feed.state.models.get(model_id(at.unique))) is not None:
                return model
            _, file = (await self._source.look(at.url)).listed(at)
            return replace(from_url(at, file.size_bytes), engine=self._engines.get("gguf"))
        name = hub_name(ref, self._hub.endpoint)
        if name is None:
            return self.find(ref)  # which says what was meant
        repository = await self._hub.repository(name.repo, name.revision)
        if not repository.from_cache:
            await self._note_name(name.repo, repository.repo)
        model = from_variant(repository, choose(repository, name), name)
        if known := self._feed.state.models.get(model.id):
            return known
        return replace(model, engine=self._engines.get(model.format))

    async def _at_path(self, path: str) -> Model:
        """The entry of a file or folder of this machine, as `create` makes it."""
        seed = ModelSeed(unique=path)
        model = await self._from_seed(seed)
        return replace(model, engine=self._engines.get(model.format))

    async def selection(self, model: Model) -> FileSelection:
        """The files of a model as the Hub, or its URL, has them now.

        Raises NotFound, Gated, HubUnavailable; for a URL Forbidden, InvalidRequest, Corrupt too.
        """
        if (at := url_name(model.unique)) is not None:
            revision, file = (await self._source.look(at.url)).listed(at)
            return FileSelection(
                repo=at.repo,
                revision=revision,
                ref="main",
                variant=url_variant(at, file),
                url=at.url,
            )
        name = hub_name(model.unique)
        if name is None or model.repo is None:
            raise NotFound(
                f"{model.name} has no files to fetch: {model.unique} is not a place on the Hub.",
                "Give it a `unique` name such as owner/repo:Q4_K_M.",
            )
        repository = await self._hub.repository(model.repo, name.revision)
        variant = choose(repository, name)
        ref = name.revision or "main"
        return FileSelection(
            repo=repository.repo,
            revision=repository.revision,
            ref=None if is_commit(ref) else ref,
            variant=variant,
        )

    async def siblings(self, model: Model) -> tuple[Variant, ...]:
        """All variants of the model's repository; none where it has no such. Raises as the Hub."""
        if model.repo is None or hub_name(model.unique) is None:
            return ()
        return (await self._hub.repository(model.repo)).variants

    async def read_header(
        self, selection: FileSelection, file: RepoFile
    ) -> tuple[GgufHeader, bytes]:
        """The header of a GGUF file that is not here, and its bytes. Raises as `selection`."""
        if (url := selection.url) is None:
            return await self._hub.read_header(selection.repo, selection.revision, file)
        return await gguf.read_remote(partial(self._source.read, url), file.size_bytes)

    def files(self, model: Model, *, every_revision: bool) -> Iterator[tuple[str, list[str]]]:
        """Where a downloaded model's files are in the cache: revisions, each with their paths."""
        at = url_name(model.unique)
        for snapshot in self.snapshots:
            if at is not None and snapshot.repo == at.repo:
                if every_revision or snapshot.revision == model.revision:
                    yield snapshot.revision, [file.path for file in snapshot.files]
            elif snapshot.repo == model.repo and (
                every_revision or snapshot.revision == model.revision
            ):
                for variant in _variants(snapshot):
                    if is_of(variant, model):
                        yield snapshot.revision, [f.path for f in variant.files]

    async def adopt(self, model: Model) -> Model:
        """The entry of a model that another machine has, added where it is not listed here."""
        source: Literal["hub", "custom"] = "custom" if model.custom else "hub"
        return await self._listed(
            replace(
                model, source=source, downloaded=False, local=False, path=None,
                projector=None, revision=None, engine=self._engines.get(model.format),
            )
        )  # fmt: skip

    @whole
    async def keep(self, model: Model) -> None:
        """Keep the entry of a model that was only known from its files. Raises StorageFailed."""
        async with self._changing:
            if model.source == "cache" and model.id not in self._added:
                kept = replace(
                    model, source="hub", downloaded=False, path=None, projector=None, revision=None
                )
                await self._store.put("models", model.id, msgspec.json.encode(kept))
                self._added[model.id] = kept

    async def create(self, seed: ModelSeed) -> Model:
        """Add a custom model. Raises Conflict for a duplicate, InvalidRequest for a bad name."""
        # What looks at a person's files holds no lock, and ends with its caller.
        model = await self._from_seed(seed)
        return await self._create(model, seed.unique)

    @whole
    async def _create(self, model: Model, unique: str | None) -> Model:
        async with self._changing:
            self._refuse_duplicate(model, unique)
            return await self._add(model)

    async def _from_seed(self, seed: ModelSeed) -> Model:
        """The model that a seed describes; what lies at a path is looked at in a thread."""
        make = partial(from_seed, seed, self._hub.endpoint)
        return await in_thread(make, seed.unique or seed.name or "", custom=True)

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
        model = self.custom(key)
        if unknown := set(changes) - CHANGEABLE:
            raise InvalidRequest(f"These fields cannot be changed: {', '.join(sorted(unknown))}.")
        fresh = None
        unique = changes.get("unique", model.unique)
        if unique != model.unique:
            self._refuse_rename(model)
            seed = ModelSeed(unique=unique, name=model.name, created_at=model.created_at)
            fresh = await self._from_seed(seed)
        return await self._update(key, changes, fresh)

    @whole
    async def _update(self, key: str, changes: Mapping[str, Any], fresh: Model | None) -> Model:
        async with self._changing:
            changed, named = self._changed(key, changes, fresh)
            self._refuse_duplicate(changed, named, own_id=key)
            return await self._add(changed)

    def _changed(
        self, key: str, changes: Mapping[str, Any], fresh: Model | None
    ) -> tuple[Model, str | None]:
        """A custom model with changes, and its unique name where that leads somewhere."""
        listed = self.custom(key)
        model = self._added[key]  # as it was added: what State knows of its files is not kept
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
        """Raise Conflict where the unique name of a model has to stay."""
        if listed.downloaded:
            raise Conflict(
                f"{listed.name} is downloaded, so its unique name stays.", "Delete its files first."
            )

    @whole
    async def delete(self, key: str) -> Model:
        """Take a custom model off the list; its files are not touched. Returns it as it was added.

        `restore` puts it back. Raises NotFound, Conflict, StorageFailed.
        """
        async with self._changing:
            model = self._added[self.custom(key).id]
            await self._store.remove("models", model.id)
            del self._added[model.id]
            self._publish()
            return model

    @whole
    async def restore(self, model: Model) -> None:
        """Put a model back on the list that `delete` took off. Raises Conflict for a duplicate."""
        named = model.unique if not model.unique.startswith("custom:") else None
        async with self._changing:
            self._refuse_duplicate(model, named)
            await self._add(model)

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

    @whole
    async def _listed(self, model: Model) -> Model:
        """The entry of a model as it is listed; added where it is not listed yet."""
        async with self._changing:
            if model.id not in self._feed.state.models:
                return await self._add(model)
            return self._feed.state.models[model.id]

    async def _add(self, model: Model) -> Model:
        """Write an entry down, then list it. `_changing` must be held. Raises StorageFailed."""
        await self._store.put("models", model.id, msgspec.json.encode(model))
        self._added[model.id] = model
        self._publish()
        return self._feed.state.models[model.id]


def _renamed(model: Model, fresh: Model) -> Model:
    """The model at another place and with its old id: who holds the id keeps the model."""
    place = ("unique", "format", "repo", "path", "local", "downloaded", "quantization")
    return replace(model, **{name: getattr(fresh, name) for name in place})
