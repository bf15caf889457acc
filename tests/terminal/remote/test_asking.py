"""What `ssh` has to ask: before the dashboard stands, and never into it."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

import pexpect  # type: ignore[import-untyped] # it has no types
import psutil

from tests.support.pseudoterminal import hang_up
from tests.terminal.conftest import PATIENCE_S, PATIENT

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
    wanted = ("gpu1 does not let us in without a question", "to be asked", "1 Catalog")
    screen = terminal.until(lambda screen: all(words in screen for words in wanted))
    assert not re.search("Enter passphrase", screen)
    terminal.press("C-r")
    terminal.until(r"Reaching gpu1\.\s+Enter passphrase for key")
    terminal.press("C-c")
    terminal.until("gpu1 does not let us in without a question")
    terminal.press("C-r")
    screen = terminal.until(r"(Reaching gpu1\.\s+Enter passphrase[^\n]*\s+){2}")
    assert "1 Catalog" not in screen
    answer(terminal, WORDS)
    wanted = ("The core answers again", "BGE Small", "1 Catalog")
    screen = terminal.until(lambda screen: all(words in screen for words in wanted))
    assert "passphrase" not in screen
    terminal.press("3")
    terminal.until("No model is loaded")
    terminal.press("q")
    assert "left with 0" in terminal.over()


def on_a_terminal() -> pexpect.spawn:
    environ = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    words = ["-c", PATIENT, "@gpu1"]
    return pexpect.spawn(
        sys.executable, words, env=environ, dimensions=(40, 120), encoding="utf-8", timeout=60
    )


def ends(child: pexpect.spawn) -> bool:
    """Close the terminal: whether the program ends then, and each `ssh` that it started."""
    process = psutil.Process(child.pid)
    all_of_it = [process, *process.children(recursive=True)]
    assert len(all_of_it) > 1, "ssh runs"
    hang_up(child)
    alive = psutil.wait_procs(all_of_it, timeout=PATIENCE_S)[1]
    for left in alive:
        left.kill()
    return not alive


def test_a_terminal_that_goes_while_ssh_asks_ends_both(machines: Machines) -> None:
    (gpu,) = machines("gpu1", cores=True)
    gpu.lock(WORDS)
    child = on_a_terminal()
    child.expect("Enter passphrase for key")
    assert ends(child)


def test_a_terminal_that_goes_while_it_is_lent_to_ssh_ends_both(machines: Machines) -> None:
    (gpu,) = machines("gpu1", cores=True)
    gpu.lock(WORDS)
    child = on_a_terminal()
    child.expect("Enter passphrase for key")
    child.sendline(WORDS)
    child.expect(r"gpu1 \(ssh")
    gpu.end_sessions()
    child.expect("without a question")
    child.sendcontrol("r")
    child.expect("Enter passphrase for key")
    assert ends(child)
