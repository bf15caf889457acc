"""Downloads as the deck starts and forgets them, when several clients ask at once or one leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modeldeck.core.config.config import Config, HubSettings, RuntimeSettings
from modeldeck.core.config.paths import locate
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import CacheSelection
from modeldeck.core.service.deck import Deck
from tests.support.bench import PATIENCE_S

ME = "test"
TINY = "deck/tiny-GGUF:Q8_0"


@pytest.fixture
async def deck(home: Path, hub: DemoHub) -> AsyncIterator[Deck]:
    config = Config(hub=HubSettings(endpoint=hub.url), runtime=RuntimeSettings(calibrate=False))
    async with Deck(locate(), config) as deck:
        async with asyncio.timeout(PATIENCE_S):
            while not deck.state.runtimes:  # noqa: ASYNC110  # not worth a subscription
                await asyncio.sleep(0.01)
        yield deck


async def fetched(deck: Deck) -> str:
    """The id of a download that is completed."""
    job = await deck.downloads.start(TINY, ME)
    assert job is not None
    async with asyncio.timeout(PATIENCE_S):
        while deck.state.downloads[job.id].state != "completed":  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.01)
    return job.id


async def test_two_who_fetch_what_was_deleted_get_one_download(deck: Deck) -> None:
    await fetched(deck)
    await deck.cache.delete(CacheSelection(models=(TINY,)), ME)
    first, second = await asyncio.gather(
        deck.downloads.start(TINY, ME), deck.downloads.start(TINY, ME)
    )
    assert first is not None
    assert second is not None
    assert first.id == second.id
    assert list(deck.state.downloads) == [first.id]


@pytest.mark.parametrize("rounds", [1, 2, 3, 5, 8])
async def test_a_client_that_leaves_while_it_forgets_a_download_leaves_none_in_state(
    deck: Deck, rounds: int
) -> None:
    key = await fetched(deck)
    call = asyncio.create_task(deck.downloads.remove(key, ME))
    for _ in range(rounds):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait({call})
    assert set(deck.state.downloads) == set(deck._parts.downloads.jobs)


class HeldLooks:
    """Looks at the files of the models that wait until they are let go."""

    def __init__(self, deck: Deck, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.begun = asyncio.Event(), asyncio.Event()
        library = deck._parts.library
        really = library.look

        async def look(**options: bool) -> None:
            self.begun.set()
            await self.go.wait()
            await really(**options)

        monkeypatch.setattr(library, "look", look)


async def test_a_cleared_download_that_is_undone_is_in_state_at_once(
    deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await fetched(deck)
    await deck.downloads.remove(key, ME)
    looks = HeldLooks(deck, monkeypatch)
    await deck.undo(None, ME)
    assert list(deck.state.downloads) == [key]
    looks.go.set()


async def test_a_download_that_goes_while_its_model_is_listed_stays_gone(
    deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = HeldLooks(deck, monkeypatch)
    job = await deck.downloads.start(TINY, ME)
    assert job is not None
    await asyncio.wait_for(looks.begun.wait(), PATIENCE_S)
    await deck.downloads.remove(job.id, ME)
    looks.go.set()
    async with asyncio.timeout(PATIENCE_S):
        while any(  # noqa: ASYNC110  # as above
            task.get_name().startswith("listing") for task in asyncio.all_tasks()
        ):
            await asyncio.sleep(0.01)
    assert dict(deck.state.downloads) == {}


async def test_of_settings_that_are_not_all_good_none_is_taken(deck: Deck) -> None:
    before = deck.state.settings
    with pytest.raises(InvalidRequest):
        await deck.change_settings({"jobs_at_once": 7, "memory_budget_bytes": -1}, ME)
    assert deck.state.settings == before
