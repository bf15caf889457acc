"""Files of this program: private folders, atomic and durable replacement, and locks on folders."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OWNER_ONLY = 0o600
"""Mode of a file that only its owner may read."""

LOCK_TIMEOUT_S = 10.0
"""Seconds to wait for the lock of a folder: a change of a small file takes milliseconds."""
LOCK_POLL_S = 0.01
"""Seconds between tries to lock: flock(2) has no time limit of its own."""

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF})
"""Error numbers of flock(2) on file systems without locks, or without locks on folders."""


def make_private(folder: Path, *, group: bool = False) -> Path:
    """Create a folder, or restrict an existing one, so that only its owner may enter it.

    With `group` its group may enter it too. Returns the folder. Raises OSError.
    """
    mode = 0o750 if group else 0o700
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o777 & ~mode:
        folder.chmod(mode)
    return folder


# Replacing a file in one step


def replace_file(
    path: Path, data: bytes, *, folder: Path | None = None, prefix: str = ".new-", mode: int = 0o666
) -> None:
    """Replace the content of a file in one step; durable when it returns. Blocks. Raises OSError.

    A crash leaves the old content or the new one, never a part. An existing file keeps its mode,
    and its owner where the system allows that. A symbolic link is replaced: resolve it first to
    follow it.

    Args:
        path: The file; its folder must exist.
        data: The whole content.
        folder: Where the temporary file is made, on the same file system; None for beside the file.
        prefix: Start of the temporary file's name; the rest is random, so that several processes
            may write at once.
        mode: Of a new file, less the umask.
    """
    temporary = (folder or path.parent) / f"{prefix}{os.urandom(8).hex()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            _copy_mode_and_owner(path, stream.fileno())
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _copy_mode_and_owner(path: Path, descriptor: int) -> None:
    """Copy mode and owner of the file at `path`, if there is one, to an open file."""
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    ours = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (ours.st_uid, ours.st_gid):
        with suppress(PermissionError):
            os.fchown(descriptor, found.st_uid, found.st_gid)
    os.fchmod(descriptor, found.st_mode & 0o777)  # after the owner: chown may clear bits


def is_disk_full(error: Exception) -> bool:
    """Whether an error of the operating system means that the disk or the quota is full."""
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder durable: a rename is durable only after this (POSIX fsync)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; they order its changes themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


# Locks


@contextmanager
def locked_folder(folder: Path, wait_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the lock of a folder, against other processes and other threads.

    It is flock(2) on the folder itself, so no lock file is left behind. On a file system without
    locks nothing is locked. Blocks. Raises OSError, and TimeoutError after `wait_s` seconds.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + wait_s
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, f"another program holds {folder}")
            time.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)  # releases the lock


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True
