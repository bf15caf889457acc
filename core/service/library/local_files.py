"""Files of models on this machine: which there are, what they say of themselves, whose they are.

Reading blocks and is done in a thread; what was read answers at once.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from modeldeck.core.cache.scan import scan
from modeldeck.core.catalog import listing
from modeldeck.core.errors import DeckError
from modeldeck.core.formats.hub_names import UrlName, is_web
from modeldeck.core.schema import CachedSnapshot, Format, Model
from modeldeck.core.service.library.entries import HeaderFacts, hub_name, read_facts, url_name

logger = logging.getLogger(__name__)

FileKey = tuple[str, int, int]
"""Path, size in bytes, and time of the last change in nanoseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What one folder of models held when it was read."""

    snapshots: tuple[CachedSnapshot, ...] = ()
    facts: Mapping[str, HeaderFacts] = field(default_factory=dict)
    """What the headers of files say, by path."""
    read: Mapping[FileKey, HeaderFacts] = field(default_factory=dict)
    """The same by path, size and time, so that a file that did not change is not read again."""


class LocalFiles:
    """What lies in some folders that are laid out as the Hub's cache, and at paths of people.

    `read`, `signature` and `look_at` block and touch the disk; they change nothing here, so that a
    thread that hangs in one of them can be left behind. `take` and `saw` note what they found, and
    everything else answers from that.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)
        self._held: dict[Path, Held] = {}
        self._seen: dict[str, bool] = {}
        self.snapshots: tuple[CachedSnapshot, ...] = ()
        """Revisions, the newest of each repository first."""

    def read(self, root: Path) -> Held:
        """What one of the folders holds now. Blocks."""
        snapshots = scan(root)
        before = self._held.get(root, Held()).read
        facts: dict[str, HeaderFacts] = {}
        read: dict[FileKey, HeaderFacts] = {}
        for path, format, name in _headers(snapshots):
            try:
                status = os.stat(path)
                key = (path, status.st_size, status.st_mtime_ns)
                known = before.get(key)
                read[key] = facts[path] = known or read_facts(Path(path), format)
            except (OSError, DeckError) as error:
                logger.info("%s: the header cannot be read: %s", name, error)
        return Held(snapshots=snapshots, facts=facts, read=read)

    def take(self, root: Path, held: Held) -> None:
        """Note what `read` found."""
        self._held[root] = held
        found = [snapshot for known in self._held.values() for snapshot in known.snapshots]
        self.snapshots = tuple(listing.newest_first(found))

    def saw(self, path: str, is_there: bool) -> bool:
        """Note what `look_at` found; whether that is something new."""
        before = self._seen.get(path)
        self._seen[path] = is_there
        return before is not is_there

    def models(self) -> list[Model]:
        """The models that the files of the Hub make."""
        return [
            self._with_facts(model)
            for snapshot in self.snapshots
            if not is_web(snapshot.repo)
            for model in listing.from_snapshot(snapshot)
        ]

    def found(self, model: Model) -> Model:
        """An added model with where its files are, when `listing.merge` cannot tell."""
        if model.local and model.path is not None:
            return replace(model, downloaded=self._seen.get(model.path, model.downloaded))
        if (at := url_name(model.unique)) is not None:
            return self._with_web(model, at)
        name = hub_name(model.unique)
        if name is None or name.file is None:
            return model
        for snapshot in self.snapshots:
            if not _is_at(snapshot, name.revision):
                continue
            if snapshot.repo == name.repo and any(f.path == name.file for f in snapshot.files):
                path = _path(snapshot, name.file)
                return replace(model, downloaded=True, path=path, revision=snapshot.revision)
        return model

    def _with_web(self, model: Model, name: UrlName) -> Model:
        """The model of a URL with where its file is, if it is here and what the name asks for."""
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
        """The model with what its header on disk says; a bad header adds nothing, loading tells."""
        found = (held.facts.get(model.path or "") for held in self._held.values())
        facts = next((each for each in found if each is not None), None)
        if facts is None:
            return model
        return replace(
            model,
            context_length=facts.context_length or model.context_length,
            architecture=facts.architecture or model.architecture,
            parameters=model.parameters or facts.parameters,
            usage=model.usage or (("embedding",) if facts.embedding else ("chat",)),
        )


def signature(root: Path) -> object:
    """Something that differs when files came or went in a folder of models. Blocks.

    It is made of the times of the folders that list them.
    """
    seen: list[tuple[str, int]] = []

    def note(path: str | os.PathLike[str]) -> bool:
        try:
            seen.append((os.fspath(path), os.stat(path).st_mtime_ns))
        except OSError:
            return False
        return True

    for repo in root.glob("models--*") if note(root) else ():
        note(repo / "refs")
        note(repo / "blobs")
        if note(repo / "snapshots"):
            for folder, _, _ in os.walk(repo / "snapshots"):
                note(folder)
    return seen


def look_at(path: str) -> bool:
    """Whether a model of a person's own can be at a path: a file, or a folder. Blocks."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _headers(snapshots: Iterable[CachedSnapshot]) -> Iterator[tuple[str, Format, str]]:
    """The files, and MLX folders, whose headers are read: path, format and a name for the log."""
    for snapshot in snapshots:
        if is_web(snapshot.repo):
            for file in snapshot.files:
                yield _path(snapshot, file.path), "gguf", f"{snapshot.repo}/{file.path}"
        else:
            for model in listing.from_snapshot(snapshot):
                if model.path is not None:
                    yield model.path, model.format, model.unique


def _is_at(snapshot: CachedSnapshot, revision: str | None) -> bool:
    """Whether a cached revision is the one that a name pins; any is where it pins none."""
    return revision is None or revision in snapshot.refs or snapshot.revision == revision


def _path(snapshot: CachedSnapshot, file: str) -> str:
    return os.path.join(snapshot.folder, *file.split("/"))
