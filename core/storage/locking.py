"""A lock on a folder, for changes to a file in it that several processes may make."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_S = 10.0
"""For others to be done: a change of a small file takes milliseconds."""
POLL_S = 0.01
"""Between tries: flock(2) knows no limit of time."""

_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF})
"""What flock(2) answers on file systems without locks, or without locks on folders (old NFS)."""


@contextmanager
def locked_folder(folder: Path, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the lock of a folder against other processes and other threads that ask for it.

    It is flock(2) on the folder itself, so no file of a lock is left behind. Where the file system
    has no such locks, nothing is held. Blocks. Raises OSError, TimeoutError after `wait_s`.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + wait_s
        while not _take(descriptor):
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, f"another program holds {folder}")
            time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)  # which lets go of the lock


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True
