"""The models of this machine: built-in catalog, cached files and added models, in one list.

Only the library writes `State.models`. It reads the cache when a file in it changed, by any tool,
and asks the Hub only about a repository that it does not know.
"""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from modeldeck.core.catalog import listing
from modeldeck.core.catalog.hub import HubClient
from modeldeck.core.catalog.variants import variants
from modeldeck.core.downloads.http.source import DownloadSource
from modeldeck.core.errors import DeckError, NotFound
from modeldeck.core.formats import gguf_parser
from modeldeck.core.formats.gguf_header import GgufHeader
from modeldeck.core.formats.hub_names import is_commit
from modeldeck.core.formats.unique_names import (
    canonical,
    hub_name,
    repository,
    spellings,
    url_name,
    whole_repository,
)
from modeldeck.core.runtime.platforms import preferred_format
from modeldeck.core.schema import (
    OTHER_TOOLS,
    CachedSnapshot,
    Engine,
    Format,
    Model,
    ModelSeed,
    ModelSpeed,
    ModelUpdate,
    RepoFile,
    Variant,
    model_id,
)
from modeldeck.core.schema.state import ModelChanged, ModelRemoved
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.library.added_models import AddedModels
from modeldeck.core.service.library.disk_scan import DiskScan
from modeldeck.core.service.library.entries import (
    choose,
    from_url,
    from_variant,
    is_of,
    url_variant,
)
from modeldeck.core.service.library.other_tools import ToolFolder
from modeldeck.core.service.library.renames import RepositoryRenames
from modeldeck.core.storage.database import Database
from modeldeck.core.storage.foreign_files import SCAN_S

OPEN_S = 10.0
"""Time limit in seconds for the first scan of a folder of models: a start must not wait longer for
a mount that hangs. Its models are listed when it answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSelection:
    """The files of one model at one commit."""

    repo: str
    revision: str
    """The commit."""
    ref: str | None
    """Branch or tag of the commit; None when the commit itself was named."""
    variant: Variant
    url: str | None = None
    """URL of its one file, when that is not on the Hub."""

    @property
    def files(self) -> tuple[RepoFile, ...]:
        """Files to download; the first is the one that an engine opens."""
        return self.variant.files


def _variants(snapshot: CachedSnapshot) -> tuple[Variant, ...]:
    """Return the models that a cached revision holds."""
    files = [RepoFile(path=f.path, size_bytes=f.size_bytes, blob=f.blob) for f in snapshot.files]
    return variants(snapshot.repo, files)


def is_older(model: Model, update: ModelUpdate) -> bool:
    """Whether a model is on this machine in another revision than the newer one."""
    return model.downloaded and model.revision not in (None, update.revision)


class ModelLibrary:
    """Finds models by name, lists them in State, and tells where their files are."""

    def __init__(
        self,
        *,
        feed: Feed,
        store: Database,
        hub: HubClient,
        source: DownloadSource,
        roots: Sequence[Path],
        catalog: Sequence[Model],
        other_tools: Sequence[ToolFolder] = (),
    ) -> None:
        """`roots` are the folders that hold models, `catalog` is what is always listed.

        `other_tools` are folders of other tools, whose models are listed as well.
        """
        self._feed = feed
        self._hub = hub
        self._source = source
        self._disk = DiskScan(roots, other_tools)
        self._renames = RepositoryRenames(store)
        self._catalog = tuple(catalog)
        self.added = AddedModels(
            feed=feed, store=store, endpoint=hub.endpoint, publish=self._publish
        )
        self._scan_lock = asyncio.Lock()
        self._engines: dict[Format, Engine] = {}
        self._speeds: Mapping[str, ModelSpeed] = {}
        """Newest benchmarks, by id of the model."""
        self._last_used: Mapping[str, str] = {}
        """When models answered last, by id of the model."""
        self._updates: Mapping[str, ModelUpdate] = {}
        """Newer files on the Hub, by id of the model."""

    async def open(self) -> None:
        """Read the database, and scan the cache once."""
        await self.added.open()
        await self._renames.open()
        await self.look(limit_s=OPEN_S)

    async def look(self, *, force: bool = False, limit_s: float = SCAN_S) -> None:
        """Scan the disk, and bring `State.models` up to date if anything there changed.

        A folder that does not answer within `limit_s` seconds keeps its models as last seen.
        """
        async with self._scan_lock:
            customs = {m.path for m in self.added.models if m.local and m.path}
            if await self._disk.look(customs, force=force, limit_s=limit_s):
                self._publish()

    @property
    def snapshots(self) -> tuple[CachedSnapshot, ...]:
        """Cached revisions as of the last scan, the newest of each repository first."""
        return self._disk.local_files.snapshots

    @property
    def listed(self) -> tuple[Model, ...]:
        """All models of the list."""
        return tuple(self._feed.state.models.values())

    def set_engines(self, engines: Mapping[Format, Engine]) -> None:
        """Set which engine loads which format on this machine."""
        self._engines = dict(engines)
        self._publish()

    def set_updates(self, updates: Mapping[str, ModelUpdate]) -> None:
        """Set what the Hub has that is newer, by id of the model."""
        self._updates = dict(updates)
        self._publish()

    def set_speeds(self, speeds: Mapping[str, ModelSpeed]) -> None:
        """Set how fast models were in their last benchmark, by id."""
        self._speeds = dict(speeds)
        self._publish()

    def set_last_used(self, moments: Mapping[str, str]) -> None:
        """Set when models answered last, by id; times are ISO 8601, UTC."""
        self._last_used = dict(moments)
        self._publish()

    def _publish(self) -> None:
        """Commit every difference between the known models and State."""
        added = [self._disk.local_files.with_files(model) for model in self.added.models]
        here = [*self._disk.local_files.models(), *self._disk.other_tools.models()]
        wanted = listing.merge(self._catalog, added, here)
        for key in [key for key in self._feed.state.models if key not in wanted]:
            self._feed.commit(ModelRemoved, id=key)
        for key, entry in wanted.items():
            update, speed = self._updates.get(key), self._speeds.get(key)
            is_of_these = speed is not None and speed.revision == entry.revision
            is_of_tool = entry.source in OTHER_TOOLS
            model = replace(
                entry,
                engine=self._engines.get(entry.format),
                aliases=entry.aliases if is_of_tool else self._renames.former_names(entry),
                measured=speed if is_of_these else None,
                last_used_at=self._last_used.get(key),
                update_available=update if update and is_older(entry, update) else None,
            )
            if self._feed.state.models.get(key) != model:
                self._feed.commit(ModelChanged, model=model)

    def find(self, ref: str) -> Model:
        """Return the model with this id, short name, or unique name in any form, also Ollama's.

        Raises NotFound or Ambiguous, and InvalidRequest for an address that names no model.
        """
        names = spellings(ref, self._hub.endpoint)
        for name in names:
            if (model := self._known(name)) is not None:
                return model
        return listing.find(self._feed.state.models, names[0], self._preferred)

    def _known(self, name: str) -> Model | None:
        """Return the listed model with this canonical name, or None. Raises Ambiguous."""
        models = self._feed.state.models
        if (model := listing.known(models, name, self._preferred)) is not None:
            return model
        at = hub_name(name)
        if at is None or at.file is None or at.revision is not None:
            return None
        repos = {at.repo.casefold(), (self._renames.new_name(at.repo) or "").casefold()}
        for snapshot in self.snapshots:
            for variant in _variants(snapshot) if snapshot.repo.casefold() in repos else ():
                if any(file.path == at.file for file in variant.files):
                    return models.get(model_id(variant.unique))
        return None

    def repository_of(self, ref: str) -> str:
        """Return `owner/repo` of a Hub name or address in any form."""
        return repository(ref, self._hub.endpoint)

    def whole_repository(self, ref: str) -> str:
        """As `repository_of`. Raises InvalidRequest for the name of a single model in it."""
        return whole_repository(ref, self._hub.endpoint)

    def revision_name(self, ref: str) -> str:
        """Return `owner/repo@revision`; the repository may be given in any form."""
        repo, at, revision = ref.rpartition("@")
        return f"{self.whole_repository(repo)}@{revision}" if at else ref

    @property
    def _preferred(self) -> Format:
        return preferred_format(sys.platform, platform.machine(), self._engines)

    async def resolve(self, ref: str) -> Model:
        """Find a model as `look_up` does, and add it to the list if it is missing there.

        For a path also raises the errors of reading it: InvalidRequest, Corrupt, StorageFailed.
        """
        name = canonical(ref, self._hub.endpoint)
        if name.startswith("/") and self._known(name) is None:
            model = await self._at_path(name)
        else:
            model = await self.look_up(name)
        return await self.added.add_missing(model)

    async def look_up(self, ref: str) -> Model:
        """Find a model as `find` does; also one that is not listed, by path, Hub name or URL.

        Nothing is added to the list. For a path the error tells only that there is no model: a
        client that may read must not learn which other files exist.
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
            return self.find(ref)  # raises, with suggestions
        repository = await self._hub.repository(name.repo, name.revision)
        if not repository.from_cache and await self._renames.record(name.repo, repository.repo):
            self._publish()
        model = from_variant(repository, choose(repository, name), name)
        if known := self._feed.state.models.get(model.id):
            return known
        return replace(model, engine=self._engines.get(model.format))

    async def _at_path(self, path: str) -> Model:
        """Return the entry of a file or folder of this machine. Adds nothing."""
        seed = ModelSeed(unique=path)
        model = await self.added.from_seed(seed)
        return replace(model, engine=self._engines.get(model.format))

    async def selection(self, model: Model) -> FileSelection:
        """Return the files of a model as the Hub, or its URL, has them now.

        Raises NotFound, Gated, HubUnavailable; for a URL also Forbidden, InvalidRequest, Corrupt.
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
        """Return all variants of the model's repository, if it has one. Raises the Hub's errors."""
        if model.repo is None or hub_name(model.unique) is None:
            return ()
        return (await self._hub.repository(model.repo)).variants

    async def read_header(
        self, selection: FileSelection, file: RepoFile
    ) -> tuple[GgufHeader, bytes]:
        """Read the header of a remote GGUF file; return it and its bytes. Raises as `selection`."""
        if (url := selection.url) is None:
            return await self._hub.read_header(selection.repo, selection.revision, file)
        return await gguf_parser.read_remote(partial(self._source.read, url), file.size_bytes)

    def files(self, model: Model, *, every_revision: bool) -> Iterator[tuple[str, list[str]]]:
        """Yield the cached revisions of a downloaded model, each with the paths of its files."""
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
        """Add a model that another machine has, unless it is listed. Returns the entry."""
        source: Literal["hub", "custom"] = "custom" if model.custom else "hub"
        return await self.added.add_missing(
            replace(
                model, source=source, downloaded=False, local=False, path=None,
                projector=None, revision=None, engine=self._engines.get(model.format),
            )
        )  # fmt: skip
