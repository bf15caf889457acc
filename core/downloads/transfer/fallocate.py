"""Room for a file before its bytes come, and room given back when they will not: fallocate(2).

Python's own `posix_fallocate` writes zeros where the file system cannot reserve: for a model that
would take minutes. Here such file systems just reserve nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

KEEP_SIZE = 1
PUNCH_HOLE = 2
"""Flags of fallocate(2), from linux/falloc.h."""

_CANNOT = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.EPERM})


def reserve(descriptor: int, size: int) -> None:
    """Make room for the first `size` bytes of a file, which seems as long as before.

    Raises OSError with ENOSPC or EDQUOT when there is none.
    """
    _fallocate(descriptor, KEEP_SIZE, 0, size)


def release(descriptor: int, start: int, end: int) -> None:
    """Give back the room of these bytes, which were never written."""
    _fallocate(descriptor, KEEP_SIZE | PUNCH_HOLE, start, end - start)


def allocated(path: Path) -> int:
    """Bytes of disk that a file takes, with what is reserved for it; 0 where there is no file."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return 0
    # stat(2) counts in 512 bytes whatever the file system does.
    return found.st_blocks * 512


def _fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    if sys.platform != "linux" or length <= 0:
        return
    call = ctypes.CDLL(None, use_errno=True)
    action = getattr(call, "fallocate64", None) or call.fallocate
    action.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while action(descriptor, mode, offset, length) != 0:
        code = ctypes.get_errno()
        if code in _CANNOT:
            return
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
