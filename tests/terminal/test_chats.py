"""Conversations in a real tmux: kept over a restart, branches, thoughts, and following."""

# ruff: noqa: RUF001 (signs of a branch)

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.client import daemon
from modeldeck.core.client.client import Client
from modeldeck.core.config.paths import locate
from modeldeck.core.demo.vocabulary import expected
from modeldeck.core.schema import LoadOptions
from tests.terminal.conftest import is_answered
from tests.terminal.test_mouse_and_load import click

TINY = "deck/tiny-GGUF:Q8_0"
THINKER = "deck/tiny-think-GGUF:F16"


def opened(terminal: Any, width: int = 120, height: int = 40) -> None:
    """The dashboard at Chat."""
    terminal.open(width, height)
    begun(terminal)


def begun(terminal: Any) -> None:
    terminal.command("modeldeck; echo left with $?")
    terminal.until(r"loaded")
    terminal.press("4")
    terminal.until(r"Ask something")


def left(terminal: Any) -> None:
    """Leave, from whatever has the focus."""
    commands(terminal)
    terminal.press("q")
    assert "left with 0" in terminal.over()


def commands(terminal: Any) -> None:
    """Leave the composer, or the list, so that letters are keys."""
    terminal.press("Escape")
    terminal.until(r"i write")


def load(*names: str, context: int = 1 << 16) -> None:
    """Download models, and load the first of them."""

    async def work() -> None:
        async with Client(socket=locate().socket) as client:
            for name in names:
                await client.download(name)
            await client.feed.until(
                lambda s: {m.unique for m in s.models.values() if m.downloaded} >= set(names)
            )
            await client.loaded(names[0], LoadOptions(context_length=context))

    asyncio.run(work())


def ask(terminal: Any, text: str, answer: str) -> None:
    terminal.type(text)
    terminal.press("Enter")
    terminal.until(lambda screen: is_answered(screen, answer) and "tok/s" in screen)


def test_a_chat_outlives_the_dashboard(terminal: Any, own: Path) -> None:
    opened(terminal)
    load(TINY)
    terminal.until(r"● tiny Q8_0 \[m\]")
    ask(terminal, "count", expected("count"))
    left(terminal)
    begun(terminal)
    terminal.until(re.escape(expected("count")))
    commands(terminal)
    terminal.press("c")
    terminal.until(r"▸ count")
    terminal.press("x")
    terminal.until(r"Deleted “count”\. z brings it back\.")
    terminal.press("z")
    terminal.until(r"“count” is back\.")
    commands(terminal)
    terminal.press("N")
    terminal.until(r"private, not kept")
    ask(terminal, "json my hidden treasure", expected("json"))
    commands(terminal)
    terminal.press("q")
    terminal.until(r"The open chat is private")
    terminal.press("y")
    assert "left with 0" in terminal.over()
    asyncio.run(daemon.stop(locate()))  # it writes and deletes files as long as it runs
    kept = b"".join(file.read_bytes() for file in own.rglob("*") if file.is_file())
    assert expected("count").encode() in kept
    assert b"hidden treasure" not in kept


def test_branches_and_thoughts(terminal: Any, own: Path) -> None:
    opened(terminal)
    load(THINKER)
    terminal.until(r"● tiny-think F16 \[m\].* thinking auto \[T\]|thinking auto")
    ask(terminal, "count", expected("count"))
    screen = terminal.until(r"> thought for .* tokens   o opens")
    assert "<think>" not in screen
    commands(terminal)
    terminal.press("e")
    terminal.until(r"^ +count$")
    terminal.press("C-u")
    ask(terminal, "json", expected("json"))
    terminal.until(r"‹ 2 of 2 ›")
    commands(terminal)
    terminal.press("[")
    terminal.until(lambda s: "‹ 1 of 2 ›" in s and expected("count") in s)
    terminal.press("o")
    screen = terminal.until(r"v thought for .* o folds")
    assert "<think>" not in screen
    terminal.press("i", "Up")
    terminal.until(r"^ +json$")
    left(terminal)  # a question that was only recalled is not asked about


@pytest.mark.parametrize(("width", "height"), [(120, 40), (60, 15)])
def test_reading_is_not_moved_by_the_answer(
    terminal: Any, own: Path, width: int, height: int
) -> None:
    opened(terminal, width, height)
    load(TINY)
    terminal.until(r"● tiny")
    terminal.type("loop")
    terminal.press("Enter")
    terminal.until(lambda screen: screen.count("tockTick") > 30 and "writing" in screen)
    stays(
        terminal,
        back_to_the_question(terminal, ["PageUp"] * 100, r"below   ctrl\+end follows again"),
    )
    terminal.press("C-End")
    terminal.until(follows)
    # The mouse leads from the question that may be written to the turns, where letters are keys.
    click(terminal, width // 2, 5)
    stays(terminal, back_to_the_question(terminal, ["Home"], r"below   G follows again"))
    terminal.press("G")
    terminal.until(follows)
    terminal.press("Escape")
    terminal.until(r"stopped")
    terminal.press("q")
    assert "left with 0" in terminal.over()


def back_to_the_question(terminal: Any, keys: list[str], hint: str) -> str:
    """The screen once the question is in sight, above lines that are whole.

    The lines of its answer are all the same, so only the question shows whether the view moves.
    """
    terminal.press(*keys)
    terminal.until(hint)
    screen: str = terminal.until(
        lambda screen: lines_below(screen) > 5 and turns(screen)[1].endswith("  loop")
    )
    return screen


def stays(terminal: Any, screen: str) -> None:
    """See that the visible turns stay while more comes."""
    shown, below = turns(screen), lines_below(screen)
    screen = terminal.until(lambda screen: lines_below(screen) > below + 5)
    assert turns(screen) == shown


def follows(screen: str) -> bool:
    """Whether the end of an answer that comes is in sight."""
    return "writing" in screen and "follows again" not in screen


def turns(screen: str) -> list[str]:
    """The visible lines of the turns, without the scrollbar, whose thumb moves."""
    lines = screen.splitlines()[3:]
    end = next(place for place, line in enumerate(lines) if lines_below(line))
    return [re.sub(r" *[│┃]$", "", line) for line in lines[:end]]


def lines_below(screen: str) -> int:
    found = re.search(r"v (\d+) lines? below", screen)
    return int(found[1]) if found else 0
