"""The engines and the formats they read; probes engines in child processes, without imports."""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from modeldeck.core.concurrency import together
from modeldeck.core.errors import EngineFailed, EngineMissing, InvalidRequest
from modeldeck.core.runtime.planning.planner import Planner
from modeldeck.core.runtime.platforms import mlx_remedy
from modeldeck.core.runtime.process.engine_process import EngineProcess
from modeldeck.core.schema import Engine, Format, Runtime
from modeldeck.core.storage.installation import this_installation

FOR_FORMAT: dict[Format, Engine] = {"gguf": "llama.cpp", "mlx": "mlx"}
"""The engine that loads each format, unless another one is asked for."""
READS: dict[Engine, tuple[Format, ...]] = {"llama.cpp": ("gguf",), "mlx": ("mlx",)}
"""The formats that each engine reads."""


def choose(format: Format, wanted: Engine | None = None) -> Engine:
    """Return the engine that loads a format: `wanted` if it reads it, else the default one.

    Raises InvalidRequest, naming the engines that read the format.

    >>> choose("gguf")
    'llama.cpp'
    """
    if wanted is None or format in READS[wanted]:
        return wanted or FOR_FORMAT[format]
    able = " or ".join(engine for engine, formats in READS.items() if format in formats)
    raise InvalidRequest(
        f"{wanted} does not read {format} models: engine must be {able}.",
        "Leave the engine out, or take a version of the model in another format.",
    )


async def probe(planner: Planner, *names: Engine) -> tuple[Runtime, ...]:
    """Start engines, or all, for version and devices; one that fails has the reason."""
    probes: dict[Engine, Callable[[], Coroutine[Any, Any, Runtime]]] = {
        "llama.cpp": partial(_llama, planner),
        "mlx": _mlx,
    }
    wanted = [run for name, run in probes.items() if name in names or not names]
    return tuple(await together(run() for run in wanted))


async def _llama(planner: Planner) -> Runtime:
    try:
        hello = await planner.hello()
    except (EngineMissing, EngineFailed) as error:
        return Runtime(name="llama.cpp", why_not=str(error), formats=READS["llama.cpp"])
    return Runtime(
        name="llama.cpp",
        version=hello.version,
        available=True,
        formats=READS["llama.cpp"],
        devices=hello.devices,
    )


async def _mlx() -> Runtime:
    version = await asyncio.to_thread(_installed, "mlx-lm")
    try:
        if version is None:  # no process is needed to find that out
            remedy = mlx_remedy(sys.platform, platform.machine(), this_installation())
            raise EngineMissing("MLX is not installed.", remedy)
        process = await EngineProcess.start("mlx", lambda _level, _text: None)
    except (EngineMissing, EngineFailed) as error:
        return Runtime(name="mlx", version=version, why_not=str(error), formats=READS["mlx"])
    hello = process.hello
    await process.end()
    return Runtime(
        name="mlx",
        version=hello.version,
        available=True,
        formats=READS["mlx"],
        devices=hello.devices,
    )


def _installed(package: str) -> str | None:
    """The version of an installed package; None when it is not installed."""
    from importlib import metadata  # takes 10 ms, and is needed once

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
