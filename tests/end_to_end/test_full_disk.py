"""A core whose home is on a disk that is really full: a small tmpfs, mounted for it alone."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.vocabulary import expected
from tests.support.process import CoreProcess

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Api

TINY = "deck/tiny-GGUF:Q8_0"
OTHER = "deck/tiny-GGUF:F16"
PATIENCE_S = 60.0


@pytest.fixture
def core(home: Path, hub: DemoHub) -> Iterator[CoreProcess]:
    """A core whose home is a disk of 8 MiB, mounted for its process alone."""
    if sys.platform != "linux":
        pytest.skip("needs the mount namespaces of Linux")
    home.mkdir(parents=True)
    as_root = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    script = f'mount -t tmpfs -o size=8m tmpfs "{home}" && exec "$@"'
    before = [shutil.which("unshare") or "unshare", *as_root, "--mount", "sh", "-c", script, "sh"]
    with CoreProcess({**os.environ, "HF_ENDPOINT": hub.url}, before=before) as core:
        yield core


def test_a_full_disk_costs_what_it_cannot_write_and_nothing_else(
    api: Api, core: CoreProcess, home: Path
) -> None:
    for model in (TINY, OTHER):
        api.pull(model)
    first, second = api.load(TINY), api.load(OTHER)
    filler = Path(f"/proc/{core.process.pid}/root{home}/filler")
    fill(filler)

    receipt = api.post(f"/deck/instances/{first['id']}/unload")
    assert receipt["process_gone"]
    assert api.ask(OTHER, "Please count") == expected("count")
    fill(filler)  # what was deleted meanwhile has made room
    api.post("/deck/models", {"name": "mine"}, status=507)
    assert api.model("custom:mine:") is None
    api.post(f"/deck/instances/{second['id']}/unload")
    # To delete is what makes room, so it must not need any.
    freed = api.post("/deck/cache/delete", {"models": [OTHER]})
    assert freed["freed_bytes"] > 0

    filler.unlink()
    assert api.load(TINY)["state"] == "ready"
    actions = [(entry["action"], entry["outcome"]) for entry in api.get("/deck/audit")["entries"]]
    assert actions.count(("unload", "done")) == 2
    assert ("delete files", "done") in actions
    fill(filler)
    api.post("/deck/stop")
    assert core.process.wait(PATIENCE_S) == 0, core.stderr
    assert "Traceback" not in core.stderr


def fill(filler: Path) -> None:
    with filler.open("ab", buffering=0) as stream:
        for size in (1 << 16, 1):
            try:
                while stream.write(bytes(size)):
                    pass
            except OSError:
                continue
