"""What `ssh` has to ask: before the dashboard stands, and never into it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.terminal.remote.conftest import Machines

WORDS = "open sesame"


def answer(terminal: Any, words: str) -> None:
    terminal.type(words)
    terminal.press("Enter")


def test_a_passphrase_is_asked_for_before_the_dashboard_and_never_over_it(
    machines: Machines, terminal: Any
) -> None:
    (gpu,) = machines("gpu1", cores=True)
    gpu.lock(WORDS)
    terminal.open(120, 40)
    terminal.command("modeldeck @gpu1; echo left with $?")
    screen = terminal.until("Enter passphrase for key")
    assert "1 Catalog" not in screen
    answer(terminal, "wrong")
    terminal.until(lambda screen: screen.count("Enter passphrase") == 2)
    answer(terminal, WORDS)
    terminal.until(r"gpu1 \(ssh")
    gpu.line.cut()
    terminal.until("reconnecting")
    gpu.line.mend()
    screen = terminal.until("gpu1 does not let us in without a question")
    assert "to be asked" in screen
    assert "1 Catalog" in screen
    assert not re.search("Enter passphrase", screen)
    terminal.press("C-r")
    terminal.until(r"Reaching gpu1\.\s+Enter passphrase for key")
    terminal.press("C-c")
    terminal.until("gpu1 does not let us in without a question")
    terminal.press("C-r")
    screen = terminal.until(r"(Reaching gpu1\.\s+Enter passphrase[^\n]*\s+){2}")
    assert "1 Catalog" not in screen
    answer(terminal, WORDS)
    screen = terminal.until("The core answers again")
    assert "BGE Small" in screen
    assert "1 Catalog" in screen
    assert "passphrase" not in screen
    terminal.press("3")
    terminal.until("No model is loaded")
    terminal.press("q")
    assert "left with 0" in terminal.over()
