"""Size of the cache for the state of conversations that no request holds. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from modeldeck.core.schema import Instance

DEFAULT_BYTES = 512 << 20
"""Where nothing is configured: some conversations of a small model, one of a large one."""
SHARE = 10
"""At most this part of the machine's memory, where nothing is configured."""
LEAST_BYTES = 16 << 20
"""With less room there is none: it would hold no conversation."""


WORTH_BYTES = 1 << 20
"""A prefix cache that holds less is left alone."""


def shrinks(instances: Iterable[Instance], missing_bytes: int) -> dict[str, int]:
    """What prefix caches may keep, by instance, so that the machine gets back what is missing.

    Those of models that were idle longest shrink first, and only as far as needed.
    """
    found: dict[str, int] = {}
    holding = [i for i in instances if i.state.live and (i.prefix_cache_bytes or 0) >= WORTH_BYTES]
    for instance in sorted(holding, key=lambda i: i.idle_s or 0.0, reverse=True):
        if missing_bytes <= 0:
            break
        held = instance.prefix_cache_bytes or 0
        found[instance.id] = max(0, held - missing_bytes)
        missing_bytes -= held - found[instance.id]
    return found


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
