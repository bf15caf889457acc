"""Rotation of the log file of a background core, also while it runs."""

from __future__ import annotations

import os
from pathlib import Path

LOG_LIMIT = 4 << 20
"""Bytes at which the log file is rotated; one older file is kept."""


def put_aside(path: Path, limit: int | None = None) -> bool:
    """Rename a log that is longer than `limit` bytes. Returns whether it was. Raises OSError."""
    try:
        if path.stat().st_size <= (LOG_LIMIT if limit is None else limit):
            return False
    except FileNotFoundError:
        return False
    path.replace(path.with_suffix(".log.1"))
    return True


def rotate(path: Path, descriptors: tuple[int, ...]) -> bool:
    """Rotate the log if it is long and the descriptors write to it. Returns whether it was rotated.

    The descriptors (standard output and error) write to a new file from then on, so the output of
    native code goes there as well. Descriptors that write elsewhere, such as to a terminal or
    another file, are not changed. Raises OSError; then all descriptors are unchanged.
    """
    ours = [each for each in descriptors if _writes_to(each, path)]
    if not ours or not put_aside(path):
        return False
    new = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for each in ours:
            os.dup2(new, each)  # inheritable, as the standard descriptors are
    finally:
        os.close(new)
    return True


def _writes_to(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
