"""Layout of the Hugging Face cache on disk: paths, locks, and publishing a verified file.

The layout is huggingface_hub's (its `file_download.py` and `utils/_shared_blobs.py`, 2.4), so that
every tool that uses the Hub sees the same files:

    <root>/CACHEDIR.TAG
    <root>/.locks/models--<owner>--<repo>/<etag>.lock   held while a blob is written
    <root>/blobs/<2 hex>/<xet hash>                     payloads that repositories share (2.x)
    <root>/models--<owner>--<repo>/
        blobs/<etag>                                    content, or a link to a shared payload
        blobs/<etag>.modeldeck.incomplete               our partial file, until it is verified
        snapshots/<commit>/<path> -> ../../blobs/<etag>
        refs/<name>                                         a file that holds a commit

An etag is the SHA-256 of an LFS file, else the git blob SHA-1. On file systems without links, the
file itself is in the snapshot. All of this blocks: call it in a thread. Names are checked again
here, when writing; nothing is written outside the root.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import psutil
from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from modeldeck.core.errors import InvalidRequest, NotEnoughDisk, StorageFailed
from modeldeck.core.formats.hub_names import (
    check_blob,
    check_path,
    check_repo,
    check_revision,
    is_commit,
)
from modeldeck.core.schema import RepoFile
from modeldeck.core.storage.files import is_disk_full, replace_file, sync_folder
from modeldeck.core.storage.foreign_files import read_regular

PARTIAL_SUFFIX = ".modeldeck.incomplete"
"""Suffix of our partial files; it ends in `.incomplete`, so that `hf cache prune` finds them."""

CACHEDIR_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n"
"""First line of the tag file (https://bford.info/cachedir/) that makes back-ups skip a cache."""

NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""Error numbers of `symlink` on file systems without links (FAT, some network mounts)."""

REF_PREFIX = ".modeldeck-ref"
"""Prefix of temporary files of new refs, in the folder of a repository."""


class BlobLock:
    """The lock that huggingface_hub holds while it writes a blob: same path, same kind.

    It is `flock` on a file that is not removed; a lock by existence where `flock` is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: BaseFileLock = FileLock(path, mode=0o664, thread_local=False)

    def try_acquire(self) -> bool:
        """Take the lock if it is free. Raises OSError if the lock file cannot be created."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        except NotImplementedError:  # filelock: this file system has no flock
            self._lock = SoftFileLock(self._path, thread_local=False)
            return self.try_acquire()
        return True

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()


class HubCache:
    """One cache folder. It need not exist: missing folders are created when needed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def repo(self, repo: str) -> Path:
        """Return the folder of a repository. Raises InvalidRequest for an invalid name."""
        return self.root / f"models--{check_repo(repo).replace('/', '--')}"

    def blob(self, repo: str, blob: str) -> Path:
        """Return the path of the content with this etag."""
        return self.repo(repo) / "blobs" / check_blob(blob)

    def partial(self, repo: str, blob: str) -> Path:
        """Return the path of the partial file with this etag, until it is verified."""
        return self.repo(repo) / "blobs" / (check_blob(blob) + PARTIAL_SUFFIX)

    def snapshot(self, repo: str, revision: str) -> Path:
        """Return the folder of a commit."""
        if not is_commit(revision):
            raise InvalidRequest(f"{revision!r} is not a commit: 40 hexadecimal digits.")
        return self.repo(repo) / "snapshots" / revision

    def pointer(self, repo: str, revision: str, path: str) -> Path:
        """Return the path of a commit's file, usually a link to a blob."""
        return self.snapshot(repo, revision).joinpath(*check_path(path).split("/"))

    def ref(self, repo: str, ref: str) -> Path:
        """Return the file that holds the commit of a branch or tag."""
        return self.repo(repo).joinpath("refs", *check_revision(ref).split("/"))

    def lock(self, repo: str, blob: str) -> BlobLock:
        """Return the Hub's lock of a blob, not taken yet."""
        return BlobLock(self.root / ".locks" / self.repo(repo).name / f"{check_blob(blob)}.lock")

    def present(self, repo: str, revision: str, file: RepoFile) -> Path | None:
        """Return the path of a file's content if it is there with the right size, else None.

        Its hash is not checked.
        """
        # On file systems without links, the content is in the snapshot.
        for path in (self.blob(repo, file.blob), self.pointer(repo, revision, file.path)):
            try:
                found = path.stat()
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode) and found.st_size == file.size_bytes:
                return path
        return None

    def prepare(self, repo: str) -> None:
        """Create the folders for a partial file. Raises StorageFailed.

        That includes `snapshots`: `hf` reports a repository without it as corrupt.
        """
        folder = self.repo(repo)
        try:
            for name in ("blobs", "snapshots"):
                (folder / name).mkdir(parents=True, exist_ok=True)
                self._check_inside(folder / name)
            tag = self.root / "CACHEDIR.TAG"
            if not tag.exists():
                tag.write_text(CACHEDIR_TAG + "# A cache of models from the Hugging Face Hub.\n")
        except OSError as error:
            raise failure(folder, error) from error

    def publish(
        self, repo: str, revision: str, file: RepoFile, *, fresh: bool, content: str = ""
    ) -> Path:
        """Make a downloaded file visible to every tool: rename its partial to a blob, then link it.

        Args:
            repo: The repository.
            revision: The commit.
            file: The file; its etag names the blob, unless `content` does.
            fresh: Whether there is a partial file, complete, verified and synced; else the blob
                must exist.
            content: The hash of the content, if it was not known before the download.

        The blob's lock must be held. Idempotent. Durable when it returns: blob first, then the
        link, so that no link is ever broken. Raises StorageFailed.
        """
        partial, blob = self.partial(repo, file.blob), self.blob(repo, content or file.blob)
        pointer = self.pointer(repo, revision, file.path)
        try:
            self._check_inside(blob.parent)
            if fresh:
                os.replace(partial, blob)
                sync_folder(blob.parent)
            pointer.parent.mkdir(parents=True, exist_ok=True)
            self._check_inside(pointer.parent)
            _link(pointer, blob)
            folder = pointer.parent
            while folder != blob.parent.parent:
                sync_folder(folder)
                folder = folder.parent
        except OSError as error:
            raise failure(pointer, error) from error
        return pointer

    def set_ref(self, repo: str, ref: str, revision: str) -> None:
        """Write the commit of a branch or tag. Raises StorageFailed.

        The temporary file is beside `refs`, not inside: `hf` takes every file there for a ref. It
        has a unique name, so several processes may write the same ref; the last one counts.
        """
        path = self.ref(repo, ref)
        self.snapshot(repo, revision)
        try:
            if holds(path, revision):
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            self._check_inside(path.parent)
            repo_folder = self.repo(repo)
            replace_file(path, revision.encode(), folder=repo_folder, prefix=ref_prefix())
            _remove_left_refs(repo_folder)
            folder = path.parent.parent
            while folder != self.repo(repo).parent:
                sync_folder(folder)
                folder = folder.parent
        except OSError as error:
            raise failure(path, error) from error

    def discard(self, repo: str, blob: str) -> None:
        """Delete a partial file, and the folders that are empty then. Raises StorageFailed."""
        try:
            self._check_inside(self.repo(repo))
            self.partial(repo, blob).unlink(missing_ok=True)
            self.tidy(repo)
        except OSError as error:
            raise failure(self.partial(repo, blob), error) from error

    def tidy(self, repo: str) -> None:
        """Remove the empty folders of a repository, finally its own. Raises OSError."""
        folder = self.repo(repo)
        if _remove_empty(folder / "blobs"):
            for name in ("snapshots", "refs"):
                _remove_empty(folder / name)
            for left in folder.glob(f"{REF_PREFIX}*"):  # left by a core that was killed
                left.unlink(missing_ok=True)
            _remove_empty(folder)

    def _check_inside(self, folder: Path) -> None:
        """Raise StorageFailed if a folder is a link out of the cache."""
        if not folder.resolve().is_relative_to(self.root.resolve()):
            raise StorageFailed(
                f"{folder} leads out of the cache, to {folder.resolve()}.",
                "Move that folder into the cache, or move the whole cache with HF_HUB_CACHE.",
            )


def failure(path: Path, error: OSError) -> StorageFailed:
    """Return the error for a path that could not be written."""
    if is_disk_full(error):
        return NotEnoughDisk(
            f"The disk is full: {path} cannot be written.",
            "Make room, and do it again; HF_HUB_CACHE moves the cache.",
        )
    return StorageFailed(
        f"{path} cannot be written: {error.strerror or error}.",
        "Check the disk and the permissions; HF_HUB_CACHE moves the cache.",
    )


def holds(path: Path, text: str) -> bool:
    """Whether a file has exactly this content; False if it cannot be read."""
    try:
        return read_regular(path, len(text)) == text.encode()
    except OSError:
        return False


def ref_prefix() -> str:
    """Return the prefix of a temporary file of a ref, with the id of the writing process."""
    return f"{REF_PREFIX}{os.getpid()}-"


def _remove_left_refs(folder: Path) -> None:
    """Remove temporary files of refs whose process was killed. Raises OSError."""
    for left in folder.glob(f"{REF_PREFIX}*"):
        pid = left.name.removeprefix(REF_PREFIX).partition("-")[0]
        if not pid.isdecimal() or not psutil.pid_exists(int(pid)):
            left.unlink(missing_ok=True)


def _link(pointer: Path, blob: Path) -> None:
    """Make `pointer` a relative link to `blob`, or move the blob there if links are impossible."""
    target = os.path.relpath(blob, pointer.parent)
    if not os.path.lexists(blob):
        if pointer.is_file() and not pointer.is_symlink():
            return
        raise FileNotFoundError(errno.ENOENT, "there is no such blob", str(blob))
    if pointer.is_symlink() and os.readlink(pointer) == target:
        return
    pointer.unlink(missing_ok=True)
    try:
        os.symlink(target, pointer)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        os.replace(blob, pointer)


def _remove_empty(folder: Path) -> bool:
    """Remove a folder if it is empty. Returns whether it does not exist any more."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        return False
    return True
