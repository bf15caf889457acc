"""Disk cache of responses of the Hub, so that the catalog works while it cannot be reached.

Each response is one file, replaced atomically, so a reader sees a complete one or none. The folder
can be deleted at any time. Errors are logged, never raised: an uncached response is requested
again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)


class ResponseCache:
    """A folder of responses with a size limit; the least recently used are deleted first.

    Every method blocks on the disk: call it in a thread.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit = limit_bytes

    def get(self, *key: str) -> bytes | None:
        """Return the response with this key; None if there is none."""
        path = self._path(key)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data

    def put(self, data: bytes, *key: str) -> None:
        """Store a response, replacing one with the same key."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", delete=False) as new:
                try:
                    new.write(data)
                    new.flush()
                    Path(new.name).replace(self._path(key))
                except OSError:
                    Path(new.name).unlink(missing_ok=True)
                    raise
            self._trim()
        except OSError as error:
            logger.warning("A response of the Hub cannot be cached in %s: %s", self._folder, error)

    def _path(self, key: tuple[str, ...]) -> Path:
        # Hashed, since keys contain user input.
        return self._folder / hashlib.sha256("\0".join(key).encode("utf-8", "replace")).hexdigest()

    def _trim(self) -> None:
        """Delete the oldest files until the rest is within the limit, also temporary ones."""
        with os.scandir(self._folder) as entries:
            found = [
                (entry.stat().st_mtime_ns, entry.stat().st_size, entry.path) for entry in entries
            ]
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._limit:
                break
            Path(path).unlink(missing_ok=True)
            total -= size
