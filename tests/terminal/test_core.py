"""What the dashboard does with the core of a person: find it, start it, lose it, leave it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect  # type: ignore[import-untyped] # it has no types
import psutil
import pytest

from modeldeck.core.config.paths import locate
from modeldeck.core.demo.hub import DemoHub
from tests.conftest import PADDED_BYTES
from tests.support.durable import durable_bytes
from tests.support.process import CoreProcess

SLOW = 200_000
"""Bytes a second on each connection: the padded model takes long enough to be seen."""

DURABLE = PADDED_BYTES // 4
"""Bytes of the model that must be safe before its core is killed."""

CorePid = Callable[[], int]


@pytest.fixture
def downloading(terminal: Any, own: Path, hub: DemoHub) -> Any:
    """A dashboard with a download under way."""
    hub.rate_bytes_per_s = SLOW
    terminal.open(120, 40)
    terminal.command("modeldeck; echo left with $?")
    terminal.until("0 loaded")
    begin(terminal)
    return terminal


def begin(terminal: Any) -> None:
    """Ask for the padded model, and wait until a good part of it is here."""
    terminal.press("/")
    terminal.type("padded")
    terminal.until("deck/padded-GGUF")
    terminal.press("Enter")
    terminal.press("Enter")
    terminal.until(r"F16 +3\d\.\d MB")
    terminal.press("d", "2")
    terminal.until(r"padded.*downloading.* [1-9]\d %")


def test_leaving_an_idle_core_that_was_started_here_ends_it(
    terminal: Any, own: Path, core_pid: CorePid, gone: Callable[[int], bool]
) -> None:
    terminal.open(120, 40)
    terminal.command("modeldeck; echo left with $?")
    terminal.until("0 loaded")
    pid = core_pid()
    assert os.getsid(pid) != os.getsid(terminal.pane_pid)
    terminal.press("q")
    screen = terminal.over()
    assert "left with 0" in screen
    assert "keeps running" not in screen
    assert gone(pid)


def test_leaving_during_a_download_leaves_the_core_and_says_so(
    downloading: Any, core_pid: CorePid, hub: DemoHub
) -> None:
    pid = core_pid()
    downloading.press("q")
    screen = downloading.over()
    assert (
        "The core keeps running: a download is running. `modeldeck stop` ends it.\nleft with 0"
        in screen
    )
    hub.rate_bytes_per_s = None
    downloading.command("modeldeck")
    downloading.press("2")
    downloading.until(r"✓ padded.*downloaded")
    assert core_pid() == pid


@pytest.mark.parametrize("keys", [("C-c",), ("C-q",)])
def test_other_ways_to_quit_mean_the_same(
    terminal: Any, own: Path, core_pid: CorePid, gone: Callable[[int], bool], keys: tuple[str, ...]
) -> None:
    terminal.open(80, 24)
    terminal.command("modeldeck; echo left with $?")
    terminal.until("0 loaded")
    pid = core_pid()
    terminal.press(*keys)
    assert "left with 0" in terminal.over()
    assert gone(pid)


def test_a_hang_up_leaves_the_core_alone(
    downloading: Any, core_pid: CorePid, gone: Callable[[int], bool]
) -> None:
    pid = core_pid()
    (dashboard,) = psutil.Process(downloading.pane_pid).children()
    downloading.close()  # the terminal is gone, as when SSH breaks
    assert gone(dashboard.pid)
    assert psutil.pid_exists(pid)


def test_a_killed_core_is_started_again_and_its_download_goes_on(
    downloading: Any, core_pid: CorePid, hub: DemoHub
) -> None:
    downloading.until(lambda _: durable_bytes(locate().database) >= DURABLE)
    before = core_pid()
    os.kill(before, signal.SIGKILL)
    asked = len(hub.log)
    downloading.until("reconnecting, [0-9]+ s|The core answers again")
    hub.rate_bytes_per_s = None
    downloading.until(r"✓ padded.*downloaded")
    assert core_pid() != before
    again = sum(entry.bytes_sent for entry in hub.log[asked:] if entry.origin == "storage")
    # Half of it, as sockets hold some of what is sent to connections that are closed again.
    assert again < PADDED_BYTES - DURABLE // 2, "what was durable was not fetched again"


def test_a_core_that_was_told_to_end_stays_ended_and_is_found_again(
    terminal: Any, core: CoreProcess
) -> None:
    terminal.open(120, 40)
    terminal.command("modeldeck; echo left with $?")
    terminal.until("BGE Small")
    bright = terminal.styled()
    core.stop()
    screen = terminal.until("reconnecting, [1-9] s")
    assert "BGE Small" in screen, "the last state stays on the screen"
    assert terminal.styled().splitlines()[5] != bright.splitlines()[5], "dimmed"
    core.start()
    screen = terminal.until("The core answers again")
    assert "reconnecting" not in screen


def test_a_detached_session_goes_on(downloading: Any, hub: DemoHub) -> None:
    with_person = pexpect.spawn(
        "tmux", ["-S", str(downloading.socket), "attach"], dimensions=(40, 120), encoding="utf-8"
    )
    with_person.expect("downloading")
    with_person.send("\x02d")
    with_person.expect("detached")
    with_person.close()
    hub.rate_bytes_per_s = None
    downloading.until(r"✓ padded.*downloaded")
    again = pexpect.spawn(
        "tmux", ["-S", str(downloading.socket), "attach"], dimensions=(24, 80), encoding="utf-8"
    )
    again.expect("downloaded")
    again.close()
    downloading.resize(80, 24)
    downloading.until(r"✓ padded.*downloaded")


def test_a_core_that_cannot_start_is_shown_with_its_last_lines(terminal: Any, own: Path) -> None:
    broken = own.parent / "broken"
    broken.mkdir()
    (broken / "httptools.py").write_text("raise RuntimeError('made to fail')\n")
    terminal.open(120, 40, PYTHONPATH=str(broken))
    terminal.command("modeldeck; echo left with $?")
    screen = terminal.until("made to fail")
    assert "The core did not start." in screen
    assert "no core" in screen
    (broken / "httptools.py").unlink()
    terminal.press("C-r")
    screen = terminal.until("0 loaded")
    assert "made to fail" not in screen
    terminal.press("q")
    assert "left with 0" in terminal.over()


def test_without_a_terminal_help_is_named_and_the_demo_is_a_script(terminal: Any) -> None:
    terminal.open(100, 120)
    terminal.command("modeldeck </dev/null; echo left with $?")
    assert re.search(r"`modeldeck --help` lists[\s\S]*left with 2", terminal.over())
