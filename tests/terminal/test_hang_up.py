"""A terminal that goes away ends the dashboard on it, whatever was done before."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import pexpect  # type: ignore[import-untyped] # it has no types
import psutil
import pytest

from modeldeck.core.demo.hub import DemoHub
from tests.support.process import CoreProcess
from tests.support.pseudoterminal import hang_up
from tests.terminal.conftest import PATIENCE_S, PATIENT

LEFT = r"\x1b\[\?1049l"
"""The terminal is given back: the alternate screen is left."""

Open = Callable[[], pexpect.spawn]


@pytest.fixture(scope="module")
def environ(shared_hub: DemoHub) -> Iterator[dict[str, str]]:
    """The environment of a person whose core runs."""
    with tempfile.TemporaryDirectory(prefix="md-") as folder:
        own = {"MODELDECK_HOME": f"{folder}/home", "HF_HOME": f"{folder}/hf"}
        with CoreProcess({**os.environ, **own, "HF_ENDPOINT": shared_hub.url}):
            yield {**os.environ, **own, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}


@pytest.fixture
def on_a_terminal(environ: dict[str, str]) -> Iterator[Open]:
    """Starts dashboards, each on a pseudoterminal that is its controlling one."""
    children: list[pexpect.spawn] = []

    def spawn() -> pexpect.spawn:
        words = ["-c", PATIENT]
        child = pexpect.spawn(
            sys.executable, words, env=environ, dimensions=(24, 80), encoding="utf-8", timeout=60
        )
        children.append(child)
        return children[-1]

    yield spawn
    for child in children:
        if psutil.pid_exists(child.pid):
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)


def ends(child: pexpect.spawn) -> bool:
    """Close the terminal: whether the program ends then."""
    # The object that reads its output notes its end, and collects its exit code (waitpid).
    alive = [psutil.Process(child.pid)] if psutil.pid_exists(child.pid) else []
    hang_up(child)
    return not psutil.wait_procs(alive, timeout=PATIENCE_S)[1]


def test_a_pane_that_is_closed_right_after_ctrl_c_leaves_nothing(on_a_terminal: Open) -> None:
    """The kernel sends SIGHUP and SIGCONT while the program takes its leave."""
    child = on_a_terminal()
    child.expect("0 loaded")
    child.sendcontrol("c")
    child.expect(LEFT)
    assert ends(child)


@pytest.mark.parametrize("wait_s", [0.0, 0.15])
def test_it_ends_at_whatever_moment_after_ctrl_c(on_a_terminal: Open, wait_s: float) -> None:
    child = on_a_terminal()
    child.expect("0 loaded")
    child.sendcontrol("c")
    time.sleep(wait_s)
    assert ends(child)


def test_it_ends_when_nothing_was_pressed(on_a_terminal: Open) -> None:
    child = on_a_terminal()
    child.expect("0 loaded")
    assert ends(child)


def test_it_ends_when_it_was_suspended(on_a_terminal: Open) -> None:
    child = on_a_terminal()
    child.expect("0 loaded")
    os.kill(child.pid, signal.SIGTSTP)
    child.expect(LEFT)
    process = psutil.Process(child.pid)
    deadline = time.monotonic() + PATIENCE_S
    while process.status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert ends(child)


@pytest.mark.parametrize("wait_for", ["", r"\x1b\[\?1049h"])
def test_it_ends_when_it_has_only_begun(on_a_terminal: Open, wait_for: str) -> None:
    child = on_a_terminal()
    if wait_for:
        child.expect(wait_for)
    assert ends(child)
