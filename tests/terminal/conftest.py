"""A real tmux with a real shell in it: keys go in by `send-keys`, and the screen is read back.

The tmux server is this test's own: another socket, no configuration, and no client attached, as
after a detach. The tests wait for what they expect on the screen, and never sleep.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from modeldeck.core.client import daemon
from modeldeck.core.config.paths import locate
from modeldeck.core.demo.hub import DemoHub

PATIENCE_S = 60.0
"""How long something may take to show on the screen before the test fails."""
PATIENT = """
import sys
from modeldeck.tui.dashboard import terminal_driver
from modeldeck.tui.program import main
terminal_driver.END_S = 600.0
sys.exit(main())
"""
"""The program, with time to end of itself once its terminal is gone: after less it would be ended
whatever it does, and a test could not tell one end from the other on a slow machine."""
PROMPT = "ready$ "
"""Of the shell: when it stands alone on the last line, the command before it is over."""


class Terminal:
    """One pane of a tmux server of its own, with a shell in it."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "tmux"
        self._tmux = [shutil.which("tmux") or "tmux", "-S", str(self._socket), "-f", "/dev/null"]

    def open(self, width: int, height: int, **environ: str) -> None:
        """Start the server, and in its pane a shell with these variables."""
        programs = sysconfig.get_path("scripts")
        inside = {
            **{k: v for k, v in os.environ.items() if k not in ("TMUX", "NO_COLOR", "COLORTERM")},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
            **environ,
        }
        term = environ.get("TERM", "tmux-256color")
        size = ("-x", str(width), "-y", str(height))
        # From 3.6 on tmux tells every pane that it shows all colours; tests say so themselves.
        colours = "" if "COLORTERM" in environ else "unset COLORTERM; "
        shell = f"{colours}PS1='{PROMPT}' exec bash --norc --noprofile"
        subprocess.run(
            [*self._tmux, "set", "-s", "escape-time", "0", ";", "set", "-s", "set-clipboard", "on",
             ";", "set", "-g", "default-terminal", term, ";", "new-session", "-d", *size, shell],
            env=inside, check=True, cwd="/",
        )  # fmt: skip
        self.until(re.escape(PROMPT.strip()))

    def close(self) -> None:
        """End the server with all that runs in it, as when a machine's tmux is killed."""
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False)

    def _run(self, *words: str) -> str:
        done = subprocess.run([*self._tmux, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def type(self, text: str) -> None:
        """Type a text."""
        self._run("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names: `Enter`, `Escape`, `C-c`, `q`."""
        self._run("send-keys", *keys)

    def command(self, words: str) -> None:
        """Clear the screen and run a command in the shell."""
        self.type(f"clear; {words}")
        self.press("Enter")

    def screen(self) -> str:
        """What is shown now."""
        return self._run("capture-pane", "-p")

    def styled(self) -> str:
        """What is shown now, with the sequences that style it."""
        return self._run("capture-pane", "-p", "-e")

    def resize(self, width: int, height: int) -> None:
        """Change the size of the pane, as a person's terminal does."""
        self._run("resize-window", "-x", str(width), "-y", str(height))

    def until(self, wanted: str | Callable[[str], object]) -> str:
        """The screen once it shows what is wanted: a regular expression, or whatever is true."""
        found = re.compile(wanted, re.MULTILINE).search if isinstance(wanted, str) else wanted
        deadline = time.monotonic() + PATIENCE_S
        while not found(screen := self.screen()):
            assert time.monotonic() < deadline, f"{wanted} never came:\n{screen}"
            time.sleep(0.05)
        return screen

    def over(self) -> str:
        """The screen once the shell has the terminal again; what was said after leaving."""
        return self.until(lambda s: "left with" in s and s.rstrip().endswith(PROMPT.strip()))

    def clipboard(self) -> str:
        """What a program put there last, with the sequence for it (OSC 52)."""
        return self._run("show-buffer")

    @property
    def pane_pid(self) -> int:
        """The shell's process."""
        return int(self._run("display-message", "-p", "#{pane_pid}"))

    @property
    def socket(self) -> Path:
        """Of the tmux server."""
        return self._socket


def is_answered(screen: str, answer: str) -> bool:
    """Whether Chat shows this answer, and it has ended: until then `esc` stops it."""
    words = " ".join(screen.split())
    return answer in words and "esc stops" not in words


@pytest.fixture
def terminal(home: Path) -> Iterator[Terminal]:
    """A tmux server that is started by `open`, and ended with all that runs in it."""
    if shutil.which("tmux") is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("tmux is not installed")
    terminal = Terminal(home.parent)
    yield terminal
    terminal.close()


@pytest.fixture
def own(home: Path, hub: DemoHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folders of a person, whose core knows the demo hub; a core that is left there is ended."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("MODELDECK_API_PORT", "0")
    monkeypatch.setenv("MODELDECK_DOWNLOADS_DISK_FLOOR_BYTES", "0")
    yield home
    asyncio.run(daemon.stop(locate()))


@pytest.fixture
def core_pid() -> Callable[[], int]:
    """Asks for the process of the core that runs for these folders."""

    def pid() -> int:
        ready = daemon.read_ready(locate())
        assert ready is not None
        return ready.pid

    return pid


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Asks whether a process has ended, or ends soon."""

    def ended(pid: int) -> bool:
        alive = [psutil.Process(pid)] if psutil.pid_exists(pid) else []
        return not psutil.wait_procs(alive, timeout=PATIENCE_S)[1]

    return ended
