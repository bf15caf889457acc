"""Which engines this machine has. Nothing is imported here: llama.cpp is asked in a child."""

from __future__ import annotations

import asyncio
import importlib.metadata

from core.errors import EngineFailed, EngineMissing
from core.runtime.planner import Planner
from core.schema import Engine, Format, Runtime

FOR_FORMAT: dict[Format, Engine] = {"gguf": "llama.cpp", "mlx": "mlx"}
"""The engine that loads each format."""
MLX_WHY_NOT = (
    "This version of modeldeck loads GGUF models only; take the GGUF variant of the model."
)


async def probe(planner: Planner) -> tuple[Runtime, ...]:
    """Ask every engine; one that does not answer says why."""
    return (await _llama(planner), await _mlx())


async def _llama(planner: Planner) -> Runtime:
    try:
        hello = await planner.hello()
    except (EngineMissing, EngineFailed) as error:
        return Runtime(name="llama.cpp", why_not=str(error), formats=("gguf",))
    return Runtime(
        name="llama.cpp",
        version=hello.version,
        available=True,
        formats=("gguf",),
        devices=hello.devices,
    )


async def _mlx() -> Runtime:
    try:
        version = await asyncio.to_thread(importlib.metadata.version, "mlx-lm")
    except importlib.metadata.PackageNotFoundError:
        version = None
    return Runtime(name="mlx", version=version, why_not=MLX_WHY_NOT, formats=("mlx",))
