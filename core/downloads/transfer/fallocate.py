"""Reserves disk space for a file before it is written, and releases it: fallocate(2).

Python's `os.posix_fallocate` writes zeros where the file system cannot reserve, which takes minutes
for a model. Here nothing is reserved on such file systems.
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
    """Reserve space for the first `size` bytes of a file, without changing its size.

    Raises OSError with ENOSPC or EDQUOT when there is not enough.
    """
    _fallocate(descriptor, KEEP_SIZE, 0, size)


def release(descriptor: int, start: int, end: int) -> None:
    """Release the space of a range that was never written."""
    _fallocate(descriptor, KEEP_SIZE | PUNCH_HOLE, start, end - start)


def allocated(path: Path) -> int:
    """Disk space of a file in bytes, with reserved space; 0 where there is no file."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return 0
    # stat(2) counts blocks of 512 bytes on every file system.
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
