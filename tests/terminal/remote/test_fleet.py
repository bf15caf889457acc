"""Machines of the configuration in Fleet: a real tmux here, and a real sshd for each of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from modeldeck.core.config.paths import locate

if TYPE_CHECKING:
    from tests.terminal.remote.conftest import Machines

TINY = "deck/tiny-GGUF:Q8_0"
WORDS = "open sesame"


def name_hosts(*lines: str) -> None:
    """Write the machines into the configuration."""
    path = locate().config_file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("[hosts]", *lines, "")))


def test_a_dead_machine_costs_nothing_before_fleet_and_is_told_there(
    machines: Machines, terminal: Any
) -> None:
    (nas,) = machines("nas")
    nas.line.cut()
    name_hosts('nas = "nas"')
    terminal.open(120, 40)
    terminal.command("modeldeck; echo left with $?")
    terminal.until(r"BGE Small[\s\S]*1 Catalog .*6 Fleet .*d download")
    assert nas.calls == [], "no ssh runs before Fleet is opened"
    terminal.press("6")
    terminal.until(
        lambda s: "2 machines" in s and re.search(r"✗ nas +unreachable[\s\S]*r tries again", s)
    )
    assert nas.calls
    terminal.press("f")
    terminal.until("Which machine would serve")
    terminal.type(TINY)
    terminal.press("Enter")
    terminal.until(r"● .* this one +1st downloads[\s\S]*✗ nas +unreachable +—")
    nas.line.mend()
    terminal.press("j", "r")
    terminal.until(r"● nas +ssh.* 2nd downloads")
    nas.line.cut()
    terminal.until(r"✗ nas +unreachable[\s\S]*last state was seen at \d\d:\d\d")
    terminal.press("1")
    terminal.until("BGE Small")
    terminal.press("q")
    assert "left with 0" in terminal.over()


def test_a_machine_that_needs_a_password_is_asked_for_by_a_key(
    machines: Machines, terminal: Any
) -> None:
    (vault,) = machines("vault", cores=True)
    vault.lock(WORDS)
    name_hosts('vault = "vault"')
    terminal.open(80, 24)
    terminal.command("modeldeck; echo left with $?")
    terminal.until("BGE Small")
    terminal.press("6")
    screen = terminal.until(r"\? vault +password[\s\S]*r lets ssh ask")
    assert "Enter passphrase" not in screen
    terminal.press("j")
    terminal.until("r again")
    terminal.press("r")
    terminal.until(r"Reaching vault\.\s+Enter passphrase for key")
    terminal.type(WORDS)
    terminal.press("Enter")
    terminal.until(r"● vault +ssh")
    terminal.press("Enter")
    terminal.until(r"vault \(ssh[\s\S]*BGE Small")
    terminal.press("q")
    assert "left with 0" in terminal.over()


def test_the_machine_that_is_named_has_the_others_beside_it(
    machines: Machines, terminal: Any
) -> None:
    first, second = machines("gpu1", "gpu2", cores=True)
    name_hosts('gpu1 = "gpu1"', 'gpu2 = { ssh = "gpu2", prefer = 1 }', 'bad = "-oProxyCommand=x"')
    terminal.open(60, 15)
    terminal.command("modeldeck @gpu1; echo left with $?")
    terminal.until("hosts.bad: .* is no destination of ssh")
    assert first.calls
    assert second.calls == []
    terminal.press("6")
    terminal.until(r"● gpu1[\s\S]*this one[\s\S]*● gpu2 .* ssh")
    terminal.press("f")
    terminal.until("Which machine would serve")
    terminal.type(TINY)
    terminal.press("Enter")
    terminal.until(r"gpu1 +2nd downloads[\s\S]*3rd downloads +this one[\s\S]*gpu2 +1st downloads")
    terminal.press("q")
    assert "left with 0" in terminal.over()
