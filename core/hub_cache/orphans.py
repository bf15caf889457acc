"""Orphaned blobs: blobs that no revision links to. Blocks: use a thread.

On file systems without links, or after a copy that followed them (`rsync -L`, some NAS and back-up
programs), revisions hold plain files. A blob beside them is an unused copy that is not removed with
a revision.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from modeldeck.core.formats.hub_names import check_repo
from modeldeck.core.hub_cache.layout import HubCache
from modeldeck.core.hub_cache.scan import blobs
from modeldeck.core.schema import CachedFile, CachedSnapshot, DeletionItem

Blob = tuple[str, str]
"""Repository and name of the blob."""


def find(root: Path) -> dict[Blob, int]:
    """Return the blobs that no link leads to: bytes on disk, 0 for a shared payload.

    A blob that is just being linked may be among them: check again, under the Hub's lock, before
    deleting one.
    """
    found = {}
    for repo, folder, held in blobs(root):
        linked = set(_linked(Path(folder, "snapshots"))) if held else set()
        for name, size in held.items():
            if name not in linked:
                found[repo, name] = size
    return found


def _linked(snapshots: Path) -> Iterator[str]:
    """Yield the names of the blobs that links in these revisions lead to."""
    for parent, _, files in os.walk(snapshots):
        for name in files:
            try:
                yield os.path.basename(os.readlink(os.path.join(parent, name)))
            except OSError:  # a plain file, or deleted meanwhile
                continue


def deleted_with(
    cache: HubCache,
    orphans: Mapping[Blob, int],
    deleted: Sequence[tuple[CachedSnapshot, CachedFile]],
    kept: Sequence[tuple[CachedSnapshot, CachedFile]],
) -> Iterator[DeletionItem]:
    """Yield the orphans to delete together with these files. Pure.

    These are all orphans of a repository that loses all its files. Of another repository they are
    those with the size of a deleted plain file and of no kept one: a plain file does not tell which
    blob it is a copy of.

    Args:
        cache: The cache.
        orphans: The result of `find`.
        deleted: Files to delete, with their revisions.
        kept: Files that stay.
    """
    sizes_deleted, sizes_kept = _plain_sizes(deleted), _plain_sizes(kept)
    losing, keeping = {s.repo for s, _ in deleted}, {s.repo for s, _ in kept}
    for (repo, blob), size in orphans.items():
        copied = size in sizes_deleted[repo] and size not in sizes_kept[repo]
        if (repo in losing and repo not in keeping) or copied:
            path = str(cache.blob(check_repo(repo), blob))
            yield DeletionItem(path=path, size_bytes=size, kind="blob")


def _plain_sizes(
    files: Sequence[tuple[CachedSnapshot, CachedFile]],
) -> defaultdict[str, set[int]]:
    """Return the sizes of plain files, by repository."""
    sizes: defaultdict[str, set[int]] = defaultdict(set)
    for snapshot, file in files:
        if not file.blob:
            sizes[snapshot.repo].add(file.size_bytes)
    return sizes
