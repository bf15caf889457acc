"""AMD GPUs as the `amdgpu` driver of Linux reports them in sysfs: memory, load, heat, power.

Sources: the kernel's Documentation/gpu/amdgpu/driver-misc.rst (`mem_info_vram_*`) and thermal.rst
(`gpu_busy_percent`, hwmon: millidegrees and microwatts). A file that is missing is None.
"""

from __future__ import annotations

from pathlib import Path

from modeldeck.core.schema import Gpu

DRM = Path("/sys/class/drm")
VENDOR = "0x1002"
"""PCI vendor of AMD."""


def gpus(first: int = 0) -> tuple[Gpu, ...]:
    """Return the AMD GPUs of this machine in the kernel's order, numbered from `first` on.

    Their free memory stays unknown, as a part of the processor has little memory of its own and
    takes the machine's: whether a load fits must not be decided by that little.
    """
    cards = [path for path in DRM.glob("card*") if path.name.removeprefix("card").isdigit()]
    cards.sort(key=lambda path: int(path.name.removeprefix("card")))
    folders = [card / "device" for card in cards if _text(card / "device/vendor") == VENDOR]
    return tuple(_gpu(first + at, folder) for at, folder in enumerate(folders))


def _gpu(index: int, folder: Path) -> Gpu:
    busy = celsius = watts = None
    if _text(folder / "power/runtime_status") != "suspended":  # older kernels wake it to be read
        busy = _number(folder / "gpu_busy_percent")
        celsius = _sensor(folder, "temp1_input")
        watts = _sensor(folder, "power1_average")
        if watts is None:  # newer chips report only the present power
            watts = _sensor(folder, "power1_input")
    return Gpu(
        index=index,
        name=_text(folder / "product_name") or "AMD GPU",
        total_bytes=_number(folder / "mem_info_vram_total"),
        used_bytes=_number(folder / "mem_info_vram_used"),
        busy=None if busy is None else busy / 100,
        celsius=None if celsius is None else round(celsius / 1000),
        watts=None if watts is None else round(watts / 1_000_000),
    )


def _sensor(folder: Path, name: str) -> int | None:
    """The first value of this name among the sensors of a GPU."""
    found = (_number(path) for path in sorted(folder.glob(f"hwmon/hwmon*/{name}")))
    return next((value for value in found if value is not None), None)


def _text(path: Path) -> str:
    """The content of a file; empty where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None
