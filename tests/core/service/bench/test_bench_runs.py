"""Benchmarks of a real model: their figures, and how they make way for requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from modeldeck.core.config.config import Config, HubSettings, RuntimeSettings
from modeldeck.core.config.paths import locate
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.errors import Conflict, InvalidRequest, NotFound
from modeldeck.core.schema import (
    Bench,
    BenchProgress,
    BenchWish,
    GenerateRequest,
    LoadOptions,
    LoadWish,
    Message,
    Requester,
    last_same,
)
from modeldeck.core.service.bench import figures
from modeldeck.core.service.deck import Deck
from tests.support.bench import PATIENCE_S

ME = "test"
TINY = "deck/tiny-GGUF:Q8_0"
LAPTOP = Requester(who="laptop")
COUNT = GenerateRequest(messages=(Message(role="user", content="count"),), max_tokens=8)


@pytest.fixture
async def deck(home: Path, hub: DemoHub) -> AsyncIterator[Deck]:
    config = Config(hub=HubSettings(endpoint=hub.url), runtime=RuntimeSettings(calibrate=False))
    async with Deck(locate(), config) as deck:
        await until(lambda: bool(deck.state.runtimes))
        await deck.downloads.start(TINY, ME)
        await until(lambda: deck.models.find(TINY).downloaded)
        yield deck


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 (every turn of the loop is looked at)
            await asyncio.sleep(0)


async def ended(deck: Deck) -> BenchProgress:
    """The benchmark once it has ended."""
    await until(lambda: deck.state.bench is not None and not deck.state.bench.live)
    assert deck.state.bench is not None
    return deck.state.bench


async def measured(deck: Deck) -> Bench:
    progress = await ended(deck)
    assert progress.result is not None, progress.error
    return progress.result


async def test_figures_are_kept_and_compared_with_the_last_same(
    deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "SHORT", 128)  # else it takes a minute on a slow machine
    monkeypatch.setattr(figures, "LONG", 512)
    monkeypatch.setattr(figures, "WRITTEN", 16)
    with pytest.raises(Conflict):
        await deck.benches.start(TINY, BenchWish(), ME)  # not loaded, and not told to load it
    started = await deck.benches.start(TINY, BenchWish(load=True), ME)
    with pytest.raises(Conflict):
        await deck.benches.start(TINY, BenchWish(load=True), ME)
    first = await measured(deck)
    assert (first.id, first.runs) == (started.id, 3)
    assert [row.at_once for row in first.rows] == [1, 4]
    for row in first.rows:
        assert row.prompt_tokens_per_s is not None
        assert row.prompt_tokens_per_s > 0
        assert row.long_prompt_tokens_per_s is not None
        assert row.time_to_first_token_s > 0
        assert 100 < row.prompt_tokens < 156
        assert row.long_prompt_tokens is not None
        assert 450 < row.long_prompt_tokens < 574
    speed = deck.models.find(TINY).measured
    assert speed is not None
    assert speed.tokens_per_s == first.rows[0].tokens_per_s
    assert deck.requests.all() == ()  # its own requests leave no record

    await deck.benches.start(TINY, BenchWish(), ME)
    second = await measured(deck)
    assert deck.benches.all(TINY) == (second, first)
    assert last_same(deck.benches.all(), second) == first
    with pytest.raises(InvalidRequest, match="4 at once, not for 8"):
        await deck.benches.start(TINY, BenchWish(at_once=(8,)), ME)


async def test_a_request_of_another_ends_it_at_once(deck: Deck) -> None:
    await deck.instances.loaded(TINY, LoadWish(options=LoadOptions()), ME)
    await deck.benches.start(TINY, BenchWish(), ME)
    await until(lambda: deck.state.bench is not None and deck.state.bench.state == "measuring")
    async with deck.inference.answer(deck.models.find(TINY), COUNT, LAPTOP) as reply:
        assert [chunk async for chunk in reply.chunks][-1].finish_reason is not None
    progress = await ended(deck)
    assert progress.state == "stopped"
    assert progress.error is not None
    assert "laptop asked" in progress.error.message
    assert deck.benches.all() == ()


async def test_it_waits_for_requests_that_run_and_can_be_cancelled_then(deck: Deck) -> None:
    await deck.instances.loaded(TINY, LoadWish(options=LoadOptions()), ME)
    async with deck.inference.answer(deck.models.find(TINY), COUNT, LAPTOP) as reply:
        await deck.benches.start(TINY, BenchWish(), ME)
        await until(lambda: deck.state.bench is not None and bool(deck.state.bench.waits_for))
        assert deck.state.bench is not None
        assert (deck.state.bench.state, deck.state.bench.waits_for) == ("waiting", "laptop")
        await deck.benches.cancel(LAPTOP)
        assert (await ended(deck)).state == "stopped"
        async for _ in reply.chunks:
            pass
    with pytest.raises(NotFound):
        await deck.benches.cancel(LAPTOP)


async def test_what_a_model_is_loaded_with_for_it_is_not_remembered(deck: Deck) -> None:
    before = await deck.instances.plan(TINY, LoadWish(options=LoadOptions()))
    await deck.benches.start(TINY, BenchWish(at_once=(2,), load=True), ME)
    await until(lambda: deck.state.bench is not None and deck.state.bench.state == "measuring")
    await deck.benches.cancel(LAPTOP)
    await ended(deck)
    (instance,) = deck.state.instances.values()
    assert instance.parallel == 2
    await deck.instances.unload(instance.id, ME)
    after = await deck.instances.plan(TINY, LoadWish(options=LoadOptions()))
    assert (after.options, after.origins) == (before.options, before.origins)
