"""The contract with the terminal: kinds of terminals, storms of resizes, two eyes on one core."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pexpect  # type: ignore[import-untyped] # it has no types
import pytest

from modeldeck.core.demo.hub import DemoHub
from tests.support.process import CoreProcess

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "modeldeck")
SLOW = 20_000
"""Bytes a second on each connection: the padded model takes minutes, until the limit is lifted."""
SIZES = [(120, 40), (40, 4), (80, 24), (60, 15), (200, 60), (20, 1)]


@pytest.mark.parametrize("term", ["tmux-256color", "screen", "xterm-256color", "linux"])
def test_every_kind_of_terminal_shows_the_catalog_and_hears_keys(
    shared_core: CoreProcess, terminal: Any, term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELDECK_HOME", str(shared_core.home))
    terminal.open(80, 24, TERM=term)
    terminal.command("modeldeck; echo left with $?")
    terminal.until("BGE Small")
    terminal.press("3")
    terminal.until("No model is loaded")
    terminal.press("q")
    assert "left with 0" in terminal.over()


def test_a_storm_of_resizes_in_mid_download_leaves_a_whole_screen(
    core: CoreProcess, hub: DemoHub, terminal: Any
) -> None:
    hub.rate_bytes_per_s = SLOW
    terminal.open(120, 40)
    terminal.command("modeldeck pull -d deck/padded-GGUF:F16; clear; modeldeck; echo left with $?")
    terminal.until("0 loaded")
    terminal.press("2")
    terminal.until("padded.*downloading")
    for size in SIZES * 5:
        terminal.resize(*size)
    hub.rate_bytes_per_s = None
    for size in ((60, 15), (120, 40)):
        terminal.resize(*size)
        terminal.until(lambda screen, size=size: is_whole(screen, *size))
    terminal.press("q")
    assert "left with 0" in terminal.over()


def is_whole(screen: str, width: int, height: int) -> bool:
    """Whether Downloads fills the terminal, has one status bar, and tells the end of the model."""
    lines = screen.splitlines()
    return (
        len(lines) == height
        and len(lines[0]) > width // 2
        and "2 Downloads" in lines[-1]
        and len([line for line in lines if "modeldeck" in line]) <= 1
        and re.search(r"✓ padded.*downloaded", screen) is not None
    )


def test_two_people_see_the_same_and_one_may_leave(
    core: CoreProcess, hub: DemoHub, terminal: Any
) -> None:
    hub.rate_bytes_per_s = SLOW
    terminal.open(120, 40)
    terminal.command("modeldeck; echo left with $?")
    terminal.until("BGE Small")
    terminal.press("2")
    other = pexpect.spawn(
        PROGRAM,
        env={**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
        dimensions=(24, 80),
        encoding="utf-8",
        timeout=60,
    )
    other.expect("BGE Small")
    other.send("2")
    subprocess.run([PROGRAM, "pull", "--detach", "deck/padded-GGUF:F16"], check=True)
    terminal.until("padded.*downloading")
    other.expect("padded")
    other.send("q")
    other.expect(pexpect.EOF)
    other.close()
    assert other.exitstatus == 0
    hub.rate_bytes_per_s = None
    terminal.until(r"✓ padded.*downloaded")
