"""Signals whose effect a test relies on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil

PATIENCE_S = 60.0
STILL = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)


def suspend(pid: int) -> None:
    """Suspend a process (SIGSTOP), and return once all its threads stand still.

    `os.kill` returns before that: what is sent or asked next could still reach a process that runs.
    A process that has ended meanwhile is left at that.
    """
    try:
        os.kill(pid, signal.SIGSTOP)
        late = time.monotonic() + PATIENCE_S
        while not stands_still(pid):
            assert time.monotonic() < late, f"process {pid} does not stand still"
            time.sleep(0.001)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return


def stands_still(pid: int) -> bool:
    """Whether all threads of a process are stopped; where there is no /proc, its first one."""
    process = psutil.Process(pid)
    if not (tasks := Path(f"/proc/{pid}/task")).exists():
        return process.status() in STILL
    for task in tasks.iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            # `stat` is "id (name) state …", and a name may hold anything (proc(5)).
            if (task / "stat").read_text().rpartition(")")[2].split()[0] not in "TZX":
                return False
    return True
