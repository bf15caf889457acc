"""Plan a deletion: which items of the cache are deleted, which stay and why, and the bytes freed.

A plan is made from a scan alone; `modeldeck.core.hub_cache.deletion` executes it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from modeldeck.core.hub_cache import orphans
from modeldeck.core.hub_cache.layout import HubCache
from modeldeck.core.hub_cache.scan import partials, scan
from modeldeck.core.schema import (
    CachedFile,
    CachedSnapshot,
    DeletionItem,
    DeletionPlan,
    KeptItem,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSet:
    """Files of one repository: to be deleted, or needed by a model."""

    repo: str
    revision: str | None = None
    """A commit; None for all cached commits."""
    paths: tuple[str, ...] = ()
    """Paths inside the repository."""
    blobs: tuple[str, ...] = ()
    """Etags whose partial files are deleted as well."""
    reason: str = ""
    """Unique name of the model that needs them, for files that stay."""


def plan(
    root: Path,
    wanted: Sequence[FileSet],
    others: Sequence[FileSet] = (),
    needed: Collection[orphans.Blob] = (),
) -> DeletionPlan:
    """Scan the cache and plan the deletion of `wanted`; the files of `others` stay.

    `needed` are blobs that stay although no revision links to them: downloads go on with them.
    `model_ids`, `blocked` and `unloads` are left empty for the caller.
    """
    alone = orphans.find(root)
    return decide(root, scan(root), partials(root), wanted, others, alone, needed)


def decide(
    root: Path,
    snapshots: Sequence[CachedSnapshot],
    partial_bytes: Mapping[tuple[str, str], int],
    wanted: Sequence[FileSet],
    others: Sequence[FileSet] = (),
    alone: Mapping[orphans.Blob, int] = MappingProxyType({}),
    needed: Collection[orphans.Blob] = (),
) -> DeletionPlan:
    """Make the plan from the results of a scan; `alone` are the orphaned blobs. Pure."""
    builder = _PlanBuilder(HubCache(root), snapshots, wanted, others)
    builder.add_partials(partial_bytes, wanted)
    orphaned = list(builder.orphaned({key: alone[key] for key in alone if key not in needed}))
    delete = [
        *builder.references(),
        *builder.blobs(),
        *orphaned,
        *builder.partials,
        *builder.repositories(partial_bytes, alone, {item.path for item in orphaned}),
    ]
    return DeletionPlan(
        model_ids=(),
        delete=tuple(delete),
        keep=tuple(builder.keep),
        freed_bytes=sum(item.size_bytes for item in delete),
    )


class _PlanBuilder:
    """Builds a plan: which files of which revisions are deleted, and what follows from that."""

    def __init__(
        self,
        cache: HubCache,
        snapshots: Sequence[CachedSnapshot],
        wanted: Sequence[FileSet],
        others: Sequence[FileSet],
    ) -> None:
        self._cache = cache
        self._snapshots = snapshots
        self.keep: list[KeptItem] = []
        self.partials: list[DeletionItem] = []
        self._deleted: list[tuple[CachedSnapshot, CachedFile]] = []
        self._kept: list[tuple[CachedSnapshot, CachedFile]] = []
        for snapshot in snapshots:
            selected, needed = _paths(snapshot, wanted), _paths(snapshot, others)
            for file in snapshot.files:
                is_deleted = file.path in selected and file.path not in needed
                (self._deleted if is_deleted else self._kept).append((snapshot, file))
                if file.path in selected and not is_deleted:
                    self._keep(_file_path(snapshot, file), file, f"{needed[file.path]} needs it")

    def _keep(self, path: str, file: CachedFile, reason: str, shown: str = "") -> None:
        self.keep.append(KeptItem(path=path, size_bytes=file.size_bytes, reason=reason, file=shown))

    def _emptied(self) -> list[CachedSnapshot]:
        """Return the revisions that lose all their files, in the order of the scan."""
        losing = {(s.repo, s.revision) for s, _ in self._deleted}
        left = {(s.repo, s.revision) for s, _ in self._kept}
        return [s for s in self._snapshots if (s.repo, s.revision) in losing - left]

    def references(self) -> Iterator[DeletionItem]:
        """Yield refs, then links, then folders of revisions."""
        for snapshot in self._emptied():
            for ref in snapshot.refs:
                path = str(self._cache.ref(snapshot.repo, ref))
                yield DeletionItem(path=path, size_bytes=0, kind="ref")
        for snapshot, file in self._deleted:
            path = _file_path(snapshot, file)
            if file.blob:
                yield DeletionItem(path=path, size_bytes=0, kind="link")
            else:
                # A plain file instead of a link is the content itself.
                yield DeletionItem(path=path, size_bytes=file.size_bytes, kind="blob")
        for snapshot in self._emptied():
            yield DeletionItem(path=snapshot.folder, size_bytes=0, kind="snapshot")

    def blobs(self) -> Iterator[DeletionItem]:
        """Yield blobs that no file needs any more; record the others as kept."""
        users = {(s.repo, f.blob): s for s, f in self._kept}
        sharers = {f.shared: s for s, f in self._kept if f.shared}
        seen: set[tuple[str, str]] = set()
        counted: set[str] = set()
        for snapshot, file in self._deleted:
            key = (snapshot.repo, file.blob)
            if not file.blob or key in seen:
                continue
            seen.add(key)
            path, shown = str(self._cache.blob(*key)), _file_path(snapshot, file)
            if (user := users.get(key)) is not None:
                name = ", ".join(user.refs) or user.revision[:8]
                self._keep(path, file, f"revision {name} shares it", shown)
                continue
            size = file.size_bytes
            if file.shared in sharers:
                size = 0
                self._keep(path, file, f"{sharers[file.shared].repo} shares its content", shown)
            elif file.shared in counted:
                size = 0
            counted |= {file.shared} - {""}
            yield DeletionItem(path=path, size_bytes=size, kind="blob", file=shown)

    def add_partials(
        self, partial_bytes: Mapping[tuple[str, str], int], wanted: Sequence[FileSet]
    ) -> None:
        """Add the selected partial files that exist."""
        for repo, blob in dict.fromkeys((w.repo, blob) for w in wanted for blob in w.blobs):
            if (size := partial_bytes.get((repo, blob))) is not None:
                path = str(self._cache.partial(repo, blob))
                self.partials.append(DeletionItem(path=path, size_bytes=size, kind="partial"))

    def orphaned(self, alone: Mapping[orphans.Blob, int]) -> Iterator[DeletionItem]:
        """Yield the orphaned blobs that belong to the deleted files."""
        return orphans.deleted_with(self._cache, alone, self._deleted, self._kept)

    def repositories(
        self,
        partial_bytes: Mapping[tuple[str, str], int],
        alone: Mapping[orphans.Blob, int],
        orphaned: Collection[str],
    ) -> Iterator[DeletionItem]:
        """Yield the folders of repositories that become empty."""
        deleted = {item.path for item in self.partials}
        left = {snapshot.repo for snapshot, _ in self._kept}
        left |= {r for r, b in partial_bytes if str(self._cache.partial(r, b)) not in deleted}
        left |= {r for r, b in alone if str(self._cache.blob(r, b)) not in orphaned}
        for repo in dict.fromkeys(snapshot.repo for snapshot in self._emptied()):
            if repo not in left:
                path = str(self._cache.repo(repo))
                yield DeletionItem(path=path, size_bytes=0, kind="repository")


def _file_path(snapshot: CachedSnapshot, file: CachedFile) -> str:
    return os.path.join(snapshot.folder, *file.path.split("/"))


def _paths(snapshot: CachedSnapshot, wanted: Sequence[FileSet]) -> dict[str, str]:
    """Return the selected paths of a revision, each with the reason or repository."""
    return {
        path: item.reason or item.repo
        for item in wanted
        if item.repo == snapshot.repo and item.revision in (None, snapshot.revision)
        for path in item.paths
    }
