"""Execute a deletion plan on the cache.

Deleting goes from references to content: refs, links, folders of revisions, then blobs. So an
interruption at any point leaves a cache that every tool can read. Each blob is checked again, under
the Hub's lock, before it is deleted: a blob that another program linked in the meantime stays.
Nothing outside the cache is touched. All of this blocks: call it in a thread.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.hub_cache.layout import HubCache
from modeldeck.core.schema import DeletionItem, DeletionPlan, DeletionReceipt


def execute(root: Path, plan: DeletionPlan) -> DeletionReceipt:
    """Delete the items of a plan, and return what was really deleted.

    Items that cannot be deleted are in the receipt with the reason; the others are deleted.
    """
    deleter = _Deleter(root)
    before = _free(root)
    deleter.find_undeletable(plan.delete)
    for item in plan.delete:
        if deleter.is_kept(item):
            continue
        try:
            deleter.remove(item)
        except FileNotFoundError:
            continue  # another program was faster
        except OSError as error:
            deleter.fail(item, error)
    deleter.tidy(plan.delete)
    return DeletionReceipt(
        model_ids=plan.model_ids,
        freed_bytes=deleter.freed_bytes,
        deleted=deleter.deleted,
        failed=tuple(deleter.failed),
        free_before_bytes=before,
        free_after_bytes=_free(root),
    )


@dataclass(slots=True)
class _Deleter:
    """Deletes items, and counts what was deleted."""

    root: Path
    freed_bytes: int = 0
    deleted: int = 0
    failed: list[str] = field(default_factory=list)
    _undeletable: set[Path] = field(default_factory=set)
    """Paths that cannot be deleted."""
    _kept_folders: set[Path] = field(default_factory=set)
    """Folders that contain them."""
    _kept_blobs: set[str] = field(default_factory=set)
    """Names of the blobs that they link to."""

    def find_undeletable(self, items: Sequence[DeletionItem]) -> None:
        """Record the items that cannot be deleted because their folder is not writable.

        So no ref is deleted whose files stay: that would leave a revision without a name.
        """
        folders: dict[Path, int] = {}
        for item in items:
            folder = Path(item.path).parent
            is_content = item.kind in ("link", "blob", "partial", "prefix")
            if is_content and not self.is_kept(item) and os.path.lexists(item.path):
                if folder not in folders:
                    folders[folder] = _deletion_error(folder)
                if code := folders[folder]:
                    self.fail(item, OSError(code, os.strerror(code)))

    def fail(self, item: DeletionItem, error: OSError) -> None:
        """Record an item that could not be deleted, with the reason."""
        path = Path(item.path)
        self._undeletable.add(path)
        self._kept_folders.update(path.parents)
        with suppress(OSError):
            self._kept_blobs.add(os.path.basename(os.readlink(path)))
        self.failed.append(f"{item.path}: {error.strerror or error}")

    def is_kept(self, item: DeletionItem) -> bool:
        """Whether an item stays because of an undeletable one, whose failure is recorded already.

        That is the undeletable item itself, a folder that contains it, a blob that it links to, and
        the refs of its repository.
        """
        path = Path(item.path)
        if item.kind == "ref" and path.is_relative_to(self.root):
            repo = self.root / path.relative_to(self.root).parts[0]
            return repo / "snapshots" in self._kept_folders
        if item.kind in ("snapshot", "repository") and path in self._kept_folders:
            return True
        if item.kind == "blob" and path.parent.name == "blobs" and path.name in self._kept_blobs:
            return True
        return path in self._undeletable

    def tidy(self, items: Sequence[DeletionItem]) -> None:
        """Remove the folders of repositories that became empty."""
        for item in items:
            path = Path(item.path)
            if item.kind in ("blob", "partial") and path.parent.name == "blobs":
                with suppress(OSError, InvalidRequest):
                    HubCache(self.root).tidy(_repo_of(path.parent.parent))

    def remove(self, item: DeletionItem) -> None:
        """Delete one item; one that is gone already is no failure. Raises OSError."""
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
            case "blob" | "partial" | "prefix":
                self._unlink(path)
            case "link" | "ref":
                path.unlink()
                self.deleted += 1

    def _unlink(self, path: Path) -> None:
        """Delete a file or a link; bytes count as freed if it was the last hard link."""
        found = path.lstat()
        path.unlink()
        self.deleted += 1
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            self.freed_bytes += found.st_size

    def _remove_snapshot(self, folder: Path) -> None:
        """Delete the folder of a revision, its broken links, and the metadata that `hf` keeps."""
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
        """Delete a blob or a partial file, under the Hub's lock, if no revision links to it."""
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
        """Delete a link into the shared store, and its payload if no other repository uses it.

        huggingface_hub decides that: only it knows the manifests and their locks.
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
    """Return the repository of a folder in the cache."""
    return folder.name.removeprefix("models--").replace("--", "/", 1)


def _deletion_error(folder: Path) -> int:
    """Return the error number that deleting from a folder would fail with; 0 for none.

    Checked beforehand by mount options and permissions, as far as the system tells.
    """
    if os.access(folder, os.W_OK | os.X_OK):
        return 0
    try:
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return errno.EROFS
    except FileNotFoundError:
        return 0  # another program removed it
    except OSError as error:
        return error.errno or errno.EACCES
    return errno.EACCES


def _is_linked(snapshots: Path, blob: Path) -> bool:
    """Whether any revision links to this blob."""
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
