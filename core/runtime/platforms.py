"""Which engines run on which machines, and how to install them. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

from modeldeck.core.schema import Format
from modeldeck.core.storage.installation import Installation

LLAMA_PACKAGES = ("llama-cpp-python>=0.3.36,<0.4",)
LLGUIDANCE = "llguidance>=1.9.1,<2"
"""Requirements of the engines, with the bounds of the extras in pyproject.toml."""

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


def llama_remedy(made: Installation, *, rebuild: bool = False) -> str:
    """Return how to install llama.cpp here; `rebuild`: what is installed does not run."""
    command = made.install(*LLAMA_PACKAGES, rebuild=rebuild)
    return f"Build it again for this machine: {command}" if rebuild else f"Install it: {command}"


def grammar_remedy(made: Installation) -> str:
    """Return how to install what holds answers to grammars and JSON schemas."""
    return f"Install it: {made.install(LLGUIDANCE)}"


def mlx_remedy(system: str, machine: str, made: Installation, *, rebuild: bool = False) -> str:
    """Return how to install MLX here, or why that is not possible."""
    if is_apple_silicon(system, machine):
        packages = ("mlx-lm>=0.32.2,<0.33", LLGUIDANCE)
    elif system == "linux":
        packages = ("mlx-lm[cpu]>=0.32.2,<0.33", LLGUIDANCE)
    else:
        return "MLX runs on Apple Silicon and Linux only; take the GGUF version of the model."
    command = made.install(*packages, rebuild=rebuild)
    return f"Install it again: {command}" if rebuild else f"Install it: {command}"


def is_mlx_safe(version: str) -> bool:
    """Whether this version of mlx-lm is new enough to load models safely.

    >>> is_mlx_safe("0.31.3"), is_mlx_safe("0.32.2"), is_mlx_safe("1.0")
    (False, True, True)
    """
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3]) >= MLX_MINIMUM
