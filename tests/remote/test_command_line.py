"""Commands on other machines, over a real ssh."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import daemon

if TYPE_CHECKING:
    from tests.remote.conftest import Machines

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "modeldeck")
TINY = "deck/tiny-GGUF:Q8_0"


def run(*words: str, code: int = 0) -> tuple[str, str]:
    """What a command says, on standard output and on standard error."""
    done = subprocess.run(
        [PROGRAM, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout, done.stderr


def told(*words: str) -> list[Any]:
    """The documents that a command answers."""
    return [json.loads(line) for line in run(*words, "--json")[0].splitlines()]


def test_a_command_starts_the_core_over_there_and_ends_it(machines: Machines) -> None:
    machines("gpu1")
    (listed,) = told("@gpu1", "ls")
    assert len(listed) > 40
    assert run("--on", "@gpu1", "stop", code=7)[1].startswith("modeldeck: No core is running there")


def test_a_model_is_fetched_and_used_over_there(machines: Machines) -> None:
    (gpu,) = machines("gpu1")
    run("@gpu1", "pull", TINY)
    said = run("@gpu1", "load", TINY, "-c", "512")[1]
    assert "gpu1: The core keeps running: a model is loaded." in said
    (state,) = told("@gpu1", "status")
    assert [i["unique"] for i in state["instances"]] == [TINY]
    assert state["host"]["socket"] == str(gpu.paths.socket)
    assert "1 loaded" in run("@gpu1", "status", "--line")[0]
    assert daemon.read_ready(gpu.paths) is not None
    run("@gpu1", "stop")
