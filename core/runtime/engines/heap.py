"""Size of this process's heap, and returning free pages (glibc)."""

from __future__ import annotations

import ctypes


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


_M_MMAP_THRESHOLD = -3
"""`mallopt`'s number of the smallest size that gets pages of its own (malloc.h)."""
LARGE = 1 << 20


def map_large() -> None:
    """Give what is larger than a MiB pages of its own from now on, which go back when it is freed.

    By default the C library raises that size up to 32 MiB when such a block is freed: the copies of
    large images then leave holes in the heap, and the next image takes more than the one before
    (mallopt(3)).
    """
    if function := getattr(ctypes.CDLL(None), "mallopt", None):
        function(_M_MMAP_THRESHOLD, LARGE)


def heap_bytes() -> int | None:
    """Bytes in use, as the C library counts them; None without glibc."""
    function = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if function is None:
        return None
    function.restype = _MallInfo
    found = function()
    return int(found.uordblks + found.hblkhd)
