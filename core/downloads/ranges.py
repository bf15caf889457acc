"""Sorted, disjoint byte ranges. Pure."""

from __future__ import annotations

ByteRange = tuple[int, int]
"""Bytes from the first offset up to, but not including, the second."""

ByteRanges = tuple[ByteRange, ...]
"""Ascending, disjoint and not adjacent."""


def add(spans: ByteRanges, span: ByteRange) -> ByteRanges:
    """The union of `spans` and `span`.

    >>> add(((0, 4), (8, 9)), (4, 6))
    ((0, 6), (8, 9))
    """
    merged: list[ByteRange] = []
    for start, end in sorted((*spans, span)):
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def missing(spans: ByteRanges, size: int) -> ByteRanges:
    """The ranges of a file of `size` bytes that are not in `spans`.

    >>> missing(((2, 4),), 9)
    ((0, 2), (4, 9))
    """
    edges = [0, *(edge for span in spans for edge in span), size]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return tuple((start, end) for start, end in pairs if start < end)


def covered(spans: ByteRanges) -> int:
    """Total bytes of `spans`."""
    return sum(end - start for start, end in spans)


def front(spans: ByteRanges) -> int:
    """End of the range that begins at 0; 0 where there is none."""
    return spans[0][1] if spans and spans[0][0] == 0 else 0


def clip(spans: ByteRanges, size: int) -> ByteRanges:
    """The part of `spans` that lies in the first `size` bytes."""
    return tuple((start, min(end, size)) for start, end in spans if start < size)
