"""Model files on this machine: which there are, the facts in their headers, and their models.

Scanning blocks and runs in a thread; its results are kept in memory.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from modeldeck.core.catalog import listing
from modeldeck.core.errors import DeckError, InvalidRequest
from modeldeck.core.formats import gguf_parser, mlx_folder
from modeldeck.core.formats.hub_names import is_web
from modeldeck.core.formats.unique_names import UrlName, hub_name, url_name
from modeldeck.core.hub_cache.scan import scan
from modeldeck.core.schema import CachedSnapshot, Format, Model
from modeldeck.core.service.library import chat_templates
from modeldeck.core.service.library.chat_templates import Template
from modeldeck.core.service.library.custom_files import CustomFile, with_projector
from modeldeck.core.storage.foreign_files import refuse_irregular

logger = logging.getLogger(__name__)

_USAGE: Mapping[str | None, tuple[str, ...]] = {None: ("chat",), "rank": ("rerank",)}
"""Usage of a model by its pooling, where that is not embedding."""

FileKey = tuple[str, int, int]
"""Path, size in bytes, and time of the last change in nanoseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderFacts:
    """Facts from a model's header."""

    context_length: int | None = None
    architecture: str | None = None
    parameters: float | None = None
    usage: tuple[str, ...] = ("chat",)
    """As in `Model`."""
    capabilities: tuple[str, ...] = ()
    """As in `Model`; those of a projector are added to those of its model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderScan:
    """Result of scanning one folder of models."""

    snapshots: tuple[CachedSnapshot, ...] = ()
    facts: Mapping[str, HeaderFacts] = field(default_factory=dict)
    """Facts in the headers of files, by path."""
    by_key: Mapping[FileKey, HeaderFacts] = field(default_factory=dict)
    """The same by path, size and time: a file that did not change is not read again."""


class LocalFiles:
    """Models in folders with the layout of the Hub's cache, and custom models at other paths.

    `read` and `signature` block on the disk and change no state, so that a thread that hangs in one
    of them can be abandoned; so does `custom_files.look_at`. `set_scan` and `set_custom` store
    their results; everything else uses these.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)
        self._scans: dict[Path, FolderScan] = {}
        self._customs: dict[str, CustomFile] = {}
        self.snapshots: tuple[CachedSnapshot, ...] = ()
        """Cached revisions, the newest of each repository first."""

    def read(self, root: Path) -> FolderScan:
        """Scan one of the folders. Blocks."""
        snapshots = scan(root)
        before = self._scans.get(root, FolderScan()).by_key
        facts: dict[str, HeaderFacts] = {}
        by_key: dict[FileKey, HeaderFacts] = {}
        for path, format, name in _headers(snapshots):
            try:
                key = file_key(path)
                known = before.get(key)
                by_key[key] = facts[path] = known or read_facts(Path(path), format)
            except (OSError, DeckError) as error:
                logger.info("%s: the header cannot be read: %s", name, error)
        return FolderScan(snapshots=snapshots, facts=facts, by_key=by_key)

    def set_scan(self, root: Path, scan: FolderScan) -> None:
        """Store the result of `read`."""
        self._scans[root] = scan
        found = [snapshot for each in self._scans.values() for snapshot in each.snapshots]
        self.snapshots = tuple(listing.newest_first(found))

    def custom(self, path: str) -> CustomFile | None:
        """What lies at the path of a custom model, as last seen; None for never."""
        return self._customs.get(path)

    def set_custom(self, path: str, found: CustomFile) -> bool:
        """Store the result of `custom_files.look_at`. Returns whether it changed."""
        before = self._customs.get(path)
        self._customs[path] = found
        return before != found

    def models(self) -> list[Model]:
        """Return the models of the cached files from the Hub."""
        return [
            self._with_facts(model)
            for snapshot in self.snapshots
            if not is_web(snapshot.repo)
            for model in listing.from_snapshot(snapshot)
        ]

    def with_files(self, model: Model) -> Model:
        """Return an added model with its path, for the models that `listing.merge` cannot match."""
        if model.local and model.path is not None:
            found = self._customs.get(model.path)
            return model if found is None else with_projector(model, found)
        if (at := url_name(model.unique)) is not None:
            return self._with_url_file(model, at)
        name = hub_name(model.unique)
        if name is None or name.file is None:
            return model
        for snapshot in self.snapshots:
            if not _is_at(snapshot, name.revision):
                continue
            if snapshot.repo == name.repo and any(f.path == name.file for f in snapshot.files):
                path = _path(snapshot, name.file)
                beside = (m.projector for m in listing.from_snapshot(snapshot) if m.path == path)
                here = replace(
                    model,
                    downloaded=True,
                    path=path,
                    projector=next(beside, None),
                    revision=snapshot.revision,
                )
                return self._with_facts(here)
        return model

    def _with_url_file(self, model: Model, name: UrlName) -> Model:
        """Return the model of a URL with its file, if that is cached and has the requested hash."""
        for snapshot in self.snapshots:
            for file in snapshot.files if snapshot.repo == name.repo else ():
                if file.path == name.file and name.sha256 in (None, file.blob):
                    here = replace(
                        model,
                        downloaded=True,
                        size_bytes=file.size_bytes,
                        size_exact=True,
                        revision=snapshot.revision,
                        path=_path(snapshot, file.path),
                    )
                    return self._with_facts(here)
        return model

    def _with_facts(self, model: Model) -> Model:
        """Return the model with the facts in its header; a bad header adds none, loading fails."""
        return described(model, self._facts_of(model.path), self._facts_of(model.projector))

    def _facts_of(self, path: str | None) -> HeaderFacts | None:
        """The facts in the header of a file, as it was last read."""
        found = (each.facts.get(path or "") for each in self._scans.values())
        return next((each for each in found if each is not None), None)


def file_key(path: str) -> FileKey:
    """What changes when the file at a path does. Blocks. Raises OSError."""
    status = os.stat(path)
    return path, status.st_size, status.st_mtime_ns


def described(model: Model, facts: HeaderFacts | None, projector: HeaderFacts | None) -> Model:
    """Return a model with the facts in its header and its projector's; without them as it is."""
    if facts is None:
        return model
    projector = projector or HeaderFacts()
    return replace(
        model,
        context_length=facts.context_length or model.context_length,
        architecture=facts.architecture or model.architecture,
        parameters=model.parameters or facts.parameters,
        usage=model.usage or _usage(facts, projector),
        capabilities=(*facts.capabilities, *projector.capabilities),
    )


def _usage(facts: HeaderFacts, projector: HeaderFacts) -> tuple[str, ...]:
    """What a model is for, where no catalog tells it."""
    return (*facts.usage, "vision") if "vision" in projector.capabilities else facts.usage


def kind_and_size(path: Path) -> tuple[bool, int]:
    """Return whether a path is a folder, and the size of its files, or of the file, in bytes.

    Raises InvalidRequest for anything else.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            return True, sum(each.stat().st_size for each in path.iterdir())
        refuse_irregular(found.st_mode, path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidRequest(
            f"There is nothing at {path}.", "Give the path of a model on the server."
        ) from error
    except OSError as error:
        raise InvalidRequest(
            f"{path} cannot be a model: {error.strerror}.",
            "Give the path of a GGUF file, or of an MLX folder, that the server may read.",
        ) from error
    return False, found.st_size


def read_facts(path: Path, format: Format) -> HeaderFacts:
    """Read facts from the header of a model on disk. Raises InvalidRequest or Corrupt."""
    if format == "mlx":
        folder = mlx_folder.read_folder(path)
        return HeaderFacts(
            context_length=folder.context_length,
            architecture=folder.architecture,
            parameters=folder.parameters,
            capabilities=chat_templates.capabilities(chat_templates.read(path, format)),
        )
    header = gguf_parser.read(path)
    template = header.text(chat_templates.KEY)
    return HeaderFacts(
        context_length=header.context_length,
        architecture=header.architecture,
        parameters=header.parameters / 1e9 if header.parameters else None,
        usage=_USAGE.get(header.pooling, ("embedding",)),
        capabilities=(
            *chat_templates.capabilities(Template(text=template) if template else None),
            *header.encoders,
        ),
    )


def signature(root: Path) -> object:
    """Return a value that changes when files are added to or removed from a folder. Blocks.

    It consists of the modification times of the folders inside.
    """
    times: list[tuple[str, int]] = []

    def note(path: str | os.PathLike[str]) -> bool:
        try:
            times.append((os.fspath(path), os.stat(path).st_mtime_ns))
        except OSError:
            return False
        return True

    for repo in root.glob("models--*") if note(root) else ():
        note(repo / "refs")
        note(repo / "blobs")
        if note(repo / "snapshots"):
            for folder, _, _ in os.walk(repo / "snapshots"):
                note(folder)
    return times


def _headers(snapshots: Iterable[CachedSnapshot]) -> Iterator[tuple[str, Format, str]]:
    """Yield files and MLX folders whose headers are read: path, format and name for the log."""
    for snapshot in snapshots:
        if is_web(snapshot.repo):
            for file in snapshot.files:
                yield _path(snapshot, file.path), "gguf", f"{snapshot.repo}/{file.path}"
        else:
            for model in listing.from_snapshot(snapshot):
                if model.path is not None:
                    yield model.path, model.format, model.unique
                if model.projector is not None:
                    yield model.projector, "gguf", model.unique


def _is_at(snapshot: CachedSnapshot, revision: str | None) -> bool:
    """Whether a cached revision is the pinned one; True when none is pinned."""
    return revision is None or revision in snapshot.refs or snapshot.revision == revision


def _path(snapshot: CachedSnapshot, file: str) -> str:
    return os.path.join(snapshot.folder, *file.split("/"))
