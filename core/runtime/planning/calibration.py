"""Measures the memory that an engine process takes besides its model, on this machine.

Two models of a few kilobytes, with a small and a large vocabulary, are loaded one after the other,
each in its own process, and read a prompt that fills the context. The peak of each process, less
the bytes that the engine counts for the model, gives a constant and a slope per vocabulary token.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from modeldeck.core.errors import EngineFailed
from modeldeck.core.runtime.planning.calibration_models import (
    BASE_TOKENS,
    CONTEXT,
    write_gguf,
    write_mlx,
)
from modeldeck.core.runtime.process.engine_process import EngineProcess
from modeldeck.core.runtime.process.messages import (
    AnswerDone,
    CommandFailed,
    GenerateText,
    LoadModel,
    ModelLoaded,
)
from modeldeck.core.schema import Engine, Forecast, GenerateRequest, LoadOptions, ProcessMemory
from modeldeck.core.schema.errors import from_info
from modeldeck.core.schema.overhead import SHIPPED, ProcessOverhead

EXTRA_TOKENS = 60_000
"""Tokens that the large vocabulary has more: enough to measure, read in a second."""
STALL_S = 60.0
"""Seconds to wait for each report of the process; generous, since the machine may be busy."""
NICE = 19
"""Lowest priority (nice(1)): no request waits for these processes."""

Plan = Callable[[Path, LoadOptions], Awaitable[Forecast]]
Measure = Callable[[int], ProcessMemory | None]


async def calibrate(engine: Engine, plan: Plan, measure: Measure) -> ProcessOverhead:
    """Measure an engine. Takes some seconds of one processor.

    Args:
        engine: An installed engine.
        plan: Returns llama.cpp's forecast for a file.
        measure: Returns the memory of a process; called in a thread.

    Raises EngineFailed when the engine does not load or answer, and OSError when the models cannot
    be written.
    """
    folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="modeldeck-calibration-")
    try:
        found: list[tuple[int, int]] = []
        for extra in (0, EXTRA_TOKENS):
            path = Path(folder.name) / f"{extra}.gguf"
            write = write_gguf if engine == "llama.cpp" else write_mlx
            await asyncio.to_thread(write, path, extra)
            taken = await _measure_peak(engine, path, plan, measure)
            found.append((BASE_TOKENS + extra, taken))
    finally:
        await asyncio.to_thread(folder.cleanup)
    return overhead(engine, *found)


def overhead(engine: Engine, small: tuple[int, int], large: tuple[int, int]) -> ProcessOverhead:
    """Return the overhead from two measurements, each of vocabulary tokens and bytes. Pure.

    An implausible slope, as on a machine that was busy meanwhile, is replaced by the shipped one.

    >>> overhead("llama.cpp", (100, 50_000_100), (1100, 50_001_100))
    ProcessOverhead(base_bytes=50000000, per_token_bytes=1.0, measured=True)
    """
    slope = (large[1] - small[1]) / (large[0] - small[0])
    shipped = SHIPPED[engine].per_token_bytes
    if not 0 < slope < 4 * shipped:
        slope = shipped
    base = max(0, small[1] - round(slope * small[0]))
    return ProcessOverhead(base_bytes=base, per_token_bytes=slope, measured=True)


async def _measure_peak(engine: Engine, path: Path, plan: Plan, measure: Measure) -> int:
    """Return a process's peak in bytes, less the engine's own count for the model."""
    options = LoadOptions(context_length=CONTEXT)
    lines: list[str] = []
    process = await EngineProcess.start(engine, lambda _level, text: lines.append(text))
    try:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        process.send(LoadModel(id=1, path=str(path), options=options, default_context=CONTEXT))
        await _wait_for(process, ModelLoaded)
        # At most two characters a token, and 16 tokens left for the answer.
        prompt = "ab" * (CONTEXT // 2 - 16)
        request = GenerateRequest(prompt=prompt, max_tokens=8, temperature=0)
        process.send(GenerateText(id=2, request=request))
        done = await _wait_for(process, AnswerDone)
        memory = await asyncio.to_thread(measure, process.pid)
    finally:
        await process.end()
    if memory is None:
        raise EngineFailed(f"What {engine} takes cannot be measured here.")
    peak = memory.peak_bytes or memory.rss_bytes
    if engine == "mlx":
        assert isinstance(done, AnswerDone)
        return peak - (done.engine_peak_bytes or 0)
    forecast = await plan(path, options)
    if forecast.machine_bytes is None:
        raise EngineFailed(
            f"What {engine} takes beside a GPU is not known: {forecast.gpu_unknown}."
        )
    return peak - (forecast.machine_bytes - forecast.overhead_bytes)


async def _wait_for(
    process: EngineProcess, kind: type[ModelLoaded] | type[AnswerDone]
) -> ModelLoaded | AnswerDone:
    """Wait for a report of this kind; earlier ones are dropped."""
    while True:
        try:
            async with asyncio.timeout(STALL_S):
                report = await process.receive()
        except TimeoutError:
            raise EngineFailed(f"The engine did not respond for {STALL_S:g} s.") from None
        if isinstance(report, CommandFailed):
            raise from_info(report.error)
        if isinstance(report, kind):
            return report
