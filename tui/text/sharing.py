"""How many requests a loaded model answers at once, and what they share, in words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldeck.tui.text import format as fmt

if TYPE_CHECKING:
    from modeldeck.core.schema import Forecast


def shared(parallel: int | None, length: int | None, cells: int | None = None) -> str:
    """What requests at once have to share; empty where there is one at a time.

    Args:
        parallel: Requests at once.
        length: Tokens that one of them may reach.
        cells: Tokens that all together may hold; None for as many as one may reach.

    >>> shared(4, 8192)
    '4 requests share 8,192 tokens'
    >>> shared(4, 8192, 16384)
    '4 requests share 16,384 tokens, each up to 8,192'
    >>> shared(4, 8192, 32768)
    '8,192 tokens for each of 4 requests'
    """
    if parallel is None or parallel < 2 or length is None:
        return ""
    cells = max(cells or 0, length)
    if cells >= parallel * length:
        return f"{length:,} tokens for each of {parallel} requests"
    each = f", each up to {length:,}" if cells > length else ""
    return f"{parallel} requests share {cells:,} tokens{each}"


def shared_briefly(parallel: int | None, length: int | None, cells: int | None = None) -> str:
    """As `shared`, in few cells.

    >>> shared_briefly(4, 8192), shared_briefly(4, 8192, 16384), shared_briefly(4, 8192, 32768)
    ('4 share 8k', '4 share 16k', '8k for each of 4')
    """
    if parallel is None or parallel < 2 or length is None:
        return ""
    cells = max(cells or 0, length)
    if cells >= parallel * length:
        return f"{fmt.tokens(length)} for each of {parallel}"
    return f"{parallel} share {fmt.tokens(cells)}"


def own_cells(length: int | None, more_bytes: int | None) -> str:
    """What it would take more to give each request a cache of its own; empty where not known.

    >>> own_cells(8192, 3 << 30)
    '8k each: 3.0 GiB more'
    """
    if length is None or more_bytes is None:
        return ""
    return f"{fmt.tokens(length)} each: {fmt.memory(more_bytes)} more"


def prefix_cache(forecast: Forecast, held_bytes: int | None = None) -> str:
    """What the prefix cache may take beside the forecast, and what it holds; empty without one."""
    if not forecast.prefix_cache_bytes:
        return ""
    held = "" if held_bytes is None else f", {fmt.memory(held_bytes)} now"
    return f"prefix cache up to {fmt.memory(forecast.prefix_cache_bytes)} more{held}"
