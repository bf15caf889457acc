"""The folder of saved conversations: files by which a prefix cache outlives its engine process.

Engines write them (`core/runtime/engines/llama/prefix_disk_cache.py`); the core counts and deletes
them.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

SUFFIX = ".prefix"
UNFINISHED = ".writing"
"""Of a file that is being written."""


def saved_prefixes(folder: Path) -> dict[Path, int]:
    """Return the files in it, with their bytes. Blocks.

    Those that are being written, or were when their engine ended, are among them: they hold what
    people wrote as well. An engine whose file is deleted meanwhile only loses that state. Empty for
    a folder that is not there or cannot be read. Raises no errors.
    """
    found = {}
    with suppress(OSError):
        for suffix in (SUFFIX, UNFINISHED):
            for path in folder.glob(f"*{suffix}"):
                with suppress(FileNotFoundError):  # an engine has just made room, or finished it
                    found[path] = path.lstat().st_size
    return found
