"""Finds files for the composer's `@`: which lie below a folder, and which of them match."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from modeldeck.core.storage.foreign_files import in_file_thread
from modeldeck.tui.chats.attachments import kind_of

MOST_FILES = 20_000
SCAN_LIMIT_S = 1.0
"""Seconds after which a scan ends with what it has found."""
SHOWN = 10
"""Files that are offered at once."""
SKIPPED = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})
"""Folders that are not searched, besides hidden ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileQuery:
    """What was written behind `@`."""

    folder: str
    """Folder below which files are looked for, as it was written; empty for the current one."""
    words: str
    """What the path below it must match."""

    @classmethod
    def of(cls, text: str) -> FileQuery:
        """Split at the last slash where the text names another folder."""
        if text.startswith(("/", "~", "./", "../")):
            folder, slash, words = text.rpartition("/")
            return cls(folder=folder + slash, words=words)
        return cls(folder="", words=text)


async def files_below(folder: str) -> list[str]:
    """Return paths of files below a folder, relative to it, the nearest first.

    Raises StorageTimeout. A folder that cannot be read has none.
    """
    return await in_file_thread(lambda: _scan(folder), folder or ".", custom=True)


def _scan(folder: str) -> list[str]:
    root = os.path.expanduser(folder) or "."
    ends = time.monotonic() + SCAN_LIMIT_S
    found: list[str] = []
    folders = deque([""])
    while folders and len(found) < MOST_FILES and time.monotonic() < ends:
        below = folders.popleft()
        try:
            with os.scandir(os.path.join(root, below)) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in listed:
            if entry.name.startswith("."):
                continue
            path = os.path.join(below, entry.name)
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in SKIPPED:
                    folders.append(path)
            elif entry.is_file():
                found.append(path)
    return found[:MOST_FILES]


def matching(words: str, paths: Sequence[str], *, pictures_first: bool = False) -> list[str]:
    """The best matches, the best first: letters of `words` in order, whole words before that."""
    wanted = words.casefold()
    ranked = []
    for place, path in enumerate(paths):
        score = _score(wanted, path.casefold())
        if score is not None:
            later = pictures_first and kind_of(path) != "image"
            ranked.append((score, later, len(path), place, path))
    ranked.sort()
    if pictures_first:
        ranked.sort(key=lambda row: row[1])
    return [row[-1] for row in ranked[:SHOWN]]


def _score(words: str, path: str) -> int | None:
    """0 is best: the name begins with it, has it, the path has it, has its letters in order."""
    name = path.rpartition("/")[2]
    if name.startswith(words):
        return 0
    if words in name:
        return 1
    if words in path:
        return 2
    letters = iter(path)
    return 3 if all(letter in letters for letter in words) else None
