"""The main job with the keyboard alone, in a real tmux, started from a shell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.demo.vocabulary import expected
from tests.terminal.conftest import is_answered

SIZES = [(120, 40), (80, 24), (60, 15)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_main_job_in_the_demo(terminal: Any, home: Path, width: int, height: int) -> None:
    terminal.open(width, height)
    terminal.command("modeldeck demo --rate 100; echo left with $?")
    terminal.until(r"d downloads tiny")
    terminal.press("/")
    terminal.type("padded")
    terminal.until(r"1 of \d+")
    terminal.press("Enter")  # to the rows
    terminal.until(r"▸ +padded")
    terminal.press("d")
    terminal.until(r"▸ ✓ padded")
    terminal.press("l")
    terminal.until(r"▸ ● padded")
    terminal.press("t")
    terminal.until(r"Ask something")
    terminal.type("Please count to ten.")
    terminal.press("Enter")
    terminal.until(lambda screen: is_answered(screen, expected("count")))
    terminal.press("Escape")
    terminal.until(r"i write")
    terminal.press("1")
    terminal.until(r"▸ ● padded")
    terminal.press("u")
    terminal.until(r"0 loaded")
    terminal.press("x")
    terminal.until(r"y delete ")
    terminal.press("y")
    terminal.until(r"6\d\.\d MB freed")
    terminal.press("q")
    assert "left with 0" in terminal.over()
    assert not list(home.rglob("chats.db*")), "its chats go with the demo"
