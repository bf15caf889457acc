"""macOS: memory of a process, and the GPU's limit. Uses ctypes; not tested on a Mac yet.

`ps` and psutil report the resident size, which misses memory allocated through Metal. The kernel
counts all of it in `phys_footprint`, which Activity Monitor shows as "Memory".
Sources: `struct rusage_info_v4` and `proc_pid_rusage` (xnu, bsd/sys/resource.h and libproc.h), the
`iogpu.wired_limit_mb` of sysctl(8).
"""

from __future__ import annotations

import ctypes
import struct
import sys

from modeldeck.core.schema import Gpu, ProcessMemory

RUSAGE_INFO_V4 = 4
_LAYOUT = struct.Struct("<16s35Q")
"""A UUID and 35 numbers of 64 bits: 296 bytes."""
_RESIDENT, _FOOTPRINT, _PEAK = 7, 8, 29
"""Indexes of `ri_resident_size`, `ri_phys_footprint`, `ri_lifetime_max_phys_footprint`."""
MIB = 1 << 20


def from_rusage(data: bytes) -> ProcessMemory:
    """Read a `struct rusage_info_v4`.

    The footprint is memory of this process alone, so it is also used as the private memory.
    """
    fields = _LAYOUT.unpack(data)
    return ProcessMemory(
        rss_bytes=fields[_RESIDENT],
        private_bytes=fields[_FOOTPRINT],
        footprint_bytes=fields[_FOOTPRINT],
        peak_bytes=fields[_PEAK],
    )


def process(pid: int) -> ProcessMemory | None:
    """Measure a process; None if it has ended, belongs to another user, or this is not a Mac."""
    if sys.platform != "darwin":
        return None
    data = ctypes.create_string_buffer(_LAYOUT.size)
    library = ctypes.CDLL("/usr/lib/libproc.dylib")
    if library.proc_pid_rusage(ctypes.c_int(pid), ctypes.c_int(RUSAGE_INFO_V4), data) != 0:
        return None
    return from_rusage(data.raw)


def gpus() -> tuple[Gpu, ...]:
    """Return the GPU of an Apple Silicon Mac, with the limit of its wired memory.

    The limit is known only if it was set; else the system chooses two thirds to three quarters of
    the memory, and does not report it.
    """
    if sys.platform != "darwin":
        return ()
    limit = _sysctl("iogpu.wired_limit_mb")
    name = _sysctl("machdep.cpu.brand_string")
    if limit is None or name is None:  # not Apple Silicon
        return ()
    return (gpu(name, limit),)


def gpu(name: bytes, limit: bytes) -> Gpu:
    """Return the record of the GPU, from processor name and limit as sysctl returns them.

    >>> gpu(b"Apple M3" + bytes(1), (24576).to_bytes(4, "little")).total_bytes >> 30
    24
    >>> gpu(b"Apple M3" + bytes(1), bytes(4)).total_bytes is None
    True
    """
    megabytes = int.from_bytes(limit, "little")
    return Gpu(
        index=0,
        name=name.rstrip(b"\0").decode("utf-8", "replace"),
        total_bytes=megabytes * MIB or None,
    )


def _sysctl(name: str) -> bytes | None:
    """Return the bytes of a sysctl value; None if there is none of this name."""
    library = ctypes.CDLL(None)
    size = ctypes.c_size_t(0)
    if library.sysctlbyname(name.encode(), None, ctypes.byref(size), None, 0) != 0:
        return None
    data = ctypes.create_string_buffer(size.value)
    if library.sysctlbyname(name.encode(), data, ctypes.byref(size), None, 0) != 0:
        return None
    return data.raw[: size.value]
