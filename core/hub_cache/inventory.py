"""List the repositories and revisions of the cache with their sizes. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from modeldeck.core.schema import CachedFile, CachedSnapshot, CacheRepository, CacheRevision


def inventory(
    snapshots: Sequence[CachedSnapshot],
    partial_bytes: Mapping[tuple[str, str], int],
    models: Callable[[CachedSnapshot], Sequence[str]] = lambda _: (),
    orphan_bytes: Mapping[tuple[str, str], int] = MappingProxyType({}),
) -> tuple[CacheRepository, ...]:
    """Return all repositories with their revisions; `models` names the models of a revision."""
    users = _users(snapshots)
    partials, orphans = _by_repository(partial_bytes), _by_repository(orphan_bytes)
    found: dict[str, list[CachedSnapshot]] = {repo: [] for repo in (*partials, *orphans)}
    for snapshot in snapshots:
        found.setdefault(snapshot.repo, []).append(snapshot)
    listed = []
    for repo, held in sorted(found.items(), key=lambda item: item[0].casefold()):
        once = {_content(s, file): file for s in held for file in s.files}
        listed.append(
            CacheRepository(
                repo=repo,
                revisions=tuple(_revision(s, users, models(s)) for s in held),
                size_bytes=_size(once.values()),
                shared_bytes=_size(
                    file for key, file in once.items() if len({u[0] for u in users[key]}) > 1
                ),
                partial_bytes=partials[repo],
                orphan_bytes=orphans[repo],
                used_at=max((file.used_at for file in once.values()), default=0.0),
            )
        )
    return tuple(listed)


def _by_repository(sizes: Mapping[tuple[str, str], int]) -> defaultdict[str, int]:
    """Return the total bytes of each repository."""
    total: defaultdict[str, int] = defaultdict(int)
    for (repo, _), size in sizes.items():
        total[repo] += size
    return total


def _revision(
    snapshot: CachedSnapshot,
    users: Mapping[tuple[str, ...], set[tuple[str, str]]],
    models: Sequence[str],
) -> CacheRevision:
    once = {_content(snapshot, file): file for file in snapshot.files}
    return CacheRevision(
        revision=snapshot.revision,
        refs=snapshot.refs,
        models=tuple(models),
        files=len(snapshot.files),
        size_bytes=_size(once.values()),
        shared_bytes=_size(file for key, file in once.items() if len(users[key]) > 1),
        used_at=max((file.used_at for file in snapshot.files), default=0.0),
        modified_at=snapshot.modified_at,
    )


def _users(
    snapshots: Sequence[CachedSnapshot],
) -> dict[tuple[str, ...], set[tuple[str, str]]]:
    """Return, for each content, the revisions that use it."""
    users: dict[tuple[str, ...], set[tuple[str, str]]] = defaultdict(set)
    for snapshot in snapshots:
        for file in snapshot.files:
            users[_content(snapshot, file)].add((snapshot.repo, snapshot.revision))
    return users


def _content(snapshot: CachedSnapshot, file: CachedFile) -> tuple[str, ...]:
    """Return the identity of a file's content on disk: shared payload, blob, else its own path."""
    if file.shared:
        return (file.shared,)
    if file.blob:
        return snapshot.repo, file.blob
    return snapshot.repo, snapshot.revision, file.path


def _size(files: Iterable[CachedFile]) -> int:
    return sum(file.size_bytes for file in files)
