"""Deletions from the cache as text: what goes, what stays and why, and what came back. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldeck.tui.text import format as fmt

if TYPE_CHECKING:
    from modeldeck.core.schema import (
        DeletionItem,
        DeletionPlan,
        DeletionReceipt,
        DeletionUnload,
        KeptItem,
    )

SMALL_BYTES = 1_000_000
"""Size below which a file may be counted instead of listed."""
SMALL_SHARE = 0.01
"""And below this share of the largest file."""
HASH = 8
"""Characters of a hash that are shown."""

_REPO = re.compile(r"(?:^|/)models--([^/]+)/")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """One line about a file."""

    action: str
    """`delete` or `keep`."""
    size_bytes: int
    name: str
    """Name of the file; of one without a name its kind and the beginning of its hash."""
    note: str
    """Its repository; of a file that stays, why."""
    path: str

    @property
    def text(self) -> str:
        """Action and size, aligned with those of other files."""
        return f"{self.action:<7}{fmt.size(self.size_bytes):>8}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDeletion:
    """A deletion, file by file."""

    files: tuple[PlannedFile, ...]
    """The largest first; what stays at the end."""
    more: str
    """What is not listed, such as `and 4 small files, 25 kB`; empty for nothing."""


def files(what: DeletionPlan) -> PlannedDeletion:
    """Files of a plan; small ones are counted, and links and folders are left out."""
    sized = sorted((i for i in what.delete if i.size_bytes), key=lambda i: -i.size_bytes)
    limit = min(SMALL_BYTES, SMALL_SHARE * sized[0].size_bytes) if sized else 0
    small = [item for item in sized if item.size_bytes < limit]
    listed = [_line("delete", item, _repo(item)) for item in sized if item not in small]
    kept = sorted(what.keep, key=lambda item: -item.size_bytes)
    listed += [_line("keep", item, item.reason) for item in kept]
    more = ""
    if small:
        count = fmt.number(len(small), "small file")
        more = f"and {count}, {fmt.size(sum(item.size_bytes for item in small))}"
    elif not sized and what.delete:
        more = f"and {fmt.number(len(what.delete), 'link')} without content"
    return PlannedDeletion(files=tuple(listed), more=more)


def _line(action: str, item: DeletionItem | KeptItem, note: str) -> PlannedFile:
    path = item.file or item.path
    return PlannedFile(
        action=action, size_bytes=item.size_bytes, name=_name(path), note=note, path=path
    )


def _name(path: str) -> str:
    """Name of a file, without the hashes that tools name blobs by.

    >>> _name("/c/models--o--r/snapshots/1/sub/a.gguf"), _name("/c/models--o--r/blobs/389f2d6a7b1c")
    ('a.gguf', 'blob 389f2d6a…')
    """
    folder, _, name = path.rpartition("/")
    if not folder.endswith("/blobs"):
        return name
    kind = "partial" if name.endswith(".incomplete") else "blob"
    return f"{kind} {name[:HASH]}…"


def _repo(item: DeletionItem) -> str:
    found = _REPO.search(item.path)
    return found[1].replace("--", "/", 1) if found else ""


def comes_back(what: DeletionPlan) -> str:
    """How much of the disk a deletion gives back.

    >>> from modeldeck.core.schema import DeletionPlan
    >>> comes_back(DeletionPlan(model_ids=(), delete=(), keep=(), freed_bytes=1_900_000))
    '1.9 MB come back'
    """
    if not what.freed_bytes:
        return "nothing comes back"
    return f"{fmt.size(what.freed_bytes)} come back"


def nothing_of(names: Sequence[str]) -> tuple[str, str]:
    """That models have no files to delete; in full and short.

    >>> nothing_of(["Qwen3 8B"])
    ('Qwen3 8B is not downloaded: nothing to delete.', 'Qwen3 8B is not downloaded')
    >>> nothing_of(["Qwen3 8B", "Gemma 3 1B"])[1]
    '2 models are not downloaded'
    """
    if len(names) == 1:
        return f"{names[0]} is not downloaded: nothing to delete.", f"{names[0]} is not downloaded"
    short = f"{len(names)} models are not downloaded"
    return f"{short}: {', '.join(names)}.", short


def unloaded_first(gone: DeletionUnload, name: str, *, is_draft: bool = False) -> tuple[str, str]:
    """That a model is unloaded first, and which answers end; in full and short."""
    loaded = f"{name} uses it as its draft model" if is_draft else f"{name} is loaded"
    if not gone.answers:
        return f"{loaded}: it is unloaded first.", f"{loaded}: unloaded first"
    count = fmt.number(gone.answers, "answer")
    if gone.answers == 1 and len(gone.who) == 1:
        ends = f"the answer to {gone.who[0]} ends"
    else:
        ends = f"{count} {'ends' if gone.answers == 1 else 'end'}"
    return f"{loaded}: it is unloaded first, and {ends}.", f"{loaded}: unloaded first, ends {count}"


def plan(what: DeletionPlan, names: Mapping[str, str]) -> list[str]:
    """A plan as lines for a terminal; `names` of the models by their ids, for the title."""
    known = [names[id] for id in what.model_ids if id in names]
    title = f"Delete the files of {', '.join(known)}" if known else "Delete files of the cache"
    made = files(what)
    lines = [f"{title}: {comes_back(what)}."]
    lines += [f"  {f.text}  {fmt.clean(f.name)}  {fmt.clean(f.note)}".rstrip() for f in made.files]
    lines += [f"  {made.more}"] if made.more else []
    return lines + [f"  Needs --force: {fmt.clean(reason)}" for reason in what.blocked]


def deleted(receipt: DeletionReceipt, what: str) -> list[str]:
    """What a deletion did; `what` was deleted, such as `Deleted 3 models`."""
    lines = [f"{what}: {fmt.size(receipt.freed_bytes)} freed"]
    return lines + [f"  not deleted: {fmt.clean(reason)}" for reason in receipt.failed]
