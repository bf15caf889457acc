"""Memory of NVIDIA processors, through the management library that comes with their driver (NVML).

No package is needed and nothing is started: the library is looked for once, and where it is missing
there are no processors to tell of. What it does not tell (processors that share the system's memory
do not) is None.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from core.schema import Gpu

NAMES = ("libnvidia-ml.so.1", "nvml.dll")
SUCCESS = 0
"""`NVML_SUCCESS`, nvml.h."""
NAME_LENGTH = 96
"""`NVML_DEVICE_NAME_V2_BUFFER_SIZE`."""


class _Memory(ctypes.Structure):
    """`nvmlMemory_t`: bytes."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


@functools.cache
def _library() -> Any:
    """The library, ready to be asked; None where there is none, or it has no driver."""
    for name in NAMES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        return library if library.nvmlInit_v2() == SUCCESS else None
    return None


def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA processors of this machine, in the driver's order."""
    library = _library()
    count = ctypes.c_uint(0)
    if library is None or library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != SUCCESS:
        return ()
    return tuple(gpu for i in range(count.value) if (gpu := _gpu(library, i)) is not None)


def _gpu(library: Any, index: int) -> Gpu | None:
    device = ctypes.c_void_p()
    if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) != SUCCESS:
        return None
    name = ctypes.create_string_buffer(NAME_LENGTH)
    library.nvmlDeviceGetName(device, name, NAME_LENGTH)
    memory = _Memory()
    if library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) != SUCCESS:
        return Gpu(index=index, name=name.value.decode("utf-8", "replace"))
    return Gpu(
        index=index,
        name=name.value.decode("utf-8", "replace"),
        total_bytes=memory.total,
        used_bytes=memory.used,
        free_bytes=memory.free,
    )
