"""Scan the cache on disk, and compute hashes of its files.

A scan never fails because of an entry: an invalid one is left out with a warning, one that another
program removes meanwhile is left out silently. Only model repositories are listed; sizes count
everything. All of this blocks: call it in a thread.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.formats.hub_names import check_path, check_repo, is_commit, is_repo
from modeldeck.core.hub_cache.layout import PARTIAL_SUFFIX
from modeldeck.core.schema import CachedFile, CachedSnapshot
from modeldeck.core.storage.foreign_files import open_regular, read_regular

logger = logging.getLogger(__name__)

READ_BYTES = 1 << 20

REF_BYTES = 255
"""Maximum bytes of a ref; a commit has 40 digits."""

_REPO_FOLDER = re.compile(r"(?:models|datasets|spaces|kernels)--.+")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHARED = re.compile(r"\.\./\.\./blobs/([0-9a-f]{2})/(\1[0-9a-f]{62})")
"""Target of a blob that is a link into the shared store (`_shared_blobs.py`, 2.4)."""
_IGNORED = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


def scan(root: Path) -> tuple[CachedSnapshot, ...]:
    """Return all revisions of all model repositories in the cache, by repository and commit."""
    found: list[CachedSnapshot] = []
    for entry in sorted(_entries(root), key=lambda entry: entry.name):
        if not entry.name.startswith("models--"):
            continue
        repo = entry.name.removeprefix("models--").replace("--", "/", 1)
        try:
            found += _repository(Path(entry.path), check_repo(repo))
        except (OSError, InvalidRequest) as error:
            logger.warning("%s is left out: %s", entry.path, error)
    return tuple(found)


def _repository(folder: Path, repo: str) -> Iterator[CachedSnapshot]:
    refs = _refs(folder / "refs")
    for entry in sorted(_entries(folder / "snapshots"), key=lambda entry: entry.name):
        if entry.name in _IGNORED:
            continue
        if not is_commit(entry.name) or not _is_folder(entry):
            logger.warning("%s is left out: it is not a revision.", entry.path)
            continue
        found = [_file(path, Path(entry.path), folder) for path in _files(Path(entry.path))]
        files = [file for file in found if file is not None]
        yield CachedSnapshot(
            repo=repo,
            revision=entry.name,
            refs=tuple(sorted(name for name, commit in refs.items() if commit == entry.name)),
            folder=entry.path,
            files=tuple(file for file, _ in files),
            modified_at=max((time for _, time in files), default=0.0),
        )


def _file(path: Path, snapshot: Path, repo: Path) -> tuple[CachedFile, float] | None:
    """Return one file of a snapshot and the modification time of its content.

    None for a broken link, or one that leads out of its repository.
    """
    name = path.relative_to(snapshot).as_posix()
    try:
        check_path(name)
        if not path.is_symlink():
            found = path.stat()
            plain = CachedFile(path=name, blob="", size_bytes=found.st_size, used_at=found.st_atime)
            return plain, found.st_mtime
        blob = Path(os.path.abspath(path.parent / os.readlink(path)))
        if not _is_folder_of(blob, repo / "blobs") or not _BLOB.fullmatch(blob.name):
            logger.warning("%s is left out: it does not lead to a blob of its repository.", path)
            return None
        blob = repo / "blobs" / blob.name
        shared = ""
        if blob.is_symlink():
            # Links into the store are relative to the repository's `blobs`.
            match = _SHARED.fullmatch(Path(os.readlink(blob)).as_posix())
            if match is None:
                logger.warning("%s is left out: its blob leads out of the cache.", path)
                return None
            shared = match[2]
        found = blob.stat()
    except FileNotFoundError:
        return None
    except (OSError, InvalidRequest) as error:
        logger.warning("%s is left out: %s", path, error)
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    file = CachedFile(
        path=name,
        blob=blob.name,
        size_bytes=found.st_size,
        shared=shared,
        used_at=found.st_atime,
    )
    return file, found.st_mtime


def _is_folder_of(path: Path, folder: Path) -> bool:
    """Whether the parent of a path is this folder, also when written differently.

    The links of a cache may be absolute, and the cache may be reached through a symbolic link, such
    as an `HF_HOME` that is one.
    """
    if path.parent == Path(os.path.abspath(folder)):
        return True
    return os.path.realpath(path.parent) == os.path.realpath(folder)


def _refs(folder: Path) -> dict[str, str]:
    refs = {}
    for path in _files(folder):
        try:
            if path.name not in _IGNORED:
                text = read_regular(path, REF_BYTES).decode().strip()
                refs[path.relative_to(folder).as_posix()] = text
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            logger.warning("%s is left out: %s", path, error)
    return refs


def _files(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder, ordered by name; links are not followed."""
    for entry in sorted(_entries(folder), key=lambda entry: entry.name):
        if _is_folder(entry):
            yield from _files(Path(entry.path))
        elif entry.name not in _IGNORED:
            yield Path(entry.path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        logger.warning("%s cannot be read: %s", folder, error)
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder and not a link to one; False if `stat` fails."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def partials(root: Path) -> dict[tuple[str, str], int]:
    """Return modeldeck's partial files: bytes on disk by repository and blob."""
    found = {}
    for folder in _entries(root):
        repo = folder.name.removeprefix("models--").replace("--", "/", 1)
        if folder.name.startswith("models--"):
            for entry in _entries(Path(folder.path, "blobs")):
                if entry.name.endswith(PARTIAL_SUFFIX) and (size := _size(entry)) is not None:
                    found[repo, entry.name.removesuffix(PARTIAL_SUFFIX)] = size
    return found


def blobs(root: Path) -> Iterator[tuple[str, str, dict[str, int]]]:
    """Yield each model repository: its name, its folder, and its complete blobs with their sizes.

    A blob that is a link into the shared store counts as 0 bytes.
    """
    for folder in _entries(root):
        repo = folder.name.removeprefix("models--").replace("--", "/", 1)
        if folder.name.startswith("models--") and is_repo(repo):
            held = [e for e in _entries(Path(folder.path, "blobs")) if _BLOB.fullmatch(e.name)]
            sizes = {e.name: 0 if e.is_symlink() else _size(e) for e in held}
            yield repo, folder.path, {k: v for k, v in sizes.items() if v is not None}


def foreign_partials(root: Path) -> dict[str, int]:
    """Return partial files of other tools: bytes on disk by path."""
    found = {}
    for folder in _entries(root):
        for entry in _entries(Path(folder.path, "blobs")):
            if folder.name.startswith("models--") and _is_foreign_partial(entry.name):
                found[entry.path] = _size(entry) or 0
    return found


def _is_foreign_partial(name: str) -> bool:
    blob, _, rest = name.partition(".")
    ours = name.endswith(PARTIAL_SUFFIX)
    return bool(_BLOB.fullmatch(blob)) and rest.endswith("incomplete") and not ours


def usage(root: Path) -> tuple[int, int]:
    """Return the bytes of all content in the cache, and of all partial files, of any tool."""
    total = partial = 0
    for folder in _entries(root):
        path = Path(folder.path)
        if folder.name == "blobs":
            payloads = (e for sub in _entries(path) for e in _entries(Path(sub.path)))
            total += sum(_size(entry) or 0 for entry in payloads if _BLOB.fullmatch(entry.name))
        elif _REPO_FOLDER.fullmatch(folder.name):
            for entry in _entries(path / "blobs"):
                size = _size(entry) or 0
                total += size
                partial += size if entry.name.endswith(".incomplete") else 0
            # Where links cannot be made, the content lies in the snapshot itself.
            for file in _files(path / "snapshots"):
                total += _size(file) or 0
    return total, partial


def _size(entry: os.DirEntry[str] | Path) -> int | None:
    """Return the size of a regular file; None for anything else, or if `stat` fails."""
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def digest(path: Path, blob: str, on_bytes: Callable[[int], None]) -> str:
    """Compute the hash of a file, SHA-256 or git blob SHA-1 according to its etag `blob`.

    The access time of the file is kept where the system allows that: a check is not a use. Raises
    OSError, and the errors of `on_bytes`.
    """
    with open_regular(path, noatime=True) as stream:
        if len(blob) == 64:
            made = hashlib.sha256()
        else:
            # git hash-object: "blob", the size and a NUL, then the content.
            size = os.fstat(stream.fileno()).st_size
            made = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        while data := stream.read(READ_BYTES):
            made.update(data)
            on_bytes(len(data))
    return made.hexdigest()
