"""Loads of real models in a core of a test."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.config.config import Config, RuntimeSettings
from modeldeck.core.config.paths import locate
from modeldeck.core.schema import (
    Instance,
    LoadOptions,
    LoadPlan,
    LoadWish,
    Model,
    ModelSeed,
)
from modeldeck.core.service.deck import Deck
from tests.support.bench import PATIENCE_S

ME = "test"


@asynccontextmanager
async def opened(**runtime: Any) -> AsyncIterator[Deck]:
    """A deck with a setting or two of its own."""
    async with Deck(locate(), Config(runtime=RuntimeSettings(calibrate=False, **runtime))) as deck:
        with deck.feed.subscribe() as news:
            async with asyncio.timeout(PATIENCE_S):
                async for _ in news.batches():
                    if deck.state.runtimes:
                        break
        yield deck


@pytest.fixture
async def deck(home: Path) -> AsyncIterator[Deck]:
    async with opened() as deck:
        yield deck


@pytest.fixture
def tiny(demo_models: Path) -> Path:
    return demo_models / "tiny-GGUF" / "tiny-F16.gguf"


async def added(deck: Deck, path: Path) -> Model:
    return await deck.models.create(ModelSeed(unique=str(path)), ME)


async def spoiled(deck: Deck, tiny: Path, folder: Path) -> Model:
    """A model whose file is none any more."""
    path = folder / "spoiled.gguf"
    shutil.copy(tiny, path)
    model = await added(deck, path)
    path.write_bytes(b"GGUF and nothing else")
    return model


async def planned(deck: Deck, model: Model, *, fresh: bool = False, **options: Any) -> LoadPlan:
    return await deck.instances.plan(
        model.id, LoadWish(options=LoadOptions(**options), fresh=fresh)
    )


async def loaded(deck: Deck, model: Model, **options: Any) -> Instance:
    return await deck.instances.loaded(model.id, LoadWish(options=LoadOptions(**options)), ME)


async def needs(deck: Deck, model: Model, length: int, **options: Any) -> int:
    plan = await planned(deck, model, context_length=length, **options)
    assert plan.forecast is not None
    return plan.forecast.total_bytes


async def budget(deck: Deck, count: int | None) -> None:
    await deck.change_settings({"memory_budget_bytes": count}, ME)
