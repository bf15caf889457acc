"""Deleting files while models are loaded, fetched and listed: who looks, acts in the same step."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.config.config import Config, RuntimeSettings
from modeldeck.core.config.paths import locate
from modeldeck.core.errors import InUse, NotDownloaded, StorageFailed
from modeldeck.core.schema import CacheSelection, LoadOptions, LoadWish, Model, ModelSeed, RepoFile
from modeldeck.core.service.deck import Deck
from modeldeck.core.storage.database import Table
from tests.support.bench import PATIENCE_S

ME = "test"
REPO, COMMIT = "deck/pair-GGUF", "1" * 40
CONFIG = Config(runtime=RuntimeSettings(calibrate=False))
ONE, OTHER = f"{REPO}:Q8_0", f"{REPO}:F16"


@pytest.fixture
async def deck(home: Path) -> AsyncIterator[Deck]:
    async with Deck(locate(), CONFIG) as deck:
        await probed(deck)
        yield deck


async def probed(deck: Deck) -> None:
    """Return when the engines are known."""
    async with asyncio.timeout(PATIENCE_S):
        while not deck.state.runtimes:  # noqa: ASYNC110  # not worth a subscription
            await asyncio.sleep(0.01)


def put(deck: Deck, path: str, content: bytes | Path) -> None:
    """Put a file into the cache, as another tool would."""
    cache = deck._parts.cache.hub
    digit = f"{len(path):x}"[-1]
    data = content if isinstance(content, bytes) else content.read_bytes()
    file = RepoFile(path=path, size_bytes=len(data), blob=digit * 64, lfs=True)
    cache.prepare(REPO)
    cache.partial(REPO, file.blob).write_bytes(data)
    cache.publish(REPO, COMMIT, file, fresh=True)
    cache.set_ref(REPO, "main", COMMIT)


def lies(deck: Deck, path: str) -> bool:
    return deck._parts.cache.hub.pointer(REPO, COMMIT, path).is_file()


@pytest.fixture
async def model(deck: Deck, demo_models: Path) -> Model:
    """A model of the cache that can be loaded."""
    put(deck, "pair-Q8_0.gguf", demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf")
    await deck._parts.library.look(force=True)
    return deck.models.find(ONE)


async def test_a_load_that_is_being_decided_keeps_its_files(
    deck: Deck, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    planner = deck._parts.planner
    decides, go_on, plan = asyncio.Event(), asyncio.Event(), planner.plan

    async def slow(*given: Any) -> Any:
        decides.set()
        await go_on.wait()
        return await plan(*given)

    monkeypatch.setattr(planner, "plan", slow)
    load = asyncio.create_task(deck.instances.load(ONE, LoadWish(), ME))
    async with asyncio.timeout(PATIENCE_S):
        await decides.wait()
        delete = asyncio.create_task(deck.cache.delete(CacheSelection(models=(ONE,)), ME))
        await asyncio.wait({delete}, timeout=0.5)  # it would be done by now
        go_on.set()
        instance = await load
        with pytest.raises(InUse, match="is loaded"):
            await delete
        assert (await deck._parts.engines.ready(instance.id)).state == "ready"
    assert lies(deck, "pair-Q8_0.gguf")


async def test_no_load_begins_while_its_files_are_deleted(
    deck: Deck, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    deletion = deck._parts.deletion
    release, loads = deletion._release, list[asyncio.Task[Any]]()

    async def slow(models: Sequence[Model]) -> None:
        await release(models)
        loads.append(asyncio.create_task(deck.instances.load(ONE, LoadWish(), ME)))
        await asyncio.wait(loads, timeout=0.5)  # it would have begun by now

    monkeypatch.setattr(deletion, "_release", slow)
    async with asyncio.timeout(PATIENCE_S):
        await deck.cache.delete(CacheSelection(models=(ONE,)), ME)
        with pytest.raises(NotDownloaded):
            await loads[0]
    assert not deck.state.instances
    assert not lies(deck, "pair-Q8_0.gguf")


async def test_what_came_while_files_were_let_go_of_is_planned_with(
    deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(deck, "pair-Q8_0.gguf", b"weights")
    put(deck, "mmproj-pair-F16.gguf", b"projector")
    await deck._parts.library.look(force=True)
    deletion = deck._parts.deletion
    release = deletion._release

    async def slow(models: Sequence[Model]) -> None:
        await release(models)
        put(deck, "pair-F16.gguf", b"other weights")  # by another tool, say
        await deck._parts.library.look(force=True)

    monkeypatch.setattr(deletion, "_release", slow)
    receipt = await deck.cache.delete(CacheSelection(models=(ONE,)), ME)
    assert receipt.failed == ()
    assert not lies(deck, "pair-Q8_0.gguf")
    assert lies(deck, "pair-F16.gguf")
    assert lies(deck, "mmproj-pair-F16.gguf")
    assert deck.models.find(OTHER).downloaded


async def test_a_draft_model_is_in_use_as_well(
    deck: Deck, model: Model, demo_models: Path, tmp_path: Path
) -> None:
    path = tmp_path / "big.gguf"
    shutil.copy(demo_models / "tiny-GGUF" / "tiny-F16.gguf", path)
    big = await deck.models.create(ModelSeed(unique=str(path)), ME)
    what = CacheSelection(models=(ONE,))
    async with asyncio.timeout(PATIENCE_S):
        wish = LoadWish(options=LoadOptions(draft_model=ONE))
        await deck.instances.loaded(big.id, wish, ME)
        plan = await deck.cache.plan_deletion(what)
        assert "draft" in plan.blocked[0]
        assert [(gone.model_id, gone.answers) for gone in plan.unloads] == [(big.id, 0)]
        with pytest.raises(InUse, match="draft model of"):
            await deck.cache.delete(what, ME)
        assert lies(deck, "pair-Q8_0.gguf")
        await deck.cache.delete(what, ME, force=True)
    assert not lies(deck, "pair-Q8_0.gguf")
    assert not any(instance.state.live for instance in deck.state.instances.values())


async def test_entries_that_cannot_be_kept_do_not_hold_up_the_deletion(
    deck: Deck, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = deck._parts.library.added
    keep, refusals = library.keep, [StorageFailed("not now")]

    async def once(model: Model) -> None:
        if refusals:
            raise refusals.pop()
        await keep(model)

    monkeypatch.setattr(library, "keep", once)
    receipt = await deck.cache.delete(CacheSelection(models=(ONE,)), ME)
    assert receipt.freed_bytes > 0
    assert deck.models.find(ONE).source == "hub"  # there was room for it afterwards


async def test_one_model_is_added_once_and_taken_off_once(deck: Deck) -> None:
    seed = ModelSeed(name="mine")
    made = await asyncio.gather(
        *(deck.models.create(seed, ME) for _ in range(3)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in made) == ["Conflict", "Conflict", "Model"]
    mine = deck.models.find("custom:mine:")
    gone = await asyncio.gather(
        *(deck.models.delete(mine.id, ME) for _ in range(2)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in gone) == ["NoneType", "NotFound"]


BAD: dict[Table, bytes] = {
    "models": b'{"id":1}',
    "tokens": b"{",
    "options": b'{"context_length":"much"}',
    "measurements": b"[]",
    "calibrations": b"null",
    "jobs": b'{"job":7}',
}


async def test_no_record_that_cannot_be_read_keeps_a_core_from_starting(home: Path) -> None:
    async with Deck(locate(), CONFIG) as deck:
        await probed(deck)
        await deck.models.create(ModelSeed(name="mine"), ME)
        for table, body in BAD.items():
            await deck._parts.store.put(table, f"bad {table}", body)
    async with Deck(locate(), CONFIG) as deck:
        await probed(deck)
        assert deck.models.find("custom:mine:").name == "mine"
        notices = " ".join(deck.state.host.notices)
        for table, body in BAD.items():
            assert f"'bad {table}'" in notices
            assert (f"bad {table}", body) in await deck._parts.store.keyed(table)
