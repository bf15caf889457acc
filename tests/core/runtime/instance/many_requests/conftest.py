"""An instance with three slots, whose engine process follows scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.runtime.process import engine_process
from modeldeck.core.schema import (
    Instance,
    LoadOptions,
)
from tests.support import scripted_engine
from tests.support.bench import Bench


@pytest.fixture
def settings() -> Settings:
    return Settings(context_length=2048, silence_s=60, queue_length=6, unload_grace_s=60)


@pytest.fixture
async def bench(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    scripted_engine.install(tmp_path, monkeypatch)
    monkeypatch.setattr(engine_process, "END_S", 0.2)
    bench = Bench(settings)
    await bench.engines.open()
    yield bench
    await bench.engines.close()


@pytest.fixture
async def instance(bench: Bench, tiny: Path) -> Instance:
    return await bench.loaded(tiny, LoadOptions(parallel=3))
