"""Checks a cached revision against its hashes, as a person's other tools would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from modeldeck.core.hub_cache.scan import digest
from modeldeck.core.schema import CachedSnapshot


def verify(
    snapshot: CachedSnapshot, on_bytes: Callable[[int], None] = lambda _: None
) -> tuple[str, ...]:
    """Return the paths whose content does not have the hash in its etag; none has no etag.

    `on_bytes` is called with the size of each block that was read. Raises OSError.
    """
    wrong = []
    for file in snapshot.files:
        path = Path(snapshot.folder).joinpath(*file.path.split("/"))
        if file.blob and digest(path, file.blob, on_bytes) != file.blob:
            wrong.append(file.path)
    return tuple(wrong)
