"""What tests of single parts share: a disk that is really full."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


class SmallDisk:
    """A tmpfs of its own, that can be filled to its last byte and emptied again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Leave no room for one more page."""
        with self._filler.open("ab", buffering=0) as stream:
            for size in (1 << 16, 1):
                try:
                    while stream.write(bytes(size)):
                        pass
                except OSError:
                    continue

    def make_room(self) -> None:
        """Give back what `fill` took."""
        self._filler.unlink(missing_ok=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A real file system of 8 MiB, empty. The tests of `end_to_end` need no root for theirs."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small disk in this process needs root on Linux")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
