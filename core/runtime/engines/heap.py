"""Size of this process's heap, and returning free pages (glibc)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later (mallinfo(3))."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def trim_heap() -> None:
    """Return free pages of the heap to the system: a load leaves some (malloc_trim(3))."""
    if function := getattr(ctypes.CDLL(None), "malloc_trim", None):
        function(0)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""`mallopt`'s numbers of the free bytes at the end of the heap that go back to the system, and of
the smallest size that gets pages of its own (malloc.h)."""
LARGE = 1 << 20
"""Blocks of this size get pages of their own once `map_large` was called."""
MIDDLE = 4 << 20
"""Blocks of this size get pages of their own once `aligned_room` was used. Smaller ones, such as
what sampling needs for each token of a large vocabulary, would cost new pages each time."""
ROOM, ROOMS = 24 << 20, 4
"""Bytes of a part of the room that is left free, and parts; `mallopt` takes at most 32 MiB."""
SMALL_ROOM = 256 << 10
"""Bytes that are left free for the small blocks that an evaluation needs first."""
HOLES = 512
"""Free places of the heap that are filled at most."""
LINE = 64
"""Bytes of a cache line."""
_BLOCK_HEAD, _LEAST_BLOCK = 8, 32
"""Bytes of a block that are malloc's own, and of the smallest one (malloc.c, on 64 bits)."""


class _Heap:
    """The process's heap: from which size blocks get pages of their own after `aligned_room`."""

    mapped_from = MIDDLE


def map_large() -> None:
    """Give what is larger than a MiB pages of its own from now on, which go back when it is freed.

    By default the C library raises that size up to 32 MiB when such a block is freed: the copies of
    large images then leave holes in the heap, and the next image takes more than the one before
    (mallopt(3)).
    """
    _Heap.mapped_from = LARGE
    if function := getattr(ctypes.CDLL(None), "mallopt", None):
        function(_M_MMAP_THRESHOLD, LARGE)


@contextmanager
def aligned_room() -> Iterator[None]:
    """Within this, a large block of the heap begins at a multiple of `LINE`; glibc only.

    llama.cpp computes in a block that it gets by `new[]` when an evaluation needs more than all
    before it. The C library maps pages for such a block, and its address is 16 bytes after their
    beginning: AVX-512 then reads across cache lines, and products with F16 take 5 to 8 % longer.
    But it takes free room of its heap before it maps any, the smallest that suffices. So room is
    left there for up to 96 MiB, and a little for small blocks, and all other room is filled
    meanwhile. Nothing is written to it, and what is left of it goes back; up to 96 bytes do not.
    """
    c = ctypes.CDLL(None)
    if not hasattr(c, "gnu_get_libc_version"):
        yield
        return
    c.malloc.restype = ctypes.c_size_t
    filled: list[int] = []
    try:
        c.mallopt(_M_TRIM_THRESHOLD, 1 << 30)
        c.mallopt(_M_MMAP_THRESHOLD, ROOM + SMALL_ROOM)
        filled = _leave_room(c)
        yield
    finally:
        for block in filled:
            c.free(ctypes.c_size_t(block))
        c.mallopt(_M_MMAP_THRESHOLD, _Heap.mapped_from)
        c.mallopt(_M_TRIM_THRESHOLD, 2 * _Heap.mapped_from)
        trim_heap()


def _leave_room(c: ctypes.CDLL) -> list[int]:
    """Leave room at the end of the heap; return the blocks that fill the room before it."""
    small, first, *others = (c.malloc(ctypes.c_size_t(n)) for n in (SMALL_ROOM, *[ROOM] * ROOMS))
    filled: list[int] = []
    for _ in range(HOLES):
        block = c.malloc(ctypes.c_size_t(SMALL_ROOM))
        if not 0 < block < first:
            c.free(ctypes.c_size_t(block))
            break
        filled.append(block)
    if first:
        # What stays of the block ends where a line begins, and keeps the two rooms apart.
        stays = -first % LINE or LINE
        stays += LINE if stays < _LEAST_BLOCK else 0
        c.realloc(ctypes.c_size_t(first), ctypes.c_size_t(stays - _BLOCK_HEAD))
    for unused in (*others, small):
        c.free(ctypes.c_size_t(unused))
    return filled


def heap_bytes() -> int | None:
    """Bytes in use, as the C library counts them; None without glibc."""
    function = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if function is None:
        return None
    function.restype = _MallInfo
    found = function()
    return int(found.uordblks + found.hblkhd)
