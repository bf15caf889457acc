"""How long the dashboard takes to its first paint, beside an empty Textual app.

    python -m tests.benchmarks.first_paint [rounds]

Both run on a pty of 120x40 in turn; what counts is the time from the start of the process to the
last word of the first frame, and what the processor did meanwhile, which other programs disturb
less. The core is started beside the dashboard: that is not waited for, and not counted.
Absolute figures belong to the machine; the ratios are what to look at. The dashboard may take 1.4
times as long as the empty app: beyond it the program ends with code 1.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import termios
import time

EMPTY = """
from textual.app import App
from textual.widgets import Static

class Empty(App):
    def compose(self):
        yield Static("an empty app")

Empty().run()
"""

BUDGET = 1.4
"""How many times as long as the empty app the dashboard may take."""
PATIENCE_S = 20.0
"""For the next bytes."""

DASHBOARD = """
from modeldeck.tui import program
program.collect_seldom()
from modeldeck.tui.dashboard import launch
launch.open_on()
"""

APPS = {"empty": (EMPTY, b"an empty app"), "dashboard": (DASHBOARD, b"Log")}
"""Program, and a word of its first frame."""


def first_paint(program: str, word: bytes, environ: dict[str, str]) -> tuple[float, float]:
    """Seconds until the word is on the screen, and of the processor, of a process ended then."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 120))
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", program], stdin=theirs, stdout=theirs, stderr=theirs,
        env=environ, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while word not in shown:
        if not select.select([ours], [], [], PATIENCE_S)[0]:
            process.kill()
            raise SystemExit(f"{word!r} did not come within {PATIENCE_S} s")
        shown += os.read(ours, 65536)
    seconds = time.perf_counter() - started
    process.send_signal(signal.SIGKILL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    os.close(ours)
    return seconds, used.ru_utime + used.ru_stime


def main() -> None:
    """Print the medians and their ratio."""
    rounds = int(sys.argv[1]) if sys.argv[1:] else 9
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in APPS}
    with tempfile.TemporaryDirectory(prefix="md-") as folder:
        environ = {
            **os.environ,
            "MODELDECK_HOME": folder,
            "MODELDECK_API_PORT": "0",
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
        }
        for _ in range(rounds + 1):
            for name, (program, word) in APPS.items():
                taken[name].append(first_paint(program, word, environ))
        subprocess.run(
            [sys.executable, "-m", "modeldeck.tui.cli.main", "stop"], env=environ, check=False
        )
    print(f"{'':<10} {'wall':>7} {'CPU':>8}   medians of {rounds}")
    medians = {name: _medians(figures[1:]) for name, figures in taken.items()}
    for name, (wall, cpu) in medians.items():
        print(f"{name:<10} {wall:.3f} s  {cpu:.3f} s")
    ratios = [ours / theirs for ours, theirs in zip(*reversed(medians.values()), strict=True)]
    print(f"{'ratio':<10} {ratios[0]:.2f}     {ratios[1]:.2f}")
    if ratios[0] > BUDGET:
        raise SystemExit(f"over budget: {ratios[0]:.2f} times an empty app, not {BUDGET}")


def _medians(figures: list[tuple[float, float]]) -> tuple[float, ...]:
    return tuple(statistics.median(column) for column in zip(*figures, strict=True))


if __name__ == "__main__":
    main()
