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


def heap_bytes() -> int | None:
    """Bytes in use, as the C library counts them; None without glibc."""
    function = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if function is None:
        return None
    function.restype = _MallInfo
    found = function()
    return int(found.uordblks + found.hblkhd)
