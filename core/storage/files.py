"""Private files and folders, and syncing folders to disk."""

from __future__ import annotations

from pathlib import Path


def make_private(folder: Path, *, group: bool = False) -> Path:
    """The folder, made if it was missing, that only its owner may enter, or also its group.

    Raises OSError.
    """
    mode = 0o750 if group else 0o700
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o777 & ~mode:
        folder.chmod(mode)
    return folder
