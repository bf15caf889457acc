"""Which engine can be had on which machine, and how. Pure: the machine is an argument."""

from __future__ import annotations

import re
from collections.abc import Collection

from modeldeck.core.schema import Format

MLX_MINIMUM = (0, 32, 2)
"""The first mlx-lm that does not run Python named by a model's config.json (CVE-2026-5843)."""


def is_apple_silicon(system: str, machine: str) -> bool:
    """Whether `sys.platform` and `platform.machine()` are those of a Mac with an M processor."""
    return system == "darwin" and machine == "arm64"


def preferred_format(system: str, machine: str, engines: Collection[Format]) -> Format:
    """The format to take of a model that there is in several, given those that can be loaded.

    On Apple Silicon MLX is faster and shares the memory of the GPU; elsewhere it is not.

    >>> preferred_format("darwin", "arm64", {"gguf", "mlx"})
    'mlx'
    >>> preferred_format("darwin", "arm64", {"gguf"}), preferred_format("linux", "x86_64", {"mlx"})
    ('gguf', 'mlx')
    """
    if "mlx" in engines and (is_apple_silicon(system, machine) or "gguf" not in engines):
        return "mlx"
    return "gguf"


def mlx_remedy(system: str, machine: str) -> str:
    """How to get MLX on a machine: the extra of modeldeck that brings it, or why there is none.

    >>> mlx_remedy("linux", "x86_64")
    "Install it: pip install 'modeldeck[mlx]'"
    """
    if is_apple_silicon(system, machine):
        return "Install it: pip install 'modeldeck[local]'"
    if system == "linux":
        return "Install it: pip install 'modeldeck[mlx]'"
    return "MLX runs on Apple Silicon and Linux only; take the GGUF version of the model."


def is_mlx_safe(version: str) -> bool:
    """Whether this version of mlx-lm is new enough to be given a model.

    >>> is_mlx_safe("0.31.3"), is_mlx_safe("0.32.2"), is_mlx_safe("1.0")
    (False, True, True)
    """
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3]) >= MLX_MINIMUM
