"""A repository of the demo hub: its files, with the names that git and Git LFS give their content.

Nothing is made up: a small file's id is its git blob SHA-1, a large one's is the SHA-256 of its
content (and its git id that of the LFS pointer), and the revision is the SHA-1 of a real commit.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

LFS_SUFFIXES = frozenset({".gguf", ".safetensors"})
"""What `.gitattributes` of a model repository keeps in LFS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFile:
    """One file of a repository, as it lies on disk and as the hub serves it."""

    path: str
    """Path inside the repository, with forward slashes."""
    source: Path
    """Where its content lies."""
    size_bytes: int
    oid: str
    """Git blob SHA-1: of the content, or of the LFS pointer."""
    sha256: str | None
    """SHA-256 of the content of an LFS file; None for the others."""
    flips: tuple[int, ...] = ()
    """Offsets of bytes that are served inverted, though the ids are those of the right content."""

    @property
    def etag(self) -> str:
        """What the Hub calls the content, and the cache its blob."""
        return self.sha256 or self.oid

    @property
    def pointer_bytes(self) -> int:
        """Size of the LFS pointer; 0 where there is none."""
        return len(_pointer(self.sha256, self.size_bytes)) if self.sha256 else 0

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes from `start`, as the hub serves them. Raises OSError."""
        with self.source.open("rb", buffering=0) as file:
            data = bytearray(os.pread(file.fileno(), size, start))
        for offset in self.flips:
            if start <= offset < start + len(data):
                data[offset - start] ^= 0xFF
        return bytes(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRepo:
    """A repository at one commit."""

    repo: str
    """`owner/name`."""
    revision: str
    """The commit: 40 hexadecimal digits."""
    files: tuple[DemoFile, ...]
    """In the order of their paths."""
    license: str = "apache-2.0"
    gated: Literal["auto", "manual", False] = False
    """How access is granted, where it must be asked for."""
    downloads: int = 0
    likes: int = 0
    tags: tuple[str, ...] = ()
    pipeline_tag: str = "text-generation"
    library_name: str | None = None
    created_at: str = "2026-01-01T00:00:00.000Z"
    last_modified: str = "2026-01-01T00:00:00.000Z"
    details: dict[str, Any] = field(default_factory=dict)
    """Further properties of the model's record: what the Hub read out of the files."""

    def file(self, path: str) -> DemoFile | None:
        """The file at `path`; None where there is none."""
        return next((file for file in self.files if file.path == path), None)


def demo_file(path: str, source: Path, *, flips: tuple[int, ...] = ()) -> DemoFile:
    """A file with its ids worked out. Reads all of it; raises OSError."""
    size = source.stat().st_size
    if Path(path).suffix in LFS_SUFFIXES:
        with source.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        oid = git_id("blob", _pointer(sha256, size))
    else:
        sha256, oid = None, git_id("blob", source.read_bytes())
    return DemoFile(path=path, source=source, size_bytes=size, oid=oid, sha256=sha256, flips=flips)


def demo_repo(
    repo: str, folder: Path, *, flips: Mapping[str, tuple[int, ...]] | None = None, **about: Any
) -> DemoRepo:
    """The repository that holds everything under `folder`.

    Args:
        repo: `owner/name`.
        folder: Its files; what lies in sub-folders keeps its path.
        flips: Offsets of bytes that are served wrong, per path.
        about: Further fields of `DemoRepo`.
    """
    sources = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    flips = flips or {}
    files = tuple(
        demo_file(path, source, flips=flips.get(path, ()))
        for path, source in sorted(sources.items())
    )
    tree = tree_id({file.path: file.oid for file in files})
    return DemoRepo(repo=repo, revision=commit_id(tree, repo), files=files, **about)


def git_id(kind: Literal["blob", "tree", "commit"], content: bytes) -> str:
    """The name git gives an object: SHA-1 over its kind, length and content (gitformat-pack).

    >>> git_id("blob", b"")
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    head = f"{kind} {len(content)}\0".encode()
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()


def tree_id(blobs: Mapping[str, str]) -> str:
    """The git id of the tree with these blobs, given by path.

    >>> tree_id({})
    '4b825dc642cb6eb9a060e54bf8d69288fbee4904'
    """
    children: dict[str, dict[str, str]] = {}
    entries: list[tuple[str, str, str]] = []
    for path, oid in blobs.items():
        name, _, rest = path.partition("/")
        if rest:
            children.setdefault(name, {})[rest] = oid
        else:
            entries.append((name, "100644", oid))
    entries += [(name, "40000", tree_id(inner)) for name, inner in children.items()]
    # Git sorts a folder as if its name ended in a slash.
    entries.sort(key=lambda entry: entry[0] + "/" if entry[1] == "40000" else entry[0])
    content = b"".join(
        f"{mode} {name}\0".encode() + bytes.fromhex(oid) for name, mode, oid in entries
    )
    return git_id("tree", content)


def commit_id(tree: str, message: str) -> str:
    """The git id of a commit of `tree`, by the demo and at its own fixed time."""
    who = "modeldeck demo <demo@localhost> 1767225600 +0000"
    return git_id("commit", f"tree {tree}\nauthor {who}\ncommitter {who}\n\n{message}\n".encode())


def _pointer(sha256: str | None, size_bytes: int) -> bytes:
    """What git keeps in place of an LFS file (git-lfs, docs/spec.md)."""
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size_bytes}\n"
    ).encode()
