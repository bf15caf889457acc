"""Size of the cache for the state of conversations that no request holds. Pure."""

from __future__ import annotations

DEFAULT_BYTES = 512 << 20
"""Where nothing is configured: some conversations of a small model, one of a large one."""
SHARE = 10
"""At most this part of the machine's memory, where nothing is configured."""
LEAST_BYTES = 16 << 20
"""With less room there is none: it would hold no conversation."""


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


def prefix_cache_that_fits(wanted: int, left: int | None) -> int:
    """Most bytes of the prefix cache, where `left` are free beside everything else.

    It is the first to give way where memory is short: it saves time only.

    >>> prefix_cache_that_fits(512 << 20, 100 << 20) >> 20, prefix_cache_that_fits(512 << 20, 1)
    (100, 0)
    >>> prefix_cache_that_fits(1 << 20, None) >> 20  # what is free is not known
    1
    """
    if left is None or left >= wanted:
        return wanted
    return left if left >= LEAST_BYTES else 0
