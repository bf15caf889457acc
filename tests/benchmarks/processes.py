"""What a process and its children use of the processor."""

from __future__ import annotations

import contextlib
import sys
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
        with contextlib.suppress(psutil.NoSuchProcess, OSError):
            used += cpu_s(each.pid)
    return used


def cpu_s(pid: int) -> float:
    """Processor seconds of a process so far: to the nanosecond on Linux, else to the clock's tick.

    Linux has a clock for each process, with the time of threads that have ended
    (clock_getcpuclockid(3); its number is made as the kernel's `posix-timers_types.h` does).
    """
    if sys.platform == "linux":
        return time.clock_gettime(~pid << 3 | 2)
    return float(sum(psutil.Process(pid).cpu_times()[:2]))
