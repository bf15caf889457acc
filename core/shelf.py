"""Files of models on this machine: which there are, what they say of themselves, whose they are.

Reading blocks and is done in a thread; what was read answers at once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from core.cache.scan import scan
from core.catalog import listing
from core.entries import Facts, from_url, hub_name, read_facts, url_name
from core.errors import DeckError
from core.names import UrlName, is_web
from core.schema import CachedSnapshot, Model

logger = logging.getLogger(__name__)


class Shelf:
    """What lies in some folders that are laid out as the Hub's cache, as of the last `read`."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)
        self._facts: dict[tuple[str, int, int], Facts] = {}
        self.snapshots: tuple[CachedSnapshot, ...] = ()
        """Revisions, the newest of each repository first."""

    def read(self) -> list[Model]:
        """Look again; the models that the files of the Hub make. Blocks."""
        held = [snapshot for root in self._roots for snapshot in scan(root)]
        snapshots = tuple(listing.newest_first(held))
        models = []
        for snapshot in snapshots:
            if is_web(snapshot.repo):
                self._read_web(snapshot)
            else:
                models += [self._with_facts(model) for model in listing.from_snapshot(snapshot)]
        self.snapshots = snapshots
        return models

    def _read_web(self, snapshot: CachedSnapshot) -> None:
        """Read the header of a file that came from a URL, to have it when its entry is made."""
        for file in snapshot.files:
            name = UrlName(url=f"file:///{file.path}")
            self._with_facts(replace(from_url(name), path=_path(snapshot, file.path)))

    def found(self, model: Model) -> Model:
        """An added model with where its files are, when `listing.merge` cannot tell."""
        if model.local and model.path is not None:
            return replace(model, downloaded=os.path.exists(model.path))
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

    def signature(self, paths: Sequence[str]) -> object:
        """Something that differs when files came or went, in the folders or at `paths`. Blocks.

        It is made of the times of the folders that list them.
        """
        seen: list[tuple[str, int]] = []

        def note(path: str | os.PathLike[str]) -> bool:
            try:
                seen.append((os.fspath(path), os.stat(path).st_mtime_ns))
            except OSError:
                return False
            return True

        for path in paths:
            note(path)
        repos = [repo for root in self._roots if note(root) for repo in root.glob("models--*")]
        for repo in repos:
            note(repo / "refs")
            note(repo / "blobs")
            if note(repo / "snapshots"):
                for folder, _, _ in os.walk(repo / "snapshots"):
                    note(folder)
        return seen


def _is_at(snapshot: CachedSnapshot, revision: str | None) -> bool:
    """Whether a cached revision is the one that a name pins; any is where it pins none."""
    return revision is None or revision in snapshot.refs or snapshot.revision == revision


def _path(snapshot: CachedSnapshot, file: str) -> str:
    return os.path.join(snapshot.folder, *file.split("/"))
