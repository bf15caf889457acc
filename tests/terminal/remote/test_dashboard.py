"""The dashboard of other machines: it runs here, in a real tmux, and the cores there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.terminal.conftest import PATIENCE_S

if TYPE_CHECKING:
    from tests.terminal.remote.conftest import Machines

TINY = "deck/tiny-GGUF:Q8_0"
SLOW_BYTES_PER_S = 8000.0
"""64 kbit/s."""
DELAY_S = 0.15
"""One way: a round trip of 300 ms."""
FIRST_BYTES = 120_000
"""What attaching may cost: 15 s of a slow line."""


def test_a_line_that_is_cut_is_made_again(machines: Machines, terminal: Any) -> None:
    (gpu,) = machines("gpu1")
    terminal.open(120, 40)
    terminal.command("modeldeck @gpu1; echo left with $?")
    terminal.until(r"gpu1 \(ssh.*0 loaded")
    terminal.until("BGE Small")
    gpu.line.cut()
    screen = terminal.until("reconnecting, [0-9]+ s")
    assert "BGE Small" in screen, "the last state stays"
    gpu.line.mend()
    terminal.until("The core answers again")
    terminal.press("q")
    assert "left with 0" in terminal.over()
    assert not gpu.core_runs, "it was started from here, and had nothing to do"


def test_a_session_that_dies_there_is_made_again(machines: Machines, terminal: Any) -> None:
    (gpu,) = machines("gpu1", cores=True)
    terminal.open(80, 24)
    terminal.command("modeldeck @gpu1; echo left with $?")
    terminal.until(r"gpu1 \(ssh")
    gpu.end_sessions()
    terminal.until("reconnecting|answers again")
    terminal.until("The core answers again")
    terminal.press("q")
    terminal.over()
    assert gpu.core_runs, "it was there before"
    psutil.wait_procs(gpu.sessions, timeout=PATIENCE_S)
    assert not gpu.sessions, "no session is left open"


def test_a_machine_that_cannot_be_reached_is_no_dashboard(
    machines: Machines, terminal: Any
) -> None:
    (gpu,) = machines("gpu1")
    gpu.line.cut()
    terminal.open(120, 40)
    terminal.command("modeldeck @gpu1; echo left with $?")
    assert re.search(r"modeldeck: gpu1 cannot be reached[\s\S]*left with 7", terminal.over())


def test_what_ssh_asks_it_asks_before_the_dashboard_stands(
    machines: Machines, terminal: Any
) -> None:
    (gpu,) = machines("gpu1", cores=True)
    gpu.unknown()
    terminal.open(120, 40)
    terminal.command("modeldeck @gpu1; echo left with $?")
    screen = terminal.until("Are you sure you want to continue connecting")
    assert "1 Catalog" not in screen
    terminal.type("yes")
    terminal.press("Enter")
    terminal.until(r"gpu1 \(ssh")
    terminal.press("q")
    assert "left with 0" in terminal.over()


def test_three_machines_on_one_screen(machines: Machines, terminal: Any) -> None:
    first, second, _ = machines("gpu1", "gpu2", "gpu3", cores=True)
    first.fetch(TINY)
    first.restart("LogLevel DEBUG1\n")
    terminal.open(120, 40)
    terminal.command("modeldeck @gpu1 @gpu2 @gpu3; echo left with $?")
    terminal.until(r"● gpu1 +ssh[\s\S]*● gpu2 +ssh[\s\S]*● gpu3 +ssh")
    terminal.press("f")
    terminal.until("Which machine would serve")
    terminal.type(TINY)
    terminal.press("Enter")
    terminal.until(r"gpu1 .*1st fits [\s\S]*gpu2 .*2nd downloads[\s\S]*gpu3 .*3rd downloads")
    terminal.press("j", "c")
    terminal.until(f"Copy {TINY} from gpu1 to gpu2: 1.9 MB through this machine")
    terminal.press("y")
    terminal.until(f"{TINY} copied from gpu1 to gpu2: .* 1 file verified")
    agreed = re.findall(r"kex: server->client cipher: .* compression: (\S+)", first.log)
    assert agreed == ["zlib@openssh.com", "none"], "weights have a line of their own"
    (there,) = [call for call in second.calls if " -O forward -R " in call]
    (carrier,) = re.findall(r"ControlPath=(\S+)", there)
    (made,) = [c for c in second.calls if "ControlMaster=yes" in c and carrier in c]
    assert "Compression=no" in made
    for folder in re.findall(r"\S+:(/\S+)/core", there):
        (made,) = [c for c in first.calls if "ControlMaster=yes" in c and folder in c]
        assert "Compression=no" in made
    terminal.press("Enter")
    terminal.until(r"^ modeldeck +gpu2 \(ssh[\s\S]*BGE Small")
    terminal.press("C-o")
    terminal.until(r"^ modeldeck +gpu3 \(ssh[\s\S]*BGE Small")
    second.line.cut()
    terminal.press("6")
    terminal.until(r"gpu1 +ssh[\s\S]*gpu2 +unreachable[\s\S]*gpu3 +ssh")
    second.line.mend()
    terminal.until("gpu2 +ssh")
    terminal.press("q")
    assert "left with 0" in terminal.over()


def test_a_slow_line_stays_usable(machines: Machines, terminal: Any, home: Path) -> None:
    """300 ms there and back, and 64 kbit/s."""
    (gpu,) = machines("gpu1", cores=True)
    gpu.line.delay_s, gpu.line.rate_bytes_per_s = DELAY_S, SLOW_BYTES_PER_S
    terminal.open(120, 40)
    terminal.command("modeldeck @gpu1; echo left with $?")
    terminal.until(r"gpu1 \(ssh [3-9]\d\d ms\)|gpu1 \(ssh \d{4,} ms\)")
    terminal.until("BGE Small")
    assert gpu.line.carried_bytes < FIRST_BYTES
    terminal.press("/")
    terminal.type("tiny")
    terminal.until("tiny_?")
    terminal.press("Enter")
    terminal.until("deck/tiny-GGUF")
    terminal.press("q")
    assert "left with 0" in terminal.over()
