"""Engines on real models, one set per test, ended after it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modeldeck.core.config.config import RuntimeSettings as Settings
from tests.support.bench import Bench


@pytest.fixture
def settings() -> Settings:
    return Settings(context_length=2048)


@pytest.fixture
async def bench(settings: Settings) -> AsyncIterator[Bench]:
    bench = Bench(settings)
    await bench.engines.open()
    yield bench
    await bench.engines.close()


@pytest.fixture
def tiny(demo_models: Path) -> Path:
    return demo_models / "tiny-GGUF" / "tiny-F16.gguf"
