"""How long to wait for an engine that loads: as long as there is progress, or a hope of it.

A slow disk can keep a load silent for long, so the limit of silence is generous. But a process
whose threads all sleep, none of them for a disk, and that uses no processor, waits for itself: mlx
was seen to lose a task when a thread could not be made for want of memory. That is told early.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from modeldeck.core.errors import EngineFailed
from modeldeck.core.runtime.process.engine_process import EngineProcess
from modeldeck.core.runtime.process.messages import AnyReport

STUCK_S = 20.0
"""A process that does nothing at all for so long will not do anything any more."""
LOOK_S = 1.0
"""Between two looks at what a silent process does."""

_REMEDY = "Check the disk and the free memory, or raise runtime.load_stall_s."


def pulse(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Processor time that a process has used, in ticks, while all its threads sleep (proc(5)).

    None while one runs, waits for a disk or is stopped by a person, and where that is not told.
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
    """The next report of a process that loads.

    Raises EngineFailed when it ended, when it made no progress for `stall_s` (0 is for ever), and
    when it is stuck.
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
            now, beat = time.monotonic(), pulse(process.pid)
            if beat is None or beat != before:
                quiet_since, before = now, beat
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
                    "It may have got no memory: take a smaller context length or quantization, or"
                    " unload another model.",
                    details=process.last_lines,
                )
    finally:
        report.cancel()
        await asyncio.wait({report})
