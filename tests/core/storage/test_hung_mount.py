"""A core some of whose files lie on a mount that hangs: the rest of it works, and it ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.api.ollama import models
from modeldeck.core.config.config import Config, RuntimeSettings
from modeldeck.core.config.paths import locate
from modeldeck.core.errors import StorageTimeout
from modeldeck.core.hub_cache import scan
from modeldeck.core.schema import CacheSelection, ModelSeed
from modeldeck.core.service import sampler
from modeldeck.core.service.deck import Deck
from modeldeck.core.service.library import disk_scan, library, verification
from modeldeck.core.storage import foreign_files


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_scan, "CHECK_S", 0.5)
    monkeypatch.setattr(library, "SCAN_S", 10.0)
    monkeypatch.setattr(sampler, "SCAN_S", 10.0)
    monkeypatch.setattr(models, "LOOK_S", 0.1)
    monkeypatch.setattr(verification, "STALL_S", 0.2)
    monkeypatch.setattr(verification, "LEAVE_S", 0.1)
    monkeypatch.setattr(verification, "TICK_S", 0.02)
    defaults = foreign_files.in_file_thread.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "limit_s", 5.0)


class Mount:
    """A folder whose calls hang while it is down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_up = threading.Event()
        self.is_up.set()

    def waits(self, path: Any) -> None:
        if not isinstance(path, int) and os.fspath(path).startswith(f"{self.folder}/"):
            self.is_up.wait(60)


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mount]:
    mount = Mount(tmp_path / "mount")
    mount.folder.mkdir()
    for name in ("stat", "open"):
        really = getattr(os, name)

        def call(path: Any, *args: Any, _really: Any = really, **more: Any) -> Any:
            mount.waits(path)
            return _really(path, *args, **more)

        monkeypatch.setattr(os, name, call)
    yield mount
    mount.is_up.set()


async def probed(deck: Deck) -> None:
    """Wait for the engines' probes: their processes end with them."""
    with deck.feed.subscribe() as news:
        async with asyncio.timeout(60):
            async for _ in news.batches():
                if deck.state.runtimes:
                    return


@pytest.fixture
async def deck(home: Path) -> AsyncIterator[Deck]:
    async with Deck(locate(), Config(runtime=RuntimeSettings(calibrate=False))) as deck:
        await probed(deck)
        yield deck


async def custom(deck: Deck, path: Path, sound: Path) -> str:
    shutil.copy(sound, path)
    return (await deck.models.create(ModelSeed(unique=str(path)), "test")).id


async def test_a_custom_model_on_it_costs_that_model_alone(
    deck: Deck, mount: Mount, tmp_path: Path, demo_models: Path
) -> None:
    sound = demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf"
    hung = await custom(deck, mount.folder / "hung.gguf", sound)
    fine = await custom(deck, tmp_path / "fine.gguf", sound)
    mount.is_up.clear()
    await deck._parts.library.look(force=True)
    fits = await deck.models.fits()
    assert fits[fine].verdict != "unknown"
    assert fits[hung].verdict == "unknown"
    assert "an earlier attempt still waits for it" in (fits[hung].reason or "")
    assert deck.models.find(hung).downloaded  # as it was before: it cannot be known now
    assert deck.health().status == "degraded"
    with pytest.raises(StorageTimeout, match=r"hung\.gguf"):
        await deck.models.chat_template(deck.models.find(hung))
    with pytest.raises(StorageTimeout):
        await deck.models.create(ModelSeed(unique=str(mount.folder / "other.gguf")), "test")
    assert await deck.models.chat_template(deck.models.find(fine))
    mount.is_up.set()


async def test_a_check_of_the_cache_that_hangs_says_so(
    deck: Deck, mount: Mount, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    repo = home.parent / "hf" / "hub" / "models--a--b"
    blob = repo / "blobs" / ("a" * 64)
    pointer = repo / "snapshots" / ("c" * 40) / "model.gguf"
    for path in (blob, pointer):
        path.parent.mkdir(parents=True)
    blob.write_bytes(b"x")
    pointer.symlink_to(Path("..", "..", "blobs", blob.name))
    really = foreign_files.open_regular

    def hanging(path: Any, **more: Any) -> Any:
        mount.is_up.wait(60)
        return really(path, **more)

    monkeypatch.setattr(scan, "open_regular", hanging)
    mount.is_up.clear()
    with deck.feed.subscribe() as news:
        key = (await deck.cache.verify(CacheSelection(), "test")).id
        async with asyncio.timeout(60):
            async for _ in news.batches():
                check = deck.state.verifications[key]
                if check.state in ("completed", "failed", "canceled"):
                    break
    assert check.state == "failed"
    assert check.error is not None
    assert check.error.code == "storage_timeout"
    assert "did not answer" in check.error.message


ENDS = """
import asyncio, os, sys, threading
from modeldeck.core.config.config import Config, RuntimeSettings
from modeldeck.core.service.deck import Deck
from modeldeck.core.config.paths import locate
from modeldeck.core.schema import ModelSeed
from modeldeck.core.service.library import disk_scan

disk_scan.CHECK_S = 0.1
never, down, really = threading.Event(), threading.Event(), os.stat

def stat(path, *args, **more):
    if down.is_set() and not isinstance(path, int) and "model-" in os.fspath(path):
        never.wait()
    return really(path, *args, **more)

async def main():
    async with Deck(locate(), Config(runtime=RuntimeSettings(calibrate=False))) as deck:
        for path in sys.argv[1:]:
            await deck.models.create(ModelSeed(unique=path), "test")
        down.set()
        await deck._parts.library.look(force=True)
        await asyncio.wait_for(deck.refresh(), 60)
        print(deck.health().status, flush=True)

os.stat = stat
asyncio.run(main())
print("ended", flush=True)
"""


def test_the_program_ends_with_files_that_hang(
    home: Path, tmp_path: Path, demo_models: Path
) -> None:
    paths = [tmp_path / f"model-{number}.gguf" for number in range(12)]
    for path in paths:
        shutil.copy(demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf", path)
    done = subprocess.run(
        [sys.executable, "-c", ENDS, *map(str, paths)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout == "degraded\nended\n", done.stderr


async def test_a_cache_that_hangs_holds_up_neither_the_start_nor_the_state(
    mount: Mount, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(library, "OPEN_S", 0.2)
    monkeypatch.setattr(sampler, "COUNT_S", 0.1)
    really = os.scandir

    def hanging(path: Any) -> Any:
        is_hub = not isinstance(path, int) and "hub" in os.fspath(path)
        mount.waits(f"{mount.folder}/x" if is_hub else path)
        return really(path)

    monkeypatch.setattr(os, "scandir", hanging)
    (home.parent / "hf" / "hub").mkdir(parents=True)
    mount.is_up.clear()
    async with (
        asyncio.timeout(60),
        Deck(locate(), Config(runtime=RuntimeSettings(calibrate=False))) as deck,
    ):
        assert (await deck.refresh()).models
        assert (await deck.refresh()).disk.cache_bytes is None
        with pytest.raises(StorageTimeout, match="hub"):
            await deck.cache.listing()
        mount.is_up.set()
        while deck.state.disk.cache_bytes is None:
            await deck._parts.sampler.count_disk()
        await probed(deck)
    assert deck.health().status in ("ok", "degraded")
