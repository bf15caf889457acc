"""Size of the cache for the state of conversations that no request holds. Pure."""

from __future__ import annotations

DEFAULT_BYTES = 512 << 20
"""Where nothing is configured: some conversations of a small model, one of a large one."""
SHARE = 10
"""At most this part of the machine's memory, where nothing is configured."""


def prefix_cache_bytes(configured: int | None, total_bytes: int | None) -> int:
    """Most bytes of the prefix cache of one instance.

    Args:
        configured: `runtime.prefix_cache_bytes`; None where it is not set.
        total_bytes: The machine's memory; None where it is not known.

    >>> prefix_cache_bytes(None, 64 << 30) >> 20, prefix_cache_bytes(None, 2 << 30) >> 20
    (512, 204)
    >>> prefix_cache_bytes(0, 64 << 30), prefix_cache_bytes(None, None) >> 20
    (0, 512)
    """
    if configured is not None:
        return configured
    return DEFAULT_BYTES if total_bytes is None else min(DEFAULT_BYTES, total_bytes // SHARE)
