"""The first minute in the demo, and keys that arrive together, in a real tmux."""

from __future__ import annotations

import re
from typing import Any

from modeldeck.core.demo.vocabulary import expected
from tests.terminal.conftest import is_answered


def rows(screen: str) -> list[str]:
    """The rows of the list, without the line above and the head."""
    return screen.splitlines()[3:-2]


def first_screen(screen: str) -> bool:
    """Whether it is the demo's Catalog with its own models first, complete."""
    return (
        "built in: not on this demo's hub" in screen
        and " demo " in screen.splitlines()[0]
        and re.match(r"▸ +tiny +2M +Q8_0", rows(screen)[0]) is not None
    )


def test_a_fresh_demo_begins_with_its_own_models(terminal: Any) -> None:
    terminal.open(120, 40)
    terminal.command("modeldeck demo; echo left with $?")
    seen = [terminal.until(first_screen)]
    # Built-in models are listed, and are not downloaded here.
    terminal.press("G", "d")
    seen.append(terminal.until(r"Not on the demo's hub. Leave the demo to download it."))
    terminal.press("g", "d")
    seen.append(terminal.until(r"▸ ✓ tiny"))
    terminal.press("l")
    seen.append(terminal.until(r"● 1 loaded"))
    terminal.press("t")
    terminal.until(r"Ask something")
    terminal.type("count")
    terminal.press("Enter")
    seen.append(terminal.until(lambda s: is_answered(s, expected("count"))))
    assert not [screen for screen in seen if "✗" in screen]
    terminal.press("Escape")
    terminal.until("i write")
    terminal.press("q")
    assert "left with 0" in terminal.over()


def test_keys_that_arrive_together_open_the_go_to_line(terminal: Any) -> None:
    terminal.open(120, 40)
    terminal.command("modeldeck demo --readonly; echo left with $?")
    terminal.until(r"read-only")
    for second in ("PageDown", "PageUp") * 10:
        terminal.press("C-p", second)
    terminal.until(r"Go to .* enter does it")
    terminal.press("Escape")
    terminal.until(r"1 Catalog")
    terminal.press("3", ":", "c", "a", "t", "Enter", "-")
    terminal.until(r"u unload .*\? help$")
    terminal.press("1")
    terminal.until(r"▸ +tiny")
    terminal.press("d")
    terminal.until(r"Read-only: this dashboard was started with --readonly.")
    terminal.press("q")
    assert "left with 0" in terminal.over()
