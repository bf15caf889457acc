"""Measure memory and disk as the system reports them. An unknown value is None, never a guess.

Sources: /proc and control groups on Linux, psutil on other systems, the kernel for processes on
macOS, NVML for NVIDIA GPUs, sysfs for AMD's. All of it blocks for some milliseconds
(`smaps_rollup` walks the pages of a process: 2.4 ms for 1 GB): call it in a thread.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from modeldeck.core.memory import amd, apple, nvidia
from modeldeck.core.schema import Memory, ProcessMemory

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
KIB = 1024


def system() -> Memory:
    """Measure the memory of the machine, or of the container of this process."""
    memory = linux_system() if sys.platform == "linux" else _psutil_system()
    return Memory(
        total_bytes=memory.total_bytes,
        available_bytes=memory.available_bytes,
        swap_used_bytes=memory.swap_used_bytes,
        gpus=(*nvidia.gpus(), *amd.gpus(nvidia.count()), *apple.gpus()),
    )


def process(pid: int) -> ProcessMemory | None:
    """Measure a process; None if it has ended or belongs to another user."""
    if sys.platform == "linux":
        memory = linux_process(pid)
    else:
        memory = apple.process(pid) or _psutil_process(pid)
    held = nvidia.held_by(pid)
    return memory if memory is None or held is None else replace(memory, gpu_bytes=held)


def free_disk(path: Path) -> int | None:
    """Return the free bytes on the disk of `path`, which need not exist; None if not known."""
    for folder in (path, *path.parents):
        try:
            return shutil.disk_usage(folder).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


# Linux


def kilobytes(text: str) -> dict[str, int]:
    """Parse the lines `Name:   123 kB` of a file in /proc to bytes, ignoring others (proc(5)).

    >>> kilobytes("MemFree:  2 kB")
    {'MemFree': 2048}
    """
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        number, _, unit = value.strip().partition(" ")
        if unit == "kB" and number.isdigit():
            found[name] = int(number) * KIB
    return found


def linux_system(proc: Path = PROC, cgroups: Path = CGROUPS) -> Memory:
    """Measure memory by /proc/meminfo and the limits of this process's control groups."""
    try:
        values = kilobytes((proc / "meminfo").read_text())
    except OSError:
        return Memory()
    total, available = values.get("MemTotal"), values.get("MemAvailable")
    for limit, left in _limits(proc, cgroups):
        total = limit if total is None else min(total, limit)
        available = left if available is None else min(available, left)
    swap = None
    if "SwapTotal" in values and "SwapFree" in values:
        swap = values["SwapTotal"] - values["SwapFree"]
    return Memory(total_bytes=total, available_bytes=available, swap_used_bytes=swap)


def _limits(proc: Path, cgroups: Path) -> Iterable[tuple[int, int]]:
    """Yield limit and free memory of each control group above this process (version 2, then 1).

    File pages count as used there but can be reclaimed, as in `MemAvailable`
    (kernel: Documentation/admin-guide/cgroup-v2.rst, memory.stat).
    """
    for folder in _groups(proc, cgroups):
        for limit_name, used_name, prefix in (
            ("memory.max", "memory.current", ""),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
        ):
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is None or used is None or limit >= 1 << 60:  # version 1 has a huge number
                continue
            stat = _pairs(folder / "memory.stat")
            files = stat.get(f"{prefix}inactive_file", 0) + stat.get(f"{prefix}active_file", 0)
            yield limit, max(0, min(limit, limit - used + files))


def _groups(proc: Path, cgroups: Path) -> list[Path]:
    """Return the folders of this process's control groups, up to the root."""
    found: list[Path] = [cgroups, cgroups / "memory"]  # in a container its own group is the root
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = cgroups if not controllers else cgroups / "memory"
        if not controllers or "memory" in controllers.split(","):
            inner = root / path.lstrip("/")
            found += [inner, *(p for p in inner.parents if p.is_relative_to(root) and p != root)]
    return found


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _pairs(path: Path) -> Mapping[str, int]:
    try:
        rows = (line.split() for line in path.read_text().splitlines())
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def linux_process(pid: int, proc: Path = PROC) -> ProcessMemory | None:
    """Measure a process by smaps_rollup and status (proc(5)).

    Without permission to read smaps_rollup only RSS and peak are known.
    """
    folder = proc / str(pid)
    try:
        status = kilobytes((folder / "status").read_text())
    except OSError:
        return None
    if "VmRSS" not in status:  # a zombie
        return None
    try:
        pages = kilobytes((folder / "smaps_rollup").read_text())
    except OSError:
        pages = {}
    private = None
    if "Private_Clean" in pages:
        private = pages["Private_Clean"] + pages["Private_Dirty"]
    return ProcessMemory(
        rss_bytes=pages.get("Rss", status["VmRSS"]),
        pss_bytes=pages.get("Pss"),
        private_bytes=private,
        mapped_bytes=status.get("RssFile"),
        peak_bytes=status.get("VmHWM"),
    )


# Other systems


def _psutil_system() -> Memory:
    psutil: Any = importlib.import_module("psutil")

    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return Memory(
        total_bytes=memory.total, available_bytes=memory.available, swap_used_bytes=swap.used
    )


def _psutil_process(pid: int) -> ProcessMemory | None:
    psutil: Any = importlib.import_module("psutil")

    try:
        memory = psutil.Process(pid).memory_full_info()
    except (psutil.Error, OSError):
        return None
    return ProcessMemory(rss_bytes=memory.rss, private_bytes=getattr(memory, "uss", None))
