"""What an unload gives back, by what the system says."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from modeldeck.core.memory import probe
from modeldeck.core.runtime.instance.receipt import receipt
from modeldeck.core.schema import Engine, Instance, InstanceState, LoadOptions, ProcessMemory
from tests.support.bench import PATIENCE_S, Bench, alive

MIB = 1 << 20
RECORD = Instance(
    id="i", model_id="m", unique="u", state=InstanceState.STOPPING, engine="llama.cpp", pid=7
)


def memory(
    pss: int | None, private: int | None, *, rss: int = 900, mapped: int | None = None
) -> ProcessMemory:
    def mib(count: int | None) -> int | None:
        return None if count is None else count * MIB

    return ProcessMemory(
        rss_bytes=rss * MIB,
        pss_bytes=mib(pss),
        private_bytes=mib(private),
        mapped_bytes=mib(mapped),
    )


@pytest.mark.parametrize(
    ("before", "after", "gone", "freed", "words"),
    [
        (memory(500, 495), None, True, 500, None),
        (memory(None, None), None, True, 900, None),
        (None, None, True, None, None),
        # Half of the pages are another program's as well: they stay where they are.
        (memory(550, 50, mapped=1000), None, True, 50, "500 MiB are pages of files"),
        (memory(500, 495), memory(100, 100), False, 400, "100 MiB is still held by process 7"),
        (memory(500, 495), None, False, None, "its memory is still held by process 7"),
    ],
)
def test_what_did_not_come_back_is_said_with_who_holds_it(
    before: ProcessMemory | None,
    after: ProcessMemory | None,
    gone: bool,
    freed: int | None,
    words: str | None,
) -> None:
    found = receipt(RECORD, before, after, seconds=0.1, gone=gone)
    assert found.freed_bytes == (None if freed is None else freed * MIB)
    assert found.process_gone is gone
    if words is None:
        assert found.not_freed is None
    else:
        assert words in (found.not_freed or "")


@pytest.mark.parametrize(
    ("engine", "kept"),
    [("llama.cpp", 20), ("mlx", 0)],  # libraries of MLX, which maps no weights
)
def test_libraries_that_engines_share_count_as_freed(engine: Engine, kept: int) -> None:
    found = receipt(replace(RECORD, engine=engine), memory(100, 80), None, seconds=0.1, gone=True)
    assert found.freed_bytes == (100 - kept) * MIB
    assert (found.not_freed is None) is (kept == 0)


class MeasuredTwice:
    """Measures a process, and has psutil measure it at the same time.

    What it shares changes with each engine of another test, which maps the same libraries. So it is
    measured until psutil says the same before and afterwards.
    """

    def __init__(self) -> None:
        self.seen: list[Any] = []
        """What psutil said, for each time."""

    def __call__(self, pid: int) -> ProcessMemory | None:
        process, late = psutil.Process(pid), time.monotonic() + PATIENCE_S
        while True:
            before = process.memory_full_info()
            found = probe.process(pid)
            after = process.memory_full_info()
            if max(abs(before.pss - after.pss), abs(before.uss - after.uss)) < MIB:
                self.seen.append(after)
                return found
            assert time.monotonic() < late, "what is shared does not stop changing"


@pytest.mark.parametrize("mmap", [True, False])
async def test_a_receipt_is_what_the_system_says(
    bench: Bench, demo_models: Path, mmap: bool
) -> None:
    path = demo_models / "padded-GGUF" / "padded-F16.gguf"
    instance = await bench.loaded(path, LoadOptions(mmap=mmap))
    await bench.answer(instance, "count " + "bla " * 100)
    assert instance.pid is not None
    bench.engines._measure_process = measured = MeasuredTwice()
    await bench.engines.sample()
    sampled = bench.last(instance)
    found = await bench.engines.unload(instance.id)
    first, last = measured.seen
    assert sampled.measured_bytes == pytest.approx(first.pss, abs=2 * MIB)
    assert sampled.private_bytes == pytest.approx(first.uss, abs=2 * MIB)
    near: Any = pytest.approx(last.pss, abs=2 * MIB)
    assert (found.before_bytes, found.freed_bytes) == (near, near)
    assert found.mapped_bytes is not None
    assert (found.mapped_bytes > path.stat().st_size) is mmap, (
        "weights are told from private memory"
    )
    assert sampled.mapped_bytes == pytest.approx(found.mapped_bytes, abs=MIB)
    assert (found.after_bytes, found.process_gone, found.not_freed) == (0, True, None)
    assert not alive(instance.pid)


async def test_weights_that_two_processes_map_do_not_come_back_with_the_first(
    bench: Bench, demo_models: Path, tmp_path: Path
) -> None:
    path = demo_models / "padded-GGUF" / "padded-F16.gguf"
    link = tmp_path / "same.gguf"
    link.symlink_to(path)
    first, second = await bench.loaded(path), await bench.loaded(link)
    receipts = [await bench.engines.unload(instance.id) for instance in (first, second)]
    size = path.stat().st_size
    one, two = (found.freed_bytes or 0 for found in receipts)
    assert "another process maps" in (receipts[0].not_freed or "")
    assert receipts[1].not_freed is None
    assert one + size * 3 // 4 < two
