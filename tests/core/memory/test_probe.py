import doctest
import mmap
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.memory import amd, apple, nvidia, probe
from modeldeck.core.memory.probe import linux_process, linux_system
from modeldeck.core.schema import Gpu, Memory

KIB = 1024
MIB = 1 << 20

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_the_examples_in_the_documentation_hold() -> None:
    for module in (probe, apple):
        result = doctest.testmod(module)
        assert result.attempted
        assert not result.failed


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


MEMINFO = (
    "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    600 kB\n"
    "SwapTotal:  200 kB\nSwapFree:  150 kB\nHugePages_Total:  0\n"
)
STAT = "anon 5\ninactive_file 1024\nactive_file 2048\nodd line here\n"
STAT_1 = "total_inactive_file 1024\ntotal_active_file 2048\n"


@pytest.mark.parametrize(
    ("groups", "total", "available"),
    [
        ({}, 1000, 600),
        ({"memory.max": "max\n", "memory.current": "9\n"}, 1000, 600),
        # A container of 400 kB that holds 300 kB, of which 3 kB are pages of files.
        (
            {
                "memory.max": str(400 * KIB),
                "memory.current": str(300 * KIB),
                "memory.stat": STAT,
            },
            400,
            103,
        ),
        (
            {"a/b/memory.max": str(500 * KIB), "a/b/memory.current": "0", "a/memory.max": "max"},
            500,
            500,
        ),
        (
            {"a/memory.max": str(300 * KIB), "a/memory.current": str(301 * KIB)},
            300,
            0,
        ),
        (
            {
                "memory/m/memory.limit_in_bytes": str(400 * KIB),
                "memory/m/memory.usage_in_bytes": str(300 * KIB),
                "memory/m/memory.stat": STAT_1,
            },
            400,
            103,
        ),
        (
            {
                "memory/memory.limit_in_bytes": str(9223372036854771712),
                "memory/memory.usage_in_bytes": "5",
            },
            1000,
            600,
        ),
    ],
)
def test_memory_is_what_the_system_and_the_control_groups_leave(
    tmp_path: Path, groups: dict[str, str], total: int, available: int
) -> None:
    proc = write(
        tmp_path / "proc",
        {"meminfo": MEMINFO, "self/cgroup": "4:cpu,memory:/m\n3:pids:/p\n0::/a/b\n"},
    )
    memory = linux_system(proc, write(tmp_path / "cgroup", groups))
    assert memory.total_bytes == total * KIB
    assert memory.available_bytes == available * KIB
    assert memory.swap_used_bytes == 50 * KIB


def test_what_is_not_told_is_unknown(tmp_path: Path) -> None:
    assert linux_system(tmp_path, tmp_path) == Memory()
    write(tmp_path, {"meminfo": "MemTotal: 5 kB\n"})
    assert linux_system(tmp_path, tmp_path) == Memory(total_bytes=5 * KIB)


def test_a_process_is_read_from_its_files(tmp_path: Path) -> None:
    rollup = (
        "00400000-7fff ---p 00000000 00:00 0   [rollup]\n"
        "Rss: 100 kB\nPss: 60 kB\nPrivate_Clean: 10 kB\nPrivate_Dirty: 30 kB\n"
    )
    write(tmp_path, {"7/status": "VmHWM:\t 150 kB\nVmRSS:\t 100 kB\n", "7/smaps_rollup": rollup})
    memory = linux_process(7, tmp_path)
    assert memory is not None
    assert (memory.rss_bytes, memory.pss_bytes) == (100 * KIB, 60 * KIB)
    assert (memory.private_bytes, memory.peak_bytes) == (40 * KIB, 150 * KIB)


def test_a_process_of_somebody_else_tells_less_and_one_that_ended_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"7/status": "VmRSS: 100 kB\n", "8/status": "Name: x\nState: Z (zombie)\n"})
    memory = linux_process(7, tmp_path)
    assert memory is not None
    assert (memory.rss_bytes, memory.pss_bytes, memory.private_bytes) == (100 * KIB, None, None)
    assert linux_process(8, tmp_path) is None
    assert linux_process(9, tmp_path) is None


@linux
def test_memory_that_is_taken_is_seen() -> None:
    before = probe.process(os.getpid())
    assert before is not None
    with mmap.mmap(-1, 64 * MIB) as taken:
        taken.write(b"x" * (64 * MIB))
        held = probe.process(os.getpid())
        assert held is not None
        assert held.private_bytes is not None
        assert before.private_bytes is not None
        assert held.private_bytes - before.private_bytes > 48 * MIB
        assert held.peak_bytes is not None
        assert held.peak_bytes >= held.rss_bytes
    after = probe.process(os.getpid())
    assert after is not None
    assert after.private_bytes is not None
    assert held.private_bytes - after.private_bytes > 48 * MIB


def test_the_machine_has_memory_and_other_systems_are_asked_through_psutil() -> None:
    ours, theirs = probe.system(), probe._psutil_system()
    for memory in (ours, theirs):
        assert memory.total_bytes is not None
        assert memory.available_bytes is not None
        assert 0 < memory.available_bytes <= memory.total_bytes
    mine = probe._psutil_process(os.getpid())
    assert mine is not None
    assert mine.rss_bytes > MIB


def test_a_process_that_is_gone_has_no_memory() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert probe.process(ended.pid) is None
    assert probe._psutil_process(ended.pid) is None


def test_free_disk_is_told_also_for_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    free = probe.free_disk(tmp_path / "not" / "yet")
    assert free is not None
    assert free > 0


def test_nvidia_is_unknown_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "NAMES", ("libno-such-library.so.1",))
    nvidia._library.cache_clear()
    assert nvidia.gpus() == ()
    nvidia._library.cache_clear()


class FakeNvml:
    """An NVML with one GPU; what is in `unknown` is not supported, as on older chips."""

    def __init__(self, *unknown: str, missing: str = "") -> None:
        self.unknown = unknown
        self.missing = missing

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml") or name == self.missing:
            raise AttributeError(name)  # as ctypes does
        if name in self.unknown:
            return lambda *_: 3  # NVML_ERROR_NOT_SUPPORTED
        return getattr(self, f"_{name.removeprefix('nvml').removesuffix('_v2')}")

    def _DeviceGetCount(self, count: Any) -> int:
        count._obj.value = 1
        return nvidia.SUCCESS

    def _DeviceGetHandleByIndex(self, index: int, device: Any) -> int:
        device._obj.value = 7
        return nvidia.SUCCESS

    def _DeviceGetName(self, device: Any, name: Any, length: int) -> int:
        name.value = b"RTX 4090"
        return nvidia.SUCCESS

    def _DeviceGetMemoryInfo(self, device: Any, memory: Any) -> int:
        memory._obj.total, memory._obj.free, memory._obj.used = 24, 15, 9
        return nvidia.SUCCESS

    def _DeviceGetUtilizationRates(self, device: Any, rates: Any) -> int:
        rates._obj.gpu, rates._obj.memory = 34, 12
        return nvidia.SUCCESS

    def _DeviceGetTemperature(self, device: Any, sensor: int, found: Any) -> int:
        assert sensor == 0, "the chip's own"
        found._obj.value = 61
        return nvidia.SUCCESS

    def _DeviceGetPowerUsage(self, device: Any, found: Any) -> int:
        found._obj.value = 147_600
        return nvidia.SUCCESS


WHOLE = Gpu(
    index=0, name="RTX 4090", total_bytes=24, used_bytes=9, free_bytes=15, busy=0.34, celsius=61,
    watts=148,
)  # fmt: skip


@pytest.mark.parametrize(
    ("unknown", "found"),
    [
        ((), WHOLE),
        (("nvmlDeviceGetPowerUsage",), replace(WHOLE, watts=None)),
        (("nvmlDeviceGetTemperature",), replace(WHOLE, celsius=None)),
        (("nvmlDeviceGetUtilizationRates",), replace(WHOLE, busy=None)),
        (
            ("nvmlDeviceGetMemoryInfo",),
            replace(WHOLE, total_bytes=None, used_bytes=None, free_bytes=None),
        ),
    ],
)
def test_nvidia_tells_load_heat_and_power(
    monkeypatch: pytest.MonkeyPatch, unknown: tuple[str, ...], found: Gpu
) -> None:
    monkeypatch.setattr(nvidia, "_library", lambda: FakeNvml(*unknown))
    assert nvidia.gpus() == (found,)
    monkeypatch.setattr(nvidia, "_library", lambda: FakeNvml(missing="nvmlDeviceGetPowerUsage"))
    assert nvidia.gpus() == (replace(WHOLE, watts=None),), "an old library"


CARD = {
    "card1/device/vendor": "0x1002\n",
    "card1/device/product_name": "Radeon RX 7900 XTX\n",
    "card1/device/mem_info_vram_total": "25753026560\n",
    "card1/device/mem_info_vram_used": "1048576\n",
    "card1/device/gpu_busy_percent": "34\n",
    "card1/device/hwmon/hwmon4/temp1_input": "60800\n",
    "card1/device/hwmon/hwmon4/power1_average": "147600000\n",
}
RADEON = Gpu(
    index=0, name="Radeon RX 7900 XTX", total_bytes=25_753_026_560, used_bytes=MIB, busy=0.34,
    celsius=61, watts=148,
)  # fmt: skip


@pytest.fixture
def drm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in the place of the kernel's, for the files of graphics cards."""
    monkeypatch.setattr(amd, "DRM", tmp_path)
    return tmp_path


class TwoCards(FakeNvml):
    """An NVML with two GPUs, of which one cannot be read, as when it has fallen off the bus."""

    def __init__(self, lost: int) -> None:
        super().__init__()
        self.lost = lost

    def _DeviceGetCount(self, count: Any) -> int:
        count._obj.value = 2
        return nvidia.SUCCESS

    def _DeviceGetHandleByIndex(self, index: int, device: Any) -> int:
        device._obj.value = 7
        return 15 if index == self.lost else nvidia.SUCCESS  # NVML_ERROR_GPU_IS_LOST


@pytest.mark.parametrize("lost", [0, 1])
def test_a_card_that_cannot_be_read_keeps_its_number(
    monkeypatch: pytest.MonkeyPatch, drm: Path, lost: int
) -> None:
    write(drm, CARD)
    monkeypatch.setattr(nvidia, "_library", lambda: TwoCards(lost))
    assert [gpu.index for gpu in probe.system().gpus] == [1 - lost, 2]


def test_amd_tells_memory_load_heat_and_power(drm: Path) -> None:
    assert amd.gpus() == ()
    write(drm, {"card1-DP-1/status": "connected", "card0/device/vendor": "0x8086", **CARD})
    assert amd.gpus() == (RADEON,)
    assert amd.gpus(2) == (replace(RADEON, index=2),), "behind those of NVIDIA"
    power = {"card10/device/hwmon/hwmon0/power1_input": "9400000", "card10/device/vendor": "0x1002"}
    write(drm, power)
    assert amd.gpus() == (RADEON, Gpu(index=1, name="AMD GPU", watts=9))


def test_an_amd_gpu_that_sleeps_is_not_woken_to_tell_its_load(drm: Path) -> None:
    write(drm, {**CARD, "card1/device/power/runtime_status": "suspended"})
    assert amd.gpus() == (replace(RADEON, busy=None, celsius=None, watts=None),)
    write(drm, {"card1/device/power/runtime_status": "active"})
    assert amd.gpus() == (RADEON,)


def test_an_amd_gpu_stands_behind_those_of_nvidia(
    monkeypatch: pytest.MonkeyPatch, drm: Path
) -> None:
    write(drm, CARD)
    monkeypatch.setattr(nvidia, "_library", lambda: FakeNvml())
    assert probe.system().gpus == (WHOLE, replace(RADEON, index=1))


@pytest.mark.skipif(nvidia._library() is None, reason="no NVIDIA driver")
def test_nvidia_processors_tell_their_memory() -> None:
    for gpu in nvidia.gpus():
        assert gpu.name
        assert gpu.total_bytes is not None
        assert gpu.used_bytes is not None
        assert gpu.free_bytes is not None
        assert gpu.used_bytes + gpu.free_bytes <= gpu.total_bytes


def test_the_footprint_is_read_where_the_kernel_puts_it() -> None:
    # struct rusage_info_v4: a UUID, then 35 numbers; here each is its own place.
    found = apple.from_rusage(struct.pack("<16s35Q", b"", *range(35)))
    assert (found.rss_bytes, found.footprint_bytes, found.peak_bytes) == (6, 7, 28)
    assert found.private_bytes == found.footprint_bytes


def test_a_machine_that_is_no_mac_has_no_apple_gpu() -> None:
    assert apple.gpu(b"Apple M3 Max\0", (1 << 15).to_bytes(4, "little")).total_bytes == 32 << 30
    unset = apple.gpu(b"Apple M3 Max\0", bytes(4))
    assert (unset.name, unset.total_bytes) == ("Apple M3 Max", None)
    if sys.platform != "darwin":
        assert apple.process(os.getpid()) is None
        assert apple.gpus() == ()
