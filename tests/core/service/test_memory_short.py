"""A prefix cache gives its memory back when the machine runs short, before anything is unloaded."""

from __future__ import annotations

import asyncio
from pathlib import Path

from modeldeck.core.config.config import Config, RuntimeSettings
from modeldeck.core.config.paths import locate
from modeldeck.core.schema import (
    GenerateRequest,
    LoadOptions,
    LoadWish,
    Model,
    ModelSeed,
    Requester,
)
from modeldeck.core.service.deck import Deck

PATIENCE_S = 60.0
TOO_MUCH = 1 << 50
"""A reserve that no machine has."""


async def cached(deck: Deck, model: Model, text: str) -> int:
    """Ask for a word; how many tokens of the prompt were found in a cache."""
    request = GenerateRequest(prompt=text, max_tokens=1)
    async with deck.inference.answer(model, request, Requester(who="me")) as reply:
        chunks = [chunk async for chunk in reply.chunks]
    return chunks[-1].cached_tokens or 0


async def test_the_prefix_cache_shrinks(home: Path, demo_models: Path) -> None:
    runtime = RuntimeSettings(calibrate=False)
    one, other = ("one two three " * 400, "four five six " * 400)
    async with Deck(locate(), Config(runtime=runtime)) as deck:
        path = demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf"
        model = await deck.models.create(ModelSeed(unique=str(path), name="tiny"), "test")
        wish = LoadWish(options=LoadOptions(context_length=4096, parallel=1))
        instance = await deck.instances.loaded(model.id, wish, "test")
        await cached(deck, model, one)
        await cached(deck, model, other)

        def held() -> int:
            return deck.state.instances[instance.id].prefix_cache_bytes or 0

        assert held()
        deck._parts.sampler._reserve_bytes = TOO_MUCH  # as if that were in use by others
        async with asyncio.timeout(PATIENCE_S):
            while held():  # noqa: ASYNC110 - nothing tells the end of a sample
                await asyncio.sleep(0.02)
        assert deck.state.instances[instance.id].state.live, "it stays loaded"
        assert await cached(deck, model, one) < 10, "what was kept of it is gone"


async def test_a_prefix_cache_shrinks_for_another_load_before_its_model_goes(
    home: Path, demo_models: Path
) -> None:
    runtime = RuntimeSettings(calibrate=False, prefix_cache_bytes=64 << 20)
    text, other = ("one two three " * 400, "four five six " * 400)
    async with Deck(locate(), Config(runtime=runtime)) as deck:
        folder = demo_models / "tiny-GGUF"
        first, second = [
            await deck.models.create(ModelSeed(unique=str(folder / f"tiny-{kind}.gguf")), "test")
            for kind in ("Q8_0", "F16")
        ]
        wish = LoadWish(options=LoadOptions(context_length=4096, parallel=1))
        instance = await deck.instances.loaded(first.id, wish, "test")
        assert instance.forecast is not None
        limit = instance.forecast.prefix_cache_bytes
        assert limit == 64 << 20
        await cached(deck, first, text)
        await cached(deck, first, other)
        assert await cached(deck, first, text) > 1000, "it was kept"
        await deck.change_settings({"memory_budget_bytes": 1 << 40}, "test")
        taken = (1 << 40) - (deck._parts.fit_checker.budget_left() or 0)
        needed = (await deck.instances.plan(second.id, wish)).forecast
        assert needed is not None
        short = limit - (1 << 20)
        budget = taken + needed.total_bytes - short
        await deck.change_settings({"memory_budget_bytes": budget}, "test")
        plan = await deck.instances.plan(second.id, wish)
        assert (plan.verdict, plan.evictions) == ("fits", ())
        assert any(note.startswith("prefix caches of other models give") for note in plan.notes)
        fit = await deck.models.fit(second.id, 4096)
        assert fit.verdict == "fits", "the catalog says so too"
        await deck.instances.loaded(second.id, wish, "test")
        live = {i.model_id: i for i in deck.state.instances.values() if i.state.live}
        assert live.keys() == {first.id, second.id}
        now = live[first.id]
        assert now.id == instance.id
        assert now.forecast is not None
        assert now.forecast.prefix_cache_bytes <= 1 << 20
        assert (now.prefix_cache_bytes or 0) <= 1 << 20
        assert await cached(deck, first, other) < 10, "what was kept of it is gone"
