"""What an engine's process takes besides its model, measured on this machine.

Two models of a few kilobytes, with a small and a large vocabulary, are loaded one after the other
in processes of their own and made to read a prompt that fills the context. What each took at most,
less what the engine counts as the model's, is what the process takes: so much, and so much for each
token.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from modeldeck.core.errors import EngineFailed
from modeldeck.core.runtime.planning import tiny_models
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
"""Of the large vocabulary: enough to be seen, few enough to be read in a second."""
STALL_S = 60.0
"""A process that says nothing for so long is given up; a machine at work is slow."""
NICE = 19
"""Priority of the processes: nobody waits for them (nice(1))."""

Plan = Callable[[Path, LoadOptions], Awaitable[Forecast]]
Measure = Callable[[int], ProcessMemory | None]


async def calibrate(engine: Engine, plan: Plan, measure: Measure) -> ProcessOverhead:
    """Measure an engine. Takes some seconds of one processor.

    Args:
        engine: Which; it is installed.
        plan: What llama.cpp plans for a file.
        measure: Memory of a process; called in a thread.

    Raises EngineFailed where it does not load or answer, and OSError where nothing can be written.
    """
    folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="modeldeck-calibration-")
    try:
        found: list[tuple[int, int]] = []
        for extra in (0, EXTRA_TOKENS):
            path = Path(folder.name) / f"{extra}.gguf"
            write = tiny_models.write_gguf if engine == "llama.cpp" else tiny_models.write_mlx
            await asyncio.to_thread(write, path, extra)
            took = await _take(engine, path, plan, measure)
            found.append((tiny_models.BASE_TOKENS + extra, took))
    finally:
        await asyncio.to_thread(folder.cleanup)
    return overhead(engine, *found)


def overhead(engine: Engine, small: tuple[int, int], large: tuple[int, int]) -> ProcessOverhead:
    """The overhead that two measurements tell, each of tokens and bytes. Pure.

    A slope that makes no sense, on a machine that did something else meanwhile, is not taken.

    >>> overhead("llama.cpp", (100, 50_000_100), (1100, 50_001_100))
    Overhead(base_bytes=50000000, per_token_bytes=1.0, measured=True)
    """
    slope = (large[1] - small[1]) / (large[0] - small[0])
    shipped = SHIPPED[engine].per_token_bytes
    if not 0 < slope < 4 * shipped:
        slope = shipped
    base = max(0, small[1] - round(slope * small[0]))
    return ProcessOverhead(base_bytes=base, per_token_bytes=slope, measured=True)


async def _take(engine: Engine, path: Path, plan: Plan, measure: Measure) -> int:
    """What a process takes at most, less the engine's own count of the model."""
    options = LoadOptions(context_length=tiny_models.CONTEXT)
    lines: list[str] = []
    process = await EngineProcess.start(engine, lambda _level, text: lines.append(text))
    try:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        process.send(
            LoadModel(id=1, path=str(path), options=options, default_context=tiny_models.CONTEXT)
        )
        await _until(process, ModelLoaded)
        # Two signs a token, at most, and room for an answer.
        prompt = "ab" * (tiny_models.CONTEXT // 2 - 16)
        request = GenerateRequest(prompt=prompt, max_tokens=8, temperature=0)
        process.send(GenerateText(id=2, request=request))
        done = await _until(process, AnswerDone)
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


async def _until(
    process: EngineProcess, kind: type[ModelLoaded] | type[AnswerDone]
) -> ModelLoaded | AnswerDone:
    """The report of this kind; what comes before it is dropped."""
    while True:
        try:
            async with asyncio.timeout(STALL_S):
                report = await process.receive()
        except TimeoutError:
            raise EngineFailed(f"It said nothing for {STALL_S:g} s.") from None
        if isinstance(report, CommandFailed):
            raise from_info(report.error)
        if isinstance(report, kind):
            return report
