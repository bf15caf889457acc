"""Blobs that no revision needs: what stays behind in caches without links. Blocks: use a thread.

Where links cannot be made, or were followed by what copied the cache (`rsync -L`, some NAS and
back-up programs), the revisions hold plain files. A blob that lies beside them is a copy that no
reader ever opens, and no deletion of a revision removes it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from modeldeck.core.cache.layout import HubCache
from modeldeck.core.cache.scan import blobs
from modeldeck.core.formats.hub_names import check_repo
from modeldeck.core.schema import CachedFile, CachedSnapshot, DeletionItem

Blob = tuple[str, str]
"""Repository and name of the blob."""


def find(root: Path) -> dict[Blob, int]:
    """Blobs that no link of their repository leads to: bytes on disk, 0 for a shared payload.

    A blob that is being linked right now may be among them: whoever deletes one looks again, under
    the Hub's lock.
    """
    found = {}
    for repo, folder, held in blobs(root):
        linked = set(_linked(Path(folder, "snapshots"))) if held else set()
        for name, size in held.items():
            if name not in linked:
                found[repo, name] = size
    return found


def _linked(snapshots: Path) -> Iterator[str]:
    """Names of the blobs that links in these revisions lead to."""
    for parent, _, files in os.walk(snapshots):
        for name in files:
            try:
                yield os.path.basename(os.readlink(os.path.join(parent, name)))
            except OSError:  # a plain file, or one that is gone by now
                continue


def going(
    cache: HubCache,
    orphans: Mapping[Blob, int],
    gone: Sequence[tuple[CachedSnapshot, CachedFile]],
    left: Sequence[tuple[CachedSnapshot, CachedFile]],
) -> Iterator[DeletionItem]:
    """Orphans that go with the files that are deleted. Pure.

    All of a repository that loses all its files; of another one those that are as large as a plain
    file that goes, and as none that stays: a plain file does not tell which blob it is a copy of.

    Args:
        cache: Where they lie.
        orphans: As `find` found them.
        gone: Files that go, with their revisions.
        left: Files that stay.
    """
    sizes_gone, sizes_left = _plain_sizes(gone), _plain_sizes(left)
    losing, keeping = {s.repo for s, _ in gone}, {s.repo for s, _ in left}
    for (repo, blob), size in orphans.items():
        copied = size in sizes_gone[repo] and size not in sizes_left[repo]
        if (repo in losing and repo not in keeping) or copied:
            path = str(cache.blob(check_repo(repo), blob))
            yield DeletionItem(path=path, size_bytes=size, kind="blob")


def _plain_sizes(
    files: Sequence[tuple[CachedSnapshot, CachedFile]],
) -> defaultdict[str, set[int]]:
    """Sizes of the files that are no links, by repository."""
    sizes: defaultdict[str, set[int]] = defaultdict(set)
    for snapshot, file in files:
        if not file.blob:
            sizes[snapshot.repo].add(file.size_bytes)
    return sizes
