"""The log file of a core in the background: put aside when it is long, while the core runs too."""

from __future__ import annotations

import os
from pathlib import Path

LOG_LIMIT = 4 << 20
"""Bytes at which the log file is put aside; one older file is kept beside it."""


def put_aside(path: Path, limit: int | None = None) -> bool:
    """Rename a log that is longer than `limit` bytes; whether it was. Raises OSError."""
    try:
        if path.stat().st_size <= (LOG_LIMIT if limit is None else limit):
            return False
    except FileNotFoundError:
        return False
    path.replace(path.with_suffix(".log.1"))
    return True


def rotate(path: Path, descriptors: tuple[int, ...]) -> bool:
    """Put the log aside if it is long and is what the descriptors write to; whether it was.

    The descriptors (standard output and error) write to a new file from then on, so that what
    native code prints goes there as well. Nothing happens when they lead elsewhere, such as to a
    terminal or to a file of the person's own. Raises OSError; then they are as they were.
    """
    ours = [each for each in descriptors if _leads_to(each, path)]
    if not ours or not put_aside(path):
        return False
    new = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for each in ours:
            os.dup2(new, each)  # inheritable, as the standard descriptors are
    finally:
        os.close(new)
    return True


def _leads_to(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
