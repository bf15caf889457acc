"""A mount that really hangs: a FUSE file system whose server never answers, as a dead NFS server.

Needs the right to mount; elsewhere `tests/core/storage/test_hung_mount.py` stands in for it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.process import CoreProcess

SOON_S = 60.0
"""For any answer: the time limit of a file is 10 s, and a machine at work takes longer."""
MS_NOSUID_NODEV = 6
MNT_DETACH = 2
"""mount(2), umount2(2)."""


class HungMount:
    """A folder that can be covered by a mount whose every call hangs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._device = -1

    def hang(self) -> None:
        """Mount; skips the test where that is not allowed."""
        try:
            self._device = os.open("/dev/fuse", os.O_RDWR)
        except OSError as error:
            pytest.skip(f"no FUSE here: {error}")
        options = f"fd={self._device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        found = self._libc.mount(
            b"hung", os.fsencode(self.folder), b"fuse", MS_NOSUID_NODEV, options.encode()
        )
        if found != 0:
            words = os.strerror(ctypes.get_errno())
            self.release()
            pytest.skip(f"mounting is not allowed here: {words}")

    def release(self) -> None:
        """Let every call that hangs fail, and take the mount away."""
        if self._device >= 0:
            os.close(self._device)
            self._libc.umount2(os.fsencode(self.folder), MNT_DETACH)
            self._device = -1


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[HungMount]:
    if sys.platform != "linux":
        pytest.skip("FUSE is mounted in another way here")
    mount = HungMount(tmp_path / "mount")
    mount.folder.mkdir()
    yield mount
    mount.release()


def asked(core: CoreProcess, method: str, path: str, body: object = None) -> tuple[int, Any]:
    with httpx.Client(base_url=core.url, timeout=SOON_S, trust_env=False) as client:
        answer = client.request(method, path, json=body)
    return answer.status_code, answer.json() if answer.content else None


def test_a_core_goes_on_beside_it_and_ends(
    own_core: CoreProcess, mount: HungMount, tmp_path: Path, demo_models: Path
) -> None:
    sound = demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf"
    hung = [mount.folder / f"model-{number}.gguf" for number in range(12)]
    fine = tmp_path / "fine.gguf"
    for file in (*hung, fine):
        shutil.copy(sound, file)
        assert asked(own_core, "POST", "/deck/models", {"unique": str(file)})[0] == 200
    mount.hang()
    deadline = time.monotonic() + 60
    while asked(own_core, "GET", "/health")[1]["status"] != "degraded":
        assert time.monotonic() < deadline, "the core did not notice that files do not answer"
        time.sleep(0.1)
    status, error = asked(
        own_core, "POST", f"/deck/models/{quote(str(hung[0]), safe='')}/load", {"wait": True}
    )
    assert (status, error["error"]["code"]) == (504, "storage_timeout")
    assert str(hung[0]) in error["error"]["message"]
    assert error["error"]["remedy"]
    status, instance = asked(
        own_core, "POST", f"/deck/models/{quote(str(fine), safe='')}/load", {"wait": True}
    )
    assert (status, instance["state"]) == (200, "ready")
    for path in ("/deck/state", "/deck/fits", "/api/tags", "/deck/cache", "/v1/models"):
        assert asked(own_core, "GET", path)[0] == 200
    assert asked(own_core, "POST", "/deck/stop")[0] in (200, 202)
    own_core.process.wait(SOON_S)
