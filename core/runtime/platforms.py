"""Which engines run on which machines, and how to install them. Pure."""

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
    """Return the format to prefer for a model that exists in several, of those that can be loaded.

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
    """Return how to install MLX on a machine, or why that is not possible.

    >>> mlx_remedy("linux", "x86_64")
    "Install it: pip install 'modeldeck[mlx]'"
    """
    if is_apple_silicon(system, machine):
        return "Install it: pip install 'modeldeck[local]'"
    if system == "linux":
        return "Install it: pip install 'modeldeck[mlx]'"
    return "MLX runs on Apple Silicon and Linux only; take the GGUF version of the model."


def is_mlx_safe(version: str) -> bool:
    """Whether this version of mlx-lm is new enough to load models safely.

    >>> is_mlx_safe("0.31.3"), is_mlx_safe("0.32.2"), is_mlx_safe("1.0")
    (False, True, True)
    """
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3]) >= MLX_MINIMUM
