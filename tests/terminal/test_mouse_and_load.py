"""Clicks as a terminal sends them, and keys while the machine is busy, in a real tmux."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.config.paths import locate

TINY = "deck/tiny-GGUF:Q8_0"
BURN = "import os; os.nice(5)\nwhile True: pass"


@pytest.fixture
def busy() -> Iterator[None]:
    """As many programs as the machine has cores, which compute all the time."""
    count = os.cpu_count() or 1
    programs = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(count)]
    yield
    for program in programs:
        program.kill()
        program.wait()


def click(terminal: Any, column: int, row: int) -> None:
    """Click a cell, counted from 0, with the sequence of a terminal's mouse."""
    for end in "Mm":
        terminal.type(f"\x1b[<0;{column + 1};{row + 1}{end}")


def place(screen: str, words: str) -> tuple[int, int]:
    """Column and line of words on the screen."""
    line, text = next((n, t) for n, t in enumerate(screen.splitlines()) if words in t)
    return text.index(words), line


def fetch(*names: str) -> None:
    """Download models into this person's cache."""

    async def work() -> None:
        async with Client(socket=locate().socket) as client:
            for name in names:
                await client.download(name)
            await client.feed.until(
                lambda s: {m.unique for m in s.models.values() if m.downloaded} >= set(names)
            )

    asyncio.run(work())


@pytest.mark.usefixtures("own")
def test_a_click_elsewhere_calls_a_question_off(terminal: Any) -> None:
    terminal.open(120, 40)
    terminal.command("modeldeck; echo left with $?")
    terminal.until("BGE Small")
    fetch(TINY)
    terminal.until(r"✓ 1")
    terminal.press("3")
    terminal.until(r"No model is loaded")
    for target in ("BGE Small", "2 Downloads"):
        terminal.press("1", "g")
        screen = terminal.until(
            lambda screen, target=target: "▸ ✓ tiny" in screen and target in screen
        )
        there = place(screen, target)
        terminal.press("x")
        terminal.until(r"Delete\? .*y delete")
        click(terminal, *there)
        terminal.until(r"Cancelled: nothing was deleted\.")
        terminal.until(lambda screen: "y delete" not in screen)
    terminal.press("1", "g", "y")
    terminal.until(r"Copied ")
    assert Path(terminal.clipboard()).name == "tiny-Q8_0.gguf", "the terminal has it"
    terminal.press("1", "j", "y")
    terminal.until(r"Copied (?!.*tiny)")
    terminal.press("g", "x", "x", "x")
    terminal.until(r"Delete\? .*y delete")
    terminal.press("n")
    terminal.until(lambda screen: "y delete" not in screen)
    terminal.press("q")
    assert "left with 0" in terminal.over()


@pytest.mark.usefixtures("busy")
def test_no_key_is_lost_while_the_machine_is_busy(terminal: Any) -> None:
    terminal.open(120, 40)
    terminal.command("modeldeck demo --rate 0.1; echo left with $?")
    terminal.until(r"built in: not on this demo's hub")
    for second in ("PageDown", "PageUp") * 10:
        terminal.press("C-p", second)
    terminal.until(r"Go to .* enter does it")
    terminal.press("Escape")
    terminal.until(r"1 Catalog")
    terminal.press("g", "Space", "Space", "Space")
    terminal.until(r"◆ 3 marked")
    terminal.press("d")
    terminal.until(r"↓ 3|↓ [\d.]+ .?B/s \(3\)")
    words = "the quick brown fox jumps over the lazy dog"
    terminal.press("2", "/")
    terminal.type(words)
    terminal.until(rf"filter: {words}")
    terminal.press("Escape", "3")
    terminal.until(r"No model is loaded")
