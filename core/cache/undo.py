"""Taking a deletion back that removed no content: links, refs, and the folders that held them.

What such a deletion takes costs a few hundred bytes, so it is remembered; content that went is not
kept anywhere, because what a receipt says came back is to be free at once. All of this blocks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modeldeck.core.cache.layout import failure, ref_prefix
from modeldeck.core.cache.scan import REF_BYTES
from modeldeck.core.errors import Conflict
from modeldeck.core.schema import DeletionPlan
from modeldeck.core.storage.files import replace_file, sync_folder
from modeldeck.core.storage.foreign_files import read_regular

_FREE = frozenset({"link", "ref", "snapshot"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedLinks:
    """What a deletion is about to take."""

    links: Mapping[str, str]
    """Where they lead, by path."""
    refs: Mapping[str, str]
    """The commits they hold, by path."""


def remember(plan: DeletionPlan) -> RemovedLinks | None:
    """What executing the plan will take, for `restore`; None where content goes with it."""
    if not plan.delete or any(item.kind not in _FREE for item in plan.delete):
        return None
    links, refs = {}, {}
    try:
        for item in plan.delete:
            if item.kind == "link":
                links[item.path] = os.readlink(item.path)
            elif item.kind == "ref":
                refs[item.path] = read_regular(item.path, REF_BYTES).decode()
    except (OSError, UnicodeDecodeError):
        return None  # it is not as it was planned: executing tells
    return RemovedLinks(links=links, refs=refs)


def restore(taken: RemovedLinks) -> None:
    """Put links and refs back, content first looked for.

    Raises Conflict when content is gone, or something else is in a place by now; StorageFailed.
    """
    for path, target in taken.links.items():
        # By the text alone: the folder that the link was in may be gone.
        if not os.path.exists(os.path.normpath(os.path.join(os.path.dirname(path), target))):
            raise Conflict(f"The content of {path} is gone by now.", "Download the model again.")
        if os.path.lexists(path) and not (os.path.islink(path) and os.readlink(path) == target):
            raise Conflict(f"There is something else at {path} by now.")
    for path, commit in taken.refs.items():
        if _read(Path(path)) not in (None, commit):
            raise Conflict(f"{path} points to another revision by now.")
    for path, target in taken.links.items():
        _put(Path(path), target)
    for path, commit in taken.refs.items():
        _put_ref(Path(path), commit)


def _read(ref: Path) -> str | None:
    """What a ref holds; None where there is none. Raises StorageFailed."""
    try:
        return read_regular(ref, REF_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise failure(ref, error) from error


def _put_ref(path: Path, commit: str) -> None:
    """Write a ref in one step; as with `Cache.set_ref` the temporary file lies outside `refs`."""
    # A ref may be called `refs/pr/1`, so the folder `refs` that counts is the outermost one.
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


def _put(link: Path, target: str) -> None:
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(target)
            sync_folder(link.parent)
    except OSError as error:
        raise failure(link, error) from error
