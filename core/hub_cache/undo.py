"""Undo a deletion that removed no content: only links, refs, and the folders that held them.

Links and refs take a few hundred bytes, so they are kept in memory. Deleted content is not kept
anywhere: its disk space must be free at once. All of this blocks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modeldeck.core.errors import Conflict
from modeldeck.core.hub_cache.layout import failure, ref_prefix
from modeldeck.core.hub_cache.scan import REF_BYTES
from modeldeck.core.schema import DeletionPlan
from modeldeck.core.storage.files import replace_file, sync_folder
from modeldeck.core.storage.foreign_files import read_regular

_WITHOUT_CONTENT = frozenset({"link", "ref", "snapshot"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedLinks:
    """Links and refs that a deletion removes."""

    links: Mapping[str, str]
    """Targets by path."""
    refs: Mapping[str, str]
    """Commits by path."""


def remember(plan: DeletionPlan) -> RemovedLinks | None:
    """Read the links and refs that a plan removes, for `restore`; None if it removes content."""
    if not plan.delete or any(item.kind not in _WITHOUT_CONTENT for item in plan.delete):
        return None
    links, refs = {}, {}
    try:
        for item in plan.delete:
            if item.kind == "link":
                links[item.path] = os.readlink(item.path)
            elif item.kind == "ref":
                refs[item.path] = read_regular(item.path, REF_BYTES).decode()
    except (OSError, UnicodeDecodeError):
        return None  # changed since it was planned: executing reports it
    return RemovedLinks(links=links, refs=refs)


def restore(removed: RemovedLinks) -> None:
    """Create links and refs again, after checking that their content still exists.

    Raises Conflict if the content is gone, or a path is in use by now; and StorageFailed.
    """
    for path, target in removed.links.items():
        # Computed from the text: the folder of the link may be gone.
        if not os.path.exists(os.path.normpath(os.path.join(os.path.dirname(path), target))):
            raise Conflict(f"The content of {path} is gone by now.", "Download the model again.")
        if os.path.lexists(path) and not (os.path.islink(path) and os.readlink(path) == target):
            raise Conflict(f"There is another file at {path} by now.")
    for path, commit in removed.refs.items():
        if _read(Path(path)) not in (None, commit):
            raise Conflict(f"{path} points to another revision by now.")
    for path, target in removed.links.items():
        _restore_link(Path(path), target)
    for path, commit in removed.refs.items():
        _restore_ref(Path(path), commit)


def _read(ref: Path) -> str | None:
    """Return the content of a ref; None if there is none. Raises StorageFailed."""
    try:
        return read_regular(ref, REF_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise failure(ref, error) from error


def _restore_ref(path: Path, commit: str) -> None:
    """Write a ref in one step; as in `HubCache.set_ref` the temporary file is outside `refs`."""
    # A ref may be named `refs/pr/1`, so the outermost folder `refs` counts.
    repo = next(
        parent
        for parent in path.parents
        if (parent / "refs") in path.parents and parent.name.startswith("models--")
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, commit.encode(), folder=repo, prefix=ref_prefix())
    except OSError as error:
        raise failure(path, error) from error


def _restore_link(link: Path, target: str) -> None:
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(target)
            sync_folder(link.parent)
    except OSError as error:
        raise failure(link, error) from error
