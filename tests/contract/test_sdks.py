from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import CoreProcess

ROUND = Path(__file__).with_name("sdk_round.py")
pytestmark = pytest.mark.timeout(480)  # the first test may have to wait for pip
UNIQUE = "deck/tiny-GGUF:Q8_0"


def drive(core: CoreProcess, folder: Path | None) -> dict[str, Any]:
    """Run the round with the SDK in `folder`, or the installed one."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if folder is not None:
        environ["PYTHONPATH"] = str(folder)
    # The old SDK's own code warns: what is looked at is what comes back.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROUND, core.url, UNIQUE],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{core.stderr}"
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_all_twelve_operations(
    core: CoreProcess, demo_models: Path, sdk_version: tuple[str, Path | None]
) -> None:
    version, folder = sdk_version
    told = drive(core, folder)
    assert told["agent"].startswith(f"OpenAPI-Generator/{version}")
    assert told["listed"] >= 40
    assert told["created"] == ["Round", "2026-01-02T03:04:05.678000+00:00", ["custom"]]
    status, words = told["duplicate"]
    assert status == 500
    assert "There is such a model already" in words
    status, words = told["early"]
    assert (status, words) == (500, "Round is not downloaded. Download it first.")
    assert told["idle"].get("status") is None
    assert told["download"][0] == "custom"
    assert set(told["download"]) & {"downloading", "downloaded"}
    assert told["done"] == {"status": "COMPLETED", "percentage": 100}
    assert told["again"] == told["cancel"] == ["custom", "downloaded"]
    assert told["load"] == ["custom", "downloaded", "loaded"]
    assert told["unload"] == ["custom", "downloaded"]
    assert told["unload all"] is None
    assert told["unloaded"] == ["custom", "downloaded"]
    assert told["size"] == (demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf").stat().st_size
    assert told["updated"][:3] == ["Round and round", "7", None]
    assert told["updated"][3].endswith("LLAMA_3_8B")
    assert told["updated"][4] == ["custom", "downloaded"]
    status, words = told["catalog update"]
    assert status == 500
    assert "is not a custom model" in words
    assert told["cleared"] is True
    assert told["files gone"] == ["custom"]
    assert told["deleted"] is None
    assert told["gone"][0] == 410
    assert told["listed at the end"] == told["listed"]
