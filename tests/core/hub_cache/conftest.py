"""A cache with models in it, written as every tool writes it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from modeldeck.core.hub_cache.layout import HubCache
from modeldeck.core.schema import RepoFile

COMMITS = tuple(digit * 40 for digit in "123")


class Shelf:
    """Puts files of made-up content into a cache."""

    def __init__(self, root: Path) -> None:
        self.cache = HubCache(root)
        self.root = root

    def file(self, path: str, content: bytes, *, lfs: bool = True) -> RepoFile:
        """A file as the Hub would list it."""
        if lfs:
            blob = hashlib.sha256(content).hexdigest()
        else:
            header = b"blob %d\0" % len(content)
            blob = hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
        return RepoFile(path=path, size_bytes=len(content), blob=blob, lfs=lfs)

    def put(
        self,
        repo: str,
        revision: str,
        path: str,
        content: bytes,
        *,
        lfs: bool = True,
        ref: str | None = None,
    ) -> RepoFile:
        """Publish a file."""
        file = self.file(path, content, lfs=lfs)
        self.cache.prepare(repo)
        self.cache.partial(repo, file.blob).write_bytes(content)
        self.cache.publish(repo, revision, file, fresh=True)
        if ref is not None:
            self.cache.set_ref(repo, ref, revision)
        return file

    def tree(self) -> list[str]:
        """Everything in the cache but locks and the tag."""
        names = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*"))
        return sorted(n for n in names if not n.startswith(".locks") and n != "CACHEDIR.TAG")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty cache."""
    return Shelf(tmp_path / "hub")
