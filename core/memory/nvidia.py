"""NVIDIA GPUs: memory, load, heat, power, through the management library of their driver (NVML).

No package is needed and no process is started: the library is looked up once; without it there are
no GPUs. Values that it does not report are None (GPUs that share the system's memory report none).
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from modeldeck.core.schema import Gpu

NAMES = ("libnvidia-ml.so.1", "nvml.dll")
SUCCESS = 0
"""`NVML_SUCCESS`, nvml.h."""
NAME_LENGTH = 96
"""`NVML_DEVICE_NAME_V2_BUFFER_SIZE`."""
PROCESSES = 256
"""Maximum processes listed per GPU; with more, NVML returns an error and none is known."""
CORE_SENSOR = 0
"""`NVML_TEMPERATURE_GPU`: the sensor of the chip."""
NOT_KNOWN = (1 << 64) - 1
"""`NVML_VALUE_NOT_AVAILABLE`: the driver does not report the memory of a process."""


class _NvmlMemory(ctypes.Structure):
    """`nvmlMemory_t`: bytes."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class _Utilization(ctypes.Structure):
    """`nvmlUtilization_t`: percent of the last sample period, of the processor and its memory."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Process(ctypes.Structure):
    """`nvmlProcessInfo_t` of version 2 and up: a process, and the bytes it holds."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


@functools.cache
def _library() -> Any:
    """Load and initialise the library; None if there is none, or it has no driver."""
    for name in NAMES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        return library if library.nvmlInit_v2() == SUCCESS else None
    return None


def count() -> int:
    """How many GPUs the driver numbers, those that cannot be read among them."""
    library = _library()
    found = ctypes.c_uint(0)
    if library is None or library.nvmlDeviceGetCount_v2(ctypes.byref(found)) != SUCCESS:
        return 0
    return found.value


def gpus() -> tuple[Gpu, ...]:
    """Return the NVIDIA GPUs of this machine that can be read, with the driver's numbers."""
    library = _library()
    return tuple(gpu for i in range(count()) if (gpu := _gpu(library, i)) is not None)


def _gpu(library: Any, index: int) -> Gpu | None:
    device = ctypes.c_void_p()
    if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) != SUCCESS:
        return None
    name = ctypes.create_string_buffer(NAME_LENGTH)
    library.nvmlDeviceGetName(device, name, NAME_LENGTH)
    gpu = Gpu(
        index=index,
        name=name.value.decode("utf-8", "replace"),
        busy=_busy(library, device),
        celsius=_number(library, "nvmlDeviceGetTemperature", device, CORE_SENSOR),
        watts=_watts(library, device),
    )
    memory = _NvmlMemory()
    if library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) != SUCCESS:
        return gpu
    return replace(gpu, total_bytes=memory.total, used_bytes=memory.used, free_bytes=memory.free)


def _busy(library: Any, device: ctypes.c_void_p) -> float | None:
    """The fraction of time in which it worked."""
    found = _Utilization()
    ask = getattr(library, "nvmlDeviceGetUtilizationRates", None)
    if ask is None or ask(device, ctypes.byref(found)) != SUCCESS:
        return None
    return float(found.gpu) / 100


def _watts(library: Any, device: ctypes.c_void_p) -> int | None:
    """The power that it draws; the library counts milliwatts."""
    found = _number(library, "nvmlDeviceGetPowerUsage", device)
    return None if found is None else round(found / 1000)


def _number(library: Any, function: str, device: ctypes.c_void_p, *values: int) -> int | None:
    """A number that the library gives by its last argument; None where it does not know it."""
    found = ctypes.c_uint(0)
    ask = getattr(library, function, None)
    if ask is None or ask(device, *values, ctypes.byref(found)) != SUCCESS:
        return None
    return int(found.value)


def held_by(pid: int) -> int | None:
    """Return the bytes that a process holds on all NVIDIA GPUs; None if not reported.

    In a container with its own process ids NVML reports the outer ids, so the result is None.
    """
    library = _library()
    return total(pid, [row for i in range(count()) for row in _processes(library, i)])


def total(pid: int, rows: Sequence[tuple[int, int]]) -> int | None:
    """Return the bytes of one process from rows of (pid, bytes); None if not reported.

    >>> total(7, [(7, 1000), (8, 1), (7, 24)]), total(9, [(7, 1)]), total(7, [(7, NOT_KNOWN)])
    (1024, None, None)
    """
    found = [used for owner, used in rows if owner == pid and used != NOT_KNOWN]
    return sum(found) if found else None


def _processes(library: Any, index: int) -> list[tuple[int, int]]:
    device = ctypes.c_void_p()
    if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) != SUCCESS:
        return []
    found, rows = ctypes.c_uint(PROCESSES), (_Process * PROCESSES)()
    for version in ("_v3", "_v2"):  # version 1 has shorter rows
        ask = getattr(library, f"nvmlDeviceGetComputeRunningProcesses{version}", None)
        if ask is not None and ask(device, ctypes.byref(found), rows) == SUCCESS:
            return [(row.pid, row.used) for row in rows[: found.value]]
    return []
