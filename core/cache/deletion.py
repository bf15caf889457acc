"""Deleting from the cache: plan, show, execute.

A plan is decided from a scan alone and names everything that goes, what stays and why, and the
bytes that come back. Executing it goes from what points to what is pointed to (refs, links, folders
of revisions, then blobs), so that an interruption at any point leaves a cache that every tool
reads. Each blob is looked at again, under the Hub's lock, before it goes: what another program
linked in the meantime stays. Nothing outside the cache is touched. All of this blocks: call it in a
thread.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from modeldeck.core.cache import orphans
from modeldeck.core.cache.layout import HubCache
from modeldeck.core.cache.scan import partials, scan
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import (
    CachedFile,
    CachedSnapshot,
    DeletionItem,
    DeletionPlan,
    DeletionReceipt,
    KeptItem,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSet:
    """Files of one repository: what is to go, or what somebody needs."""

    repo: str
    revision: str | None = None
    """A commit; None for every one in the cache."""
    paths: tuple[str, ...] = ()
    """Paths inside the repository."""
    blobs: tuple[str, ...] = ()
    """Etags whose partial files go as well."""
    reason: str = ""
    """Who needs them, where they are to stay: a model's unique name."""


def plan(
    root: Path,
    wanted: Sequence[FileSet],
    others: Sequence[FileSet] = (),
    needed: Collection[orphans.Blob] = (),
) -> DeletionPlan:
    """What deleting `wanted` would do to the cache as it lies there now; `others` stay as they are.

    `needed` are blobs that stay although no revision links to them: a download goes on with them.
    `model_ids` and `blocked` are left to the caller, who knows the models.
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
    """The plan, from what a scan found; `alone` are blobs that no revision needs. Pure."""
    draft = _PlanBuilder(HubCache(root), snapshots, wanted, others)
    draft.add_partials(partial_bytes, wanted)
    orphaned = list(draft.orphaned({key: alone[key] for key in alone if key not in needed}))
    delete = [
        *draft.pointing(),
        *draft.blobs(),
        *orphaned,
        *draft.partials,
        *draft.repositories(partial_bytes, alone, {item.path for item in orphaned}),
    ]
    return DeletionPlan(
        model_ids=(),
        delete=tuple(delete),
        keep=tuple(draft.keep),
        freed_bytes=sum(item.size_bytes for item in delete),
    )


class _PlanBuilder:
    """A plan in the making: which files of which revision go, and what follows from that."""

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
        self._going: list[tuple[CachedSnapshot, CachedFile]] = []
        self._staying: list[tuple[CachedSnapshot, CachedFile]] = []
        for snapshot in snapshots:
            asked, needed = _paths(snapshot, wanted), _paths(snapshot, others)
            for file in snapshot.files:
                goes = file.path in asked and file.path not in needed
                (self._going if goes else self._staying).append((snapshot, file))
                if file.path in asked and not goes:
                    self._keep(_place(snapshot, file), file, f"{needed[file.path]} needs it")

    def _keep(self, path: str, file: CachedFile, reason: str) -> None:
        self.keep.append(KeptItem(path=path, size_bytes=file.size_bytes, reason=reason))

    def _emptied(self) -> list[CachedSnapshot]:
        """Revisions that lose all their files, in the order of the scan."""
        losing = {(s.repo, s.revision) for s, _ in self._going}
        left = {(s.repo, s.revision) for s, _ in self._staying}
        return [s for s in self._snapshots if (s.repo, s.revision) in losing - left]

    def pointing(self) -> Iterator[DeletionItem]:
        """Refs, then links, then folders of revisions."""
        for snapshot in self._emptied():
            for ref in snapshot.refs:
                path = str(self._cache.ref(snapshot.repo, ref))
                yield DeletionItem(path=path, size_bytes=0, kind="ref")
        for snapshot, file in self._going:
            path = _place(snapshot, file)
            if file.blob:
                yield DeletionItem(path=path, size_bytes=0, kind="link")
            else:
                # A plain file instead of a link is the content itself.
                yield DeletionItem(path=path, size_bytes=file.size_bytes, kind="blob")
        for snapshot in self._emptied():
            yield DeletionItem(path=snapshot.folder, size_bytes=0, kind="snapshot")

    def blobs(self) -> Iterator[DeletionItem]:
        """Blobs that nothing points to any more; the others are noted as kept."""
        users = {(s.repo, f.blob): s for s, f in self._staying}
        sharers = {f.shared: s for s, f in self._staying if f.shared}
        seen: set[tuple[str, str]] = set()
        counted: set[str] = set()
        for snapshot, file in self._going:
            key = (snapshot.repo, file.blob)
            if not file.blob or key in seen:
                continue
            seen.add(key)
            path = str(self._cache.blob(*key))
            if (user := users.get(key)) is not None:
                name = ", ".join(user.refs) or user.revision[:8]
                self._keep(path, file, f"revision {name} shares it")
                continue
            size = file.size_bytes
            if file.shared in sharers:
                size = 0
                self._keep(path, file, f"{sharers[file.shared].repo} shares its content")
            elif file.shared in counted:
                size = 0
            counted |= {file.shared} - {""}
            yield DeletionItem(path=path, size_bytes=size, kind="blob")

    def add_partials(
        self, partial_bytes: Mapping[tuple[str, str], int], wanted: Sequence[FileSet]
    ) -> None:
        """Partial files that were asked for and are there."""
        for repo, blob in dict.fromkeys((w.repo, blob) for w in wanted for blob in w.blobs):
            if (size := partial_bytes.get((repo, blob))) is not None:
                path = str(self._cache.partial(repo, blob))
                self.partials.append(DeletionItem(path=path, size_bytes=size, kind="partial"))

    def orphaned(self, alone: Mapping[orphans.Blob, int]) -> Iterator[DeletionItem]:
        """Blobs that no revision needed before, and that are of the same files as what goes."""
        return orphans.going(self._cache, alone, self._going, self._staying)

    def repositories(
        self,
        partial_bytes: Mapping[tuple[str, str], int],
        alone: Mapping[orphans.Blob, int],
        orphaned: Collection[str],
    ) -> Iterator[DeletionItem]:
        """Folders of repositories that nothing is left in."""
        going = {item.path for item in self.partials}
        left = {snapshot.repo for snapshot, _ in self._staying}
        left |= {r for r, b in partial_bytes if str(self._cache.partial(r, b)) not in going}
        left |= {r for r, b in alone if str(self._cache.blob(r, b)) not in orphaned}
        for repo in dict.fromkeys(snapshot.repo for snapshot in self._emptied()):
            if repo not in left:
                path = str(self._cache.repo(repo))
                yield DeletionItem(path=path, size_bytes=0, kind="repository")


def _place(snapshot: CachedSnapshot, file: CachedFile) -> str:
    return os.path.join(snapshot.folder, *file.path.split("/"))


def _paths(snapshot: CachedSnapshot, wanted: Sequence[FileSet]) -> dict[str, str]:
    """Paths of this revision that are wanted, and by whom."""
    return {
        path: item.reason or item.repo
        for item in wanted
        if item.repo == snapshot.repo and item.revision in (None, snapshot.revision)
        for path in item.paths
    }


def execute(root: Path, plan: DeletionPlan) -> DeletionReceipt:
    """Delete what the plan names, and tell what really went.

    What cannot be removed is named in the receipt with its reason; the rest goes on.
    """
    work = _Deleter(root)
    before = _free(root)
    work.look_ahead(plan.delete)
    for item in plan.delete:
        if work.is_held(item):
            continue
        try:
            work.remove(item)
        except FileNotFoundError:
            continue  # another program was faster
        except OSError as error:
            work.fail(item, error)
    work.tidy(plan.delete)
    return DeletionReceipt(
        model_ids=plan.model_ids,
        freed_bytes=work.freed_bytes,
        deleted=work.deleted,
        failed=tuple(work.failed),
        free_before_bytes=before,
        free_after_bytes=_free(root),
    )


@dataclass(slots=True)
class _Deleter:
    """What was done so far."""

    root: Path
    freed_bytes: int = 0
    deleted: int = 0
    failed: list[str] = field(default_factory=list)
    _stuck: set[Path] = field(default_factory=set)
    """Paths that cannot be removed."""
    _holding: set[Path] = field(default_factory=set)
    """The folders that they are in."""
    _linked: set[str] = field(default_factory=set)
    """Names of the blobs that such paths lead to."""

    def look_ahead(self, items: Sequence[DeletionItem]) -> None:
        """Note what cannot be removed because its folder may not be changed.

        So a reference does not go whose files stay: that would leave a revision without a name.
        """
        folders: dict[Path, int] = {}
        for item in items:
            folder = Path(item.path).parent
            is_content = item.kind in ("link", "blob", "partial")
            if is_content and not self.is_held(item) and os.path.lexists(item.path):
                if folder not in folders:
                    folders[folder] = _hindrance(folder)
                if code := folders[folder]:
                    self.fail(item, OSError(code, os.strerror(code)))

    def fail(self, item: DeletionItem, error: OSError) -> None:
        """Note what stays, and why."""
        path = Path(item.path)
        self._stuck.add(path)
        self._holding.update(path.parents)
        with suppress(OSError):
            self._linked.add(os.path.basename(os.readlink(path)))
        self.failed.append(f"{item.path}: {error.strerror or error}")

    def is_held(self, item: DeletionItem) -> bool:
        """Whether something stays because of what cannot be removed: its failure is told already.

        That is the thing itself, a folder with such a thing in it, a blob that such a link leads
        to, and the references of a repository in which such a file is.
        """
        path = Path(item.path)
        if item.kind == "ref" and path.is_relative_to(self.root):
            repo = self.root / path.relative_to(self.root).parts[0]
            return repo / "snapshots" in self._holding
        if item.kind in ("snapshot", "repository") and path in self._holding:
            return True
        if item.kind == "blob" and path.parent.name == "blobs" and path.name in self._linked:
            return True
        return path in self._stuck

    def tidy(self, items: Sequence[DeletionItem]) -> None:
        """Remove the folders of repositories whose last blob went, where that was all they held."""
        for item in items:
            path = Path(item.path)
            if item.kind in ("blob", "partial") and path.parent.name == "blobs":
                with suppress(OSError, InvalidRequest):
                    HubCache(self.root).tidy(_repo_of(path.parent.parent))

    def remove(self, item: DeletionItem) -> None:
        """Remove one thing; what is gone already is no failure. Raises OSError."""
        path = Path(item.path)
        if not path.parent.resolve().is_relative_to(self.root.resolve()) or path == self.root:
            raise OSError(f"leads out of the cache, to {path.parent.resolve()}")
        if not os.path.lexists(path):
            return
        match item.kind:
            case "snapshot":
                self._remove_snapshot(path)
            case "repository":
                self._remove_repository(path)
            case "blob" | "partial" if path.parent.name == "blobs":
                self._remove_blob(path)
            case "blob" | "partial":
                self._unlink(path)
            case "link" | "ref":
                path.unlink()
                self.deleted += 1

    def _unlink(self, path: Path) -> None:
        """Remove content, or a link to it; bytes count when nothing else names them."""
        found = path.lstat()
        path.unlink()
        self.deleted += 1
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            self.freed_bytes += found.st_size

    def _remove_snapshot(self, folder: Path) -> None:
        """Remove the folder of a revision and what `hf` noted of it. Links to nothing go too."""
        for parent, folders, files in os.walk(folder, topdown=False):
            for name in (*files, *folders):
                path = Path(parent, name)
                with suppress(FileNotFoundError):
                    if path.is_symlink() and not path.exists():
                        path.unlink()
                    elif name in folders:
                        path.rmdir()
        folder.rmdir()
        self.deleted += 1
        repo = folder.parent.parent
        shutil.rmtree(repo / ".no_exist" / folder.name, ignore_errors=True)
        (repo / "trees" / f"{folder.name}.json").unlink(missing_ok=True)

    def _remove_repository(self, folder: Path) -> None:
        for name in (".no_exist", "trees"):
            if (folder / name).is_dir() and not any((folder / name).iterdir()):
                (folder / name).rmdir()
        HubCache(self.root).tidy(folder.name.removeprefix("models--").replace("--", "/", 1))
        self.deleted += not folder.exists()

    def _remove_blob(self, path: Path) -> None:
        """Remove a blob or a partial, under the Hub's lock, if no revision links to it."""
        folder = path.parent.parent
        repo = _repo_of(folder)
        blob = path.name.partition(".")[0]
        lock = HubCache(self.root).lock(repo, blob)
        if not lock.try_acquire():
            raise OSError("another program is writing it")
        try:
            if path.name == blob and _is_linked(folder / "snapshots", path):
                raise OSError("a revision links to it")
            if path.is_symlink():
                self._remove_shared(path)
            else:
                self._unlink(path)
        finally:
            lock.release()

    def _remove_shared(self, blob: Path) -> None:
        """Remove a link into the shared store; its payload goes when no repository uses it.

        The Hub's own code decides that: it alone knows the manifests and their locks.
        """
        from huggingface_hub import DeleteCacheStrategy

        payload = blob.resolve()
        size = payload.stat().st_size if payload.exists() else 0
        none: frozenset[Path] = frozenset()
        DeleteCacheStrategy(
            expected_freed_size=0,
            blobs=frozenset({blob}),
            refs=none,
            repos=none,
            snapshots=none,
            cache_dir=self.root,
        ).execute()
        if os.path.lexists(blob):
            raise OSError("cannot be removed")
        self.deleted += 1
        if not payload.exists():
            self.freed_bytes += size


def _repo_of(folder: Path) -> str:
    """The repository whose folder in a cache this is."""
    return folder.name.removeprefix("models--").replace("--", "/", 1)


def _hindrance(folder: Path) -> int:
    """The error number that removing something from a folder would end with; 0 for none.

    Asked of the system beforehand, as far as it tells: mount options and permissions.
    """
    if os.access(folder, os.W_OK | os.X_OK):
        return 0
    try:
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return errno.EROFS
    except FileNotFoundError:
        return 0  # another program removed it: there is nothing left to remove
    except OSError as error:
        return error.errno or errno.EACCES
    return errno.EACCES


def _is_linked(snapshots: Path, blob: Path) -> bool:
    """Whether any revision still links to this blob."""
    for parent, _, files in os.walk(snapshots):
        for name in files:
            path = Path(parent, name)
            with suppress(FileNotFoundError):
                if path.is_symlink() and path.parent.joinpath(os.readlink(path)).name == blob.name:
                    return True
    return False


def _free(root: Path) -> int | None:
    try:
        return shutil.disk_usage(root).free
    except OSError:
        return None
