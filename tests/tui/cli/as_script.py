"""Commands as a script or a terminal runs them, and what each of them did."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sysconfig
import termios
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TINY = "deck/tiny-GGUF:Q8_0"


THINKER = "deck/tiny-think-GGUF:F16"


PADDED = "deck/padded-GGUF:F16"


PROGRAM = str(Path(sysconfig.get_path("scripts")) / "modeldeck")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output."""
        (line,) = self.out.splitlines()
        return json.loads(line)


Command = Callable[..., Run]


def on_terminal(*words: str, given: str = "") -> tuple[int, str]:
    """Run `modeldeck` on a terminal of 80 columns: its exit code, and all that was shown."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    environ = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    os.write(ours, given.encode())
    with subprocess.Popen(
        [PROGRAM, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=environ
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # Linux says so when the last one has closed the other side
            pass
    os.close(ours)
    return process.returncode, shown.decode()


def interrupted_pull(name: str) -> str:
    """Press ctrl-C once `modeldeck pull` has begun with a model: what it says on the way out."""
    with subprocess.Popen(
        [PROGRAM, "pull", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as pull:
        assert pull.stdout is not None
        assert name in pull.stdout.readline()
        pull.send_signal(signal.SIGINT)
        _, err = pull.communicate()
    assert pull.returncode == 130
    return err
