"""Which engines this machine has. Nothing is imported here: llama.cpp is asked in a child."""

from __future__ import annotations

import asyncio

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
    version = await asyncio.to_thread(_installed, "mlx-lm")
    return Runtime(name="mlx", version=version, why_not=MLX_WHY_NOT, formats=("mlx",))


def _installed(package: str) -> str | None:
    """The version of an installed package; None when it is not installed."""
    from importlib import metadata  # takes 10 ms, and is asked for once

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
