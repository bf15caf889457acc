"""Lives of instances, many of them: nothing is left behind in the core.

`pytest -m slow tests/core/runtime/test_endurance.py` has 200; the suite has some, of each engine.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from modeldeck.core.demo.model_writer import expected
from modeldeck.core.schema import LoadOptions
from tests.support.bench import PATIENCE_S, Bench, alive

RSS_BYTES = 10 << 20
"""What the core may grow: less than a byte a cycle is lost for good, but the heap is not dense."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """What this process holds."""

    descriptors: int
    threads: int
    children: int
    files: int
    rss_bytes: int

    @classmethod
    def now(cls, folder: Path) -> Holds:
        """Counted now; `folder` is where temporary files go."""
        gc.collect()
        for thread in threading.enumerate():
            if thread.name.startswith("waitpid"):  # asyncio's, for a process that has ended
                thread.join(PATIENCE_S)
        own = psutil.Process()
        return cls(
            descriptors=len(os.listdir("/proc/self/fd")),
            threads=threading.active_count(),
            children=len(own.children(recursive=True)),
            files=len(os.listdir(folder)),
            rss_bytes=own.memory_info().rss,
        )


async def live(bench: Bench, path: Path) -> None:
    """One life: loaded, asked, unloaded; now and then called off while it loads."""
    instance = await bench.loaded(path, LoadOptions(context_length=512))
    assert await bench.answer(instance, "count") == expected("count")
    receipt = await bench.engines.unload(instance.id)
    assert receipt.process_gone
    assert instance.pid is not None
    assert not alive(instance.pid)
    bench.changes.clear()
    bench.lines.clear()


async def endure(bench: Bench, path: Path, folder: Path, cycles: int) -> None:
    """Live so often, and compare what is held after the first lives with what is in the end."""
    # One thread, since asyncio starts a further one where the last one is not quite done.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    for _ in range(3):
        await live(bench, path)
    before = Holds.now(folder)
    for _ in range(cycles):
        await live(bench, path)
    after = Holds.now(folder)
    assert after.descriptors == before.descriptors
    assert after.threads == before.threads
    assert after.children == before.children
    assert after.files == before.files
    assert after.rss_bytes - before.rss_bytes < RSS_BYTES
    assert bench.engines.instances == {}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


async def test_some_lives_leave_nothing_behind(bench: Bench, tiny: Path, folder: Path) -> None:
    await endure(bench, tiny, folder, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-GGUF/tiny-F16.gguf", "tiny-mlx"])
async def test_two_hundred_lives_leave_nothing_behind(
    bench: Bench, demo_models: Path, folder: Path, name: str
) -> None:
    await endure(bench, demo_models / name, folder, 200)
