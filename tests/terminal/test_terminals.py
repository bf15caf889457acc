"""Terminals that know less: 16 colours, none, and ASCII only."""

from __future__ import annotations

import re
from typing import Any

import pytest

from modeldeck.tui.dashboard.console_filter import SIGNS

SIZES = [(120, 40), (80, 24), (60, 15)]
COLOUR = re.compile(r"\x1b\[([0-9;:]+)m")


def codes(styled: str) -> set[str]:
    """Every colour code on the screen: `38;2;…` and `38;5;…` by their kind, others as they are."""
    found: set[str] = set()
    for match in COLOUR.finditer(styled):
        parts = re.split("[;:]", match[1])
        while parts:
            part = parts.pop(0)
            if part in ("38", "48"):
                kind = parts.pop(0)
                found.add(f"{part};{kind}")
                del parts[: 3 if kind == "2" else 1]
            else:
                found.add(part)
    return found


def open_demo(terminal: Any, size: tuple[int, int], options: str = "", **environ: str) -> str:
    """The screen of the demo once there is something on it."""
    terminal.open(*size, **environ)
    terminal.command(f"modeldeck demo {options}; echo left with $?")
    terminal.until("0 loaded")
    return str(terminal.until(r"(?m)^.*BGE Small"))


@pytest.mark.parametrize("size", SIZES)
def test_ascii_draws_nothing_else(terminal: Any, size: tuple[int, int]) -> None:
    open_demo(terminal, size, "--ascii")
    for key in "12345":
        terminal.press(key)
        screen = terminal.until(r"Catalog|^ *1 ")
        assert screen.isascii(), [char for char in screen if not char.isascii()]


@pytest.mark.parametrize("size", SIZES)
def test_the_linux_console_gets_signs_of_its_fonts(terminal: Any, size: tuple[int, int]) -> None:
    open_demo(terminal, size, "", TERM="linux")
    for key in ("1", "2", "3", "5", ":", "Escape", "x", "Escape", "?"):
        terminal.press(key)
        screen = terminal.until(r"Catalog|^ *1 |Go to|Keys|esc")
        wrong = {char for char in screen if not char.isascii() and char not in SIGNS}
        assert not wrong, (key, wrong, screen)


def test_a_locale_without_utf_8_draws_ascii(terminal: Any) -> None:
    assert open_demo(terminal, (80, 24), LC_ALL="C", PYTHONUTF8="0").isascii()


def test_no_color_draws_without_colours(terminal: Any) -> None:
    open_demo(terminal, (80, 24), NO_COLOR="1")
    coloured = {code for code in codes(terminal.styled()) if re.match(r"[349]\d|10\d|[34]8;", code)}
    assert coloured <= {"39", "49"}


def test_sixteen_colours_are_enough(terminal: Any) -> None:
    open_demo(terminal, (80, 24), TERM="screen")
    assert not codes(terminal.styled()) & {"38;2", "48;2", "38;5", "48;5"}


def test_a_good_terminal_gets_all_of_them(terminal: Any) -> None:
    open_demo(terminal, (80, 24), COLORTERM="truecolor")
    assert "38;2" in codes(terminal.styled())


def test_resizing_keeps_the_place_whatever_the_shell_exported(terminal: Any) -> None:
    open_demo(terminal, (120, 40), "--rate 100", COLUMNS="120", LINES="40")
    terminal.press("g", "j", "j", "j")
    terminal.until("▸ +padded")
    for size in ((80, 24), (60, 15), (40, 4), (120, 40)):
        terminal.resize(*size)
        if size[1] > 5:  # drawn anew, down to the footer
            terminal.until(lambda s: "1 Catalog" in s.rstrip().splitlines()[-1] and "▸ " in s)
            terminal.until("▸ +padded")
        else:
            terminal.until(lambda s: len(s.strip().splitlines()) <= 1)
