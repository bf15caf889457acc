"""Load watchdog: ends the wait for a load that makes no progress or is stuck.

A slow disk can keep a load silent for long, so the time limit without progress is generous. But a
process whose threads all sleep, none of them waiting for a disk, and that uses no processor, is
deadlocked: mlx was seen to lose a task when it could not start a thread for lack of memory. That is
detected early, from /proc on Linux.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from modeldeck.core.errors import EngineFailed
from modeldeck.core.runtime.process.engine_process import EngineProcess
from modeldeck.core.runtime.process.messages import AnyReport

STUCK_S = 20.0
"""Seconds without any activity after which a process counts as stuck."""
LOOK_S = 1.0
"""Seconds between two checks of a silent process."""

_REMEDY = "Check the disk and the free memory, or raise runtime.load_stall_s."


def idle_ticks(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Processor time that a process has used, in ticks, if all its threads sleep (proc(5)).

    None while a thread runs, waits for a disk or is stopped, and without /proc.
    """
    ticks = 0
    try:
        for task in (proc / str(pid) / "task").iterdir():
            state, *rest = (task / "stat").read_text().rpartition(")")[2].split()
            if state != "S":
                return None
            ticks += int(rest[10]) + int(rest[11])  # utime and stime, fields 14 and 15
    except (OSError, ValueError, IndexError):
        return None
    return ticks


async def next_report(process: EngineProcess, stall_s: float) -> AnyReport:
    """Wait for the next report of a process that loads a model.

    Raises EngineFailed when the process ended, when it made no progress for `stall_s` seconds (0:
    no limit), and when it is stuck.
    """
    started = quiet_since = time.monotonic()
    before: int | None = None
    report = asyncio.ensure_future(process.receive())
    try:
        while True:
            left = stall_s - (time.monotonic() - started) if stall_s else LOOK_S
            done, _ = await asyncio.wait({report}, timeout=max(0.0, min(LOOK_S, left)))
            if done:
                return report.result()
            now, ticks = time.monotonic(), idle_ticks(process.pid)
            if ticks is None or ticks != before:
                quiet_since, before = now, ticks
            silent_s = now - started
            if stall_s and silent_s >= stall_s:
                raise EngineFailed(
                    f"The load made no progress for {stall_s:g} s.",
                    _REMEDY,
                    details=process.last_lines,
                )
            if now - quiet_since >= STUCK_S:
                raise EngineFailed(
                    f"The engine is stuck: it has done nothing for {now - quiet_since:.0f} s.",
                    "It may be out of memory: try a smaller context length or quantization, or"
                    " unload another model.",
                    details=process.last_lines,
                )
    finally:
        report.cancel()
        await asyncio.wait({report})
