"""The state folder on a disk that is really full: what is refused is not done, in memory either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldeck.core.config.config import Config, RuntimeSettings
from modeldeck.core.config.paths import locate
from modeldeck.core.errors import NotEnoughDisk, StorageFailed
from modeldeck.core.schema import Forecast, LoadOptions, LoadRecord, Model, ModelSeed
from modeldeck.core.service.deck import Deck
from modeldeck.core.service.loading import measurements
from modeldeck.core.service.loading.measurements import LoadHistory
from modeldeck.core.service.loading.options import OptionResolver
from modeldeck.core.storage.api_tokens import ApiTokens
from modeldeck.core.storage.audit import AuditTrail
from modeldeck.core.storage.database import Database

if TYPE_CHECKING:
    from tests.core.conftest import SmallDisk

ME = "test"
PATIENCE_S = 60.0
CONFIG = Config(runtime=RuntimeSettings(calibrate=False))
PLAIN = Forecast(
    total_bytes=4, weights_bytes=1, kv_bytes=1, compute_bytes=1, overhead_bytes=1, exact=True
)
RECORD = LoadRecord(at="", unique="a", engine="llama.cpp", forecast=PLAIN, peak_bytes=1)
MODEL = Model(id="m", unique="a/b:Q8_0", name="m", format="gguf", source="hub")


@pytest.fixture
async def store(small_disk: SmallDisk) -> AsyncIterator[Database]:
    """An open store that lies on the small disk."""
    store = Database(small_disk.path / "state" / "db.sqlite3")
    await store.open()
    yield store
    small_disk.make_room()
    await store.close()


@pytest.fixture
async def deck(small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Deck]:
    """A deck whose home lies on the small disk."""
    monkeypatch.setenv("MODELDECK_HOME", str(small_disk.path / "home"))
    monkeypatch.setenv("HF_HOME", str(small_disk.path.parent / "hf"))
    async with Deck(locate(), CONFIG) as deck:
        await probed(deck)
        yield deck
        small_disk.make_room()


async def probed(deck: Deck) -> None:
    """Return when the engines are known."""
    async with asyncio.timeout(PATIENCE_S):
        while not deck.state.runtimes:  # noqa: ASYNC110  # not worth a subscription
            await asyncio.sleep(0.01)


async def test_a_full_disk_is_a_storage_failure(store: Database, small_disk: SmallDisk) -> None:
    await store.put("models", "a", b"{}")
    small_disk.fill()
    with pytest.raises(NotEnoughDisk, match="full"):
        await store.put("models", "b", b"{}")
    with pytest.raises(StorageFailed):
        await store.remove("models", "a")
    small_disk.make_room()
    await store.remove("models", "a")
    assert await store.keyed("models") == []


async def test_several_documents_are_written_all_or_none(
    store: Database, small_disk: SmallDisk
) -> None:
    await store.put_all("models", [("a", b"1", 0), ("b", b"1", 1)])
    small_disk.fill()
    with pytest.raises(NotEnoughDisk):
        await store.put_all("models", [("a", b"2", 0), ("b", b"2" * 5000, 1)])
    small_disk.make_room()
    assert [body for _, body in await store.keyed("models")] == [b"1", b"1"]


async def test_a_token_that_cannot_be_revoked_is_not_said_to_be(
    store: Database, small_disk: SmallDisk
) -> None:
    tokens = ApiTokens(store)
    told: list[str] = []
    tokens.on_revoked(lambda token: told.append(token.name))
    made = await tokens.create("laptop", [])
    small_disk.fill()
    with pytest.raises(NotEnoughDisk, match="is still valid"):
        await tokens.revoke("laptop")
    with pytest.raises(NotEnoughDisk):
        await tokens.create("phone", [])
    assert [token.name for token in tokens.all()] == ["laptop"]
    assert tokens.find(made.secret) is not None
    await tokens.close()  # that its last use cannot be written ends nothing
    small_disk.make_room()
    await tokens.revoke("laptop")
    assert told == ["laptop"]
    after = ApiTokens(store)
    await after.open()
    assert after.all() == []


async def test_what_is_learned_of_loads_is_in_memory_when_it_is_on_disk(
    store: Database, small_disk: SmallDisk
) -> None:
    history, options = LoadHistory(store), OptionResolver(Config(), store)
    await options.open()
    asked = LoadOptions(context_length=512)
    small_disk.fill()
    with pytest.raises(NotEnoughDisk):
        await history.add(RECORD)
    with pytest.raises(NotEnoughDisk):
        await options.remember("m", asked)
    assert history.records == ()
    assert options.resolve(MODEL, LoadOptions()).options.context_length != 512
    small_disk.make_room()
    await options.remember("m", asked)
    small_disk.fill()
    with pytest.raises(NotEnoughDisk):
        await options.remember("m", LoadOptions(), fresh=True)
    assert options.resolve(MODEL, LoadOptions()).options.context_length == 512


async def test_old_measurements_that_cannot_be_dropped_keep_no_core_from_starting(
    store: Database, small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = LoadHistory(store)
    for peak in range(1, 5):
        await history.add(replace(RECORD, peak_bytes=peak))
    monkeypatch.setattr(measurements, "KEPT", 2)
    small_disk.fill()
    again = LoadHistory(store)
    await again.open()
    assert [record.peak_bytes for record in again.records] == [3, 4]
    assert len(await store.keyed("measurements")) == 4


async def test_an_action_that_was_done_is_not_failed_by_its_audit_entry(
    store: Database, small_disk: SmallDisk
) -> None:
    audit = AuditTrail(store)
    small_disk.fill()
    for target in ("first", "second"):
        async with audit.action(ME, "load", target):
            pass
    assert [entry.target for entry in await audit.trail(1)] == ["second"]
    small_disk.make_room()
    async with audit.action(ME, "load", "third"):
        pass
    rows = await store.audit_trail(10)
    assert [(row[3], row[4]) for row in rows] == [(n, "done") for n in ("third", "second", "first")]
    assert [entry.target for entry in await audit.trail(2)] == ["third", "second"]


async def test_what_could_not_be_audited_is_written_when_the_core_ends(
    store: Database, small_disk: SmallDisk
) -> None:
    audit = AuditTrail(store)
    small_disk.fill()
    async with audit.action(ME, "load", "a"):
        audit.close()
    small_disk.make_room()
    await audit.flush()
    assert [row[3] for row in await store.audit_trail(10)] == ["a"]


async def test_a_model_that_was_refused_is_not_listed_and_one_that_stays_is(
    deck: Deck, small_disk: SmallDisk
) -> None:
    kept = await deck.models.create(ModelSeed(name="kept"), ME)
    small_disk.fill()
    with pytest.raises(NotEnoughDisk):
        await deck.models.create(ModelSeed(name="refused"), ME)
    with pytest.raises(NotEnoughDisk):
        await deck.models.update(kept.id, {"description": "new"}, ME)
    with pytest.raises(NotEnoughDisk):
        await deck.models.delete(kept.id, ME)
    assert [m.name for m in deck.state.models.values() if m.custom] == ["kept"]
    assert deck.models.find(kept.id).description == kept.description
    small_disk.make_room()
    assert (await deck.models.create(ModelSeed(name="refused"), ME)).name == "refused"
    outcomes = [entry.outcome for entry in await deck.audit_trail()]
    assert outcomes.count("not_enough_disk") == 3


async def test_a_setting_that_cannot_be_written_is_not_in_force(
    deck: Deck, small_disk: SmallDisk
) -> None:
    before = deck.state.settings
    small_disk.fill()
    for change in ({"jobs_at_once": 7}, {"memory_budget_bytes": 1 << 30}):
        with pytest.raises(NotEnoughDisk):
            await deck.change_settings(change, ME)
    assert deck.state.settings == before
    small_disk.make_room()
    assert list(Path(deck.paths.config).glob(".config-*")) == []  # noqa: ASYNC240 (one small folder)
    both = ({"jobs_at_once": 7}, {"memory_budget_bytes": 1 << 30})
    await asyncio.gather(*(deck.change_settings(change, ME) for change in both))
    assert deck.state.settings.jobs_at_once == 7
    assert deck.state.settings.memory_budget_bytes == 1 << 30


async def test_a_core_ends_in_order_with_its_disk_full(
    small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELDECK_HOME", str(small_disk.path / "home"))
    monkeypatch.setenv("HF_HOME", str(small_disk.path.parent / "hf"))
    async with Deck(locate(), CONFIG) as deck:
        await probed(deck)
        made = await deck.create_token("laptop", (), None, ME)
        deck.tokens.find(made.secret)
        small_disk.fill()
