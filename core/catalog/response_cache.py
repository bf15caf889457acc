"""What the Hub answered, kept on disk, so that the catalog still works when it cannot be asked.

Each answer is one file, replaced in one step, so a reader sees a whole one or none. Everything here
can be deleted at any time. Nothing here ever fails: an answer that cannot be kept is asked again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)


class ResponseCache:
    """A folder of answers that never grows beyond a limit; the ones used longest ago go first.

    Every method touches the disk: call them in a thread.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit = limit_bytes

    def get(self, *key: str) -> bytes | None:
        """The answer kept under this key; None when there is none."""
        path = self._path(key)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data

    def put(self, data: bytes, *key: str) -> None:
        """Keep an answer, replacing the one under the same key."""
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
            logger.warning("An answer of the Hub cannot be kept in %s: %s", self._folder, error)

    def _path(self, key: tuple[str, ...]) -> Path:
        # Hashed, since keys hold what people typed.
        return self._folder / hashlib.sha256("\0".join(key).encode("utf-8", "replace")).hexdigest()

    def _trim(self) -> None:
        """Delete the oldest until the rest is within the limit; a crash's leftovers age out too."""
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
