"""How commands end: exit codes of `fit`, a reader that leaves, no terminal to draw on."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from modeldeck.core.demo.hub import DemoHub
from tests.support.process import CoreProcess

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "modeldeck")


@pytest.fixture
def hub(shared_hub: DemoHub) -> DemoHub:
    return shared_hub


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *words],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_fit_tells_by_its_exit_code(core: CoreProcess, hub: DemoHub) -> None:
    assert run("fit", "deck/tiny-GGUF:Q8_0").returncode == 0
    run("pull", "deck/tiny-GGUF:Q8_0")
    over = run("fit", "deck/tiny-GGUF:Q8_0", "-c", "16777216")
    assert (over.returncode, over.stdout.startswith("too large")) == (5, True), over
    unreadable = run("fit", "deck/broken-GGUF:Q8_0")
    assert (unreadable.returncode, unreadable.stderr) == (4, ""), unreadable
    assert run("fit", "deck/none-GGUF:Q8_0").returncode == 3
    hub.online = False
    try:
        unreached = run("fit", "deck/padded-GGUF:F16")
    finally:
        hub.online = True
    assert unreached.returncode == 6, unreached


def test_a_reader_that_has_enough_is_no_failure(core: CoreProcess) -> None:
    with subprocess.Popen([PROGRAM, "ls"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ls:
        assert ls.stdout is not None
        assert ls.stderr is not None
        ls.stdout.close()
        said = ls.stderr.read()
    assert (ls.returncode, said) == (0, b"")


def test_a_mistyped_model_is_asked_back(core: CoreProcess) -> None:
    done = run("load", "smolm2-135m-instruct")
    assert done.returncode == 3
    assert "Did you mean" in done.stderr


@pytest.mark.parametrize("words", [(), ("top", "--ascii")])
def test_the_dashboard_needs_a_terminal(home: Path, words: tuple[str, ...]) -> None:
    done = run(*words)
    if words:  # `top` shows the state once instead; there is no core
        assert done.returncode == 7
    else:
        assert done.returncode == 2
        assert "The dashboard needs a terminal" in done.stderr


def test_a_dumb_terminal_gets_no_dashboard(home: Path) -> None:
    done = subprocess.run(
        ["script", "-qec", PROGRAM, "/dev/null"],
        env={**os.environ, "TERM": "dumb"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, "\x1b" in done.stdout) == (2, False), done
    assert "needs a terminal" in done.stdout
