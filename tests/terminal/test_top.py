"""`modeldeck top` in a real tmux: memory alone, from a shell and back to it."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
SIZES = [(120, 40), (80, 24), (60, 15)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_memory_stands_alone_and_q_leads_back(
    terminal: Any, core: CoreProcess, width: int, height: int
) -> None:
    terminal.open(width, height)
    terminal.command("modeldeck top; echo left with $?")
    screen = terminal.until(r"RAM .* GiB")
    terminal.until("No model is loaded")
    assert not re.search(r"Catalog|Downloads|Chat", screen.splitlines()[-1])
    terminal.press("2")
    terminal.press("Tab")
    terminal.press("?")
    assert "Go to Catalog" not in terminal.until(r"Keys")
    terminal.press("Escape")
    terminal.until(lambda screen: "Keys" not in screen)
    terminal.press("q")
    assert "left with 0" in terminal.over()
    assert core.process.poll() is None, "a core that ran before goes on"


def test_what_others_load_is_seen_and_unloaded(terminal: Any, own: Path) -> None:
    terminal.open(100, 30)
    terminal.command(f"modeldeck pull {TINY} && modeldeck top; echo left with $?")
    terminal.until("No model is loaded")
    modeldeck = Path(sysconfig.get_path("scripts")) / "modeldeck"
    subprocess.run([modeldeck, "load", TINY, "--context", "512"], check=True)
    terminal.until(r"tiny Q8_0 .*llama\.cpp.* idle")  # not yet "idle" while it is behind the core
    terminal.press("u")
    terminal.until(r"Unloaded tiny Q8_0: .* freed in ")
    terminal.until("No model is loaded")
    terminal.press("q")
    assert "left with 0" in terminal.over()


def test_without_a_terminal_it_is_one_page(terminal: Any, core: CoreProcess) -> None:
    terminal.open(100, 30)
    terminal.command("modeldeck top | cat; echo left with $?")
    assert re.search(r"memory .* GiB[\s\S]*left with 0", terminal.over())
