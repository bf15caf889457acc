"""Units of bytes."""

from __future__ import annotations


def gib(count: int) -> str:
    """As much memory: `6.9 GiB`, `0.4 GiB`."""
    return f"{count / (1 << 30):.1f} GiB"


def mib(count: int) -> str:
    """As much memory, where it is less than a few GiB: `512 MiB`."""
    return f"{count / (1 << 20):.0f} MiB"
