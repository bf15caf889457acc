import doctest
import mmap
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from modeldeck.core.memory import apple, nvidia, probe
from modeldeck.core.memory.probe import linux_process, linux_system
from modeldeck.core.schema import Memory

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
