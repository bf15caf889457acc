"""macOS: what a process takes, and what the GPU may. By ctypes; not tried on a Mac yet.

`ps` and psutil tell the resident size, which misses memory that a process took through Metal. The
kernel charges all of it to `phys_footprint`, which is what Activity Monitor shows as "Memory".
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
"""Where in it are `ri_resident_size`, `ri_phys_footprint`, `ri_lifetime_max_phys_footprint`."""
MIB = 1 << 20


def from_rusage(data: bytes) -> ProcessMemory:
    """What a `struct rusage_info_v4` says.

    The footprint counts what nobody else would give back, so it stands for the private memory too.
    """
    fields = _LAYOUT.unpack(data)
    return ProcessMemory(
        rss_bytes=fields[_RESIDENT],
        private_bytes=fields[_FOOTPRINT],
        footprint_bytes=fields[_FOOTPRINT],
        peak_bytes=fields[_PEAK],
    )


def process(pid: int) -> ProcessMemory | None:
    """What a process takes; None when it is gone, belongs to somebody else, or this is no Mac."""
    if sys.platform != "darwin":
        return None
    data = ctypes.create_string_buffer(_LAYOUT.size)
    library = ctypes.CDLL("/usr/lib/libproc.dylib")
    if library.proc_pid_rusage(ctypes.c_int(pid), ctypes.c_int(RUSAGE_INFO_V4), data) != 0:
        return None
    return from_rusage(data.raw)


def gpus() -> tuple[Gpu, ...]:
    """The GPU of an Apple Silicon Mac, with the limit of memory that may be wired for it.

    The limit is known only where a person set it; else the system chooses, about two thirds to
    three quarters of the memory, and does not tell.
    """
    if sys.platform != "darwin":
        return ()
    limit = _sysctl("iogpu.wired_limit_mb")
    name = _sysctl("machdep.cpu.brand_string")
    if limit is None or name is None:  # no Apple Silicon
        return ()
    return (gpu(name, limit),)


def gpu(name: bytes, limit: bytes) -> Gpu:
    """The record of the GPU, from the name of the processor and the limit as sysctl tells them.

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
    """The bytes of a value of sysctl; None where there is none of this name."""
    library = ctypes.CDLL(None)
    size = ctypes.c_size_t(0)
    if library.sysctlbyname(name.encode(), None, ctypes.byref(size), None, 0) != 0:
        return None
    data = ctypes.create_string_buffer(size.value)
    if library.sysctlbyname(name.encode(), data, ctypes.byref(size), None, 0) != 0:
        return None
    return data.raw[: size.value]
