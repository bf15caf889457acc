"""Replacing a file in one step: a crash leaves the old content or the new one, never a part."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

OWNER_ONLY = 0o600
"""Mode of a file that only its owner may read."""


def replace_file(
    path: Path, data: bytes, *, folder: Path | None = None, prefix: str = ".new-", mode: int = 0o666
) -> None:
    """Give a file new content; durable when it returns. Blocks. Raises OSError.

    A file that is there keeps its mode, and its owner where the system allows that. A symbolic
    link is replaced: resolve it before, where it is to be followed.

    Args:
        path: The file; its folder must exist.
        data: The whole content.
        folder: Where the temporary file is made, on the same file system; else beside the file.
        prefix: How the name of the temporary file begins; the rest is random, so that several
            processes may write at once.
        mode: Of a new file, less the umask.
    """
    temporary = (folder or path.parent) / f"{prefix}{os.urandom(8).hex()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            _take_over(path, stream.fileno())
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _take_over(path: Path, descriptor: int) -> None:
    """Give an open file the mode and the owner of the regular file at `path`, if there is one."""
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
    """Whether the operating system refused for want of room, or of quota."""
    return isinstance(error, OSError) and error.errno in _FULL


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder durable: a rename is not, until this is done (POSIX fsync)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; they order its changes themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
