"""What a process and its children use of the processor."""

from __future__ import annotations

import contextlib
import time

import psutil

LOOK_S = 1.0
QUIET = 0.05
"""Of a core: a process that uses less is done with what it does once when it starts."""


def settle(process: psutil.Process) -> None:
    """Wait until a server does nothing of its own any more: a core looks for its engines first."""
    used = used_s(process)
    while True:
        time.sleep(LOOK_S)
        before, used = used, used_s(process)
        if used - before < LOOK_S * QUIET:
            return


def used_s(process: psutil.Process) -> float:
    """Seconds of processor time, with the children that live."""
    used = 0.0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            used += sum(each.cpu_times()[:2])
    return used
