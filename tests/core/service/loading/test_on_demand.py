"""Loads for requests: joined, called off when no request waits, and released when they idle."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.concurrency import BackgroundTasks
from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.errors import Conflict, DeckError, EngineFailed, NotDownloaded, NotEnoughMemory
from modeldeck.core.schema import (
    Instance,
    InstanceState,
    LoadOptions,
    LoadWish,
    Model,
    Requester,
    UnloadReceipt,
)
from modeldeck.core.service.loading.on_demand import MOST_TRIES, OnDemandLoader
from modeldeck.core.storage.audit import AuditTrail
from modeldeck.core.storage.database import Database
from tests.support.before_load import stand_still_before_load, stands_still
from tests.support.bench import PATIENCE_S, Bench, model

S = InstanceState


class Loads:
    """Loading without a catalog or a forecast; every action passes through the real audit."""

    def __init__(self, bench: Bench, audit: AuditTrail) -> None:
        self.bench = bench
        self.audit = audit
        self.models: dict[str, Model] = {}
        self.noted: asyncio.Event | None = None

    async def load(
        self, ref: str, wish: LoadWish, origin: str, *, remember: bool, as_loaded: bool
    ) -> Instance:
        assert not remember  # what a request needs is no choice for the next time
        assert as_loaded
        async with self.audit.action(origin, "load", ref):
            instance = await self.bench.engines.load(self.models[ref], wish.options)
            if self.noted is not None:
                await self.noted.wait()
            return instance

    def missing(self, model: Model) -> DeckError | None:
        return None if model.downloaded else NotDownloaded(f"{model.name} is not downloaded.")

    async def unload(self, instance_id: str, origin: str) -> UnloadReceipt:
        async with self.audit.action(origin, "unload", instance_id):
            return await self.bench.engines.unload(instance_id)


class World:
    """Engines, and models that are loaded on demand."""

    def __init__(self, bench: Bench, audit: AuditTrail, *, allowed: bool = True) -> None:
        self.bench = bench
        self.audit = audit
        self.tasks = BackgroundTasks()
        self.loads = Loads(bench, audit)
        loader: Any = self.loads
        self.on_demand = OnDemandLoader(
            loader=loader,
            engines=bench.engines,
            instance_of=self.instance_of,
            tasks=self.tasks,
            allowed=allowed,
            most_waiting=4,
        )

    def instance_of(self, model_id: str) -> Instance | None:
        live = (i for i in self.bench.engines.instances.values() if i.state.live)
        return next((i for i in live if i.model_id == model_id), None)

    async def use(self, path: Path, keep_alive_s: float | None = None) -> Instance:
        """The instance, as it is when the block is left."""
        wanted = model(path)
        self.loads.models[wanted.id] = wanted
        me = Requester(origin="test")
        async with self.on_demand.using(wanted, LoadOptions(), me, keep_alive_s) as instance:
            return instance


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(Settings(context_length=512))
    await bench.engines.open()
    yield bench
    await bench.engines.close()


@pytest.fixture
async def audit(tmp_path: Path) -> AsyncIterator[AuditTrail]:
    store = Database(tmp_path / "db.sqlite3")
    await store.open()
    yield AuditTrail(store)
    await store.close()


async def tasks_ended() -> None:
    """Wait until no load is being called off any more."""
    async with asyncio.timeout(PATIENCE_S):
        while any(t.get_name().startswith("cancelling the load") for t in asyncio.all_tasks()):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.fixture
def tiny(demo_models: Path) -> Path:
    return demo_models / "tiny-GGUF" / "tiny-F16.gguf"


@pytest.fixture
def standing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines stand still before they load."""
    stand_still_before_load(tmp_path, monkeypatch)


async def held(world: World) -> Instance:
    """The instance, whose load is held up: its process stands still."""
    async with asyncio.timeout(PATIENCE_S):
        while not world.bench.changes:  # noqa: ASYNC110  # the first record has no event
            await asyncio.sleep(0.005)
    instance = world.bench.changes[0]
    started = await world.bench.until(instance, lambda i: i.pid is not None)
    assert started.pid is not None
    await stands_still(started.pid)
    assert started.state is S.STARTING
    return started


async def test_a_model_is_loaded_once_and_kept_as_long_as_was_asked(
    bench: Bench, audit: AuditTrail, tiny: Path
) -> None:
    world = World(bench, audit)
    first, second = await asyncio.gather(world.use(tiny), world.use(tiny, keep_alive_s=600))
    assert first.id == second.id
    assert bench.last(first).options.idle_ttl_s == 600
    assert (await world.use(tiny)).id == first.id
    assert bench.last(first).options.idle_ttl_s == 600
    await world.use(tiny, keep_alive_s=-1)
    assert bench.last(first).options.idle_ttl_s == 0
    await world.use(tiny, keep_alive_s=0)
    await bench.until(first, lambda i: i.state is S.STOPPED)


@pytest.mark.usefixtures("standing")
async def test_a_load_is_called_off_when_the_last_who_waits_goes_away(
    bench: Bench, audit: AuditTrail, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(bench, audit)
    waiting = [asyncio.create_task(world.use(tiny)) for _ in range(2)]
    instance = await held(world)
    assert instance.pid is not None
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    await tasks_ended()
    assert bench.last(instance).state is S.STARTING
    waiting[1].cancel()
    await bench.until(instance, lambda i: i.state is S.STOPPING)
    os.kill(instance.pid, signal.SIGCONT)
    await bench.until(instance, lambda i: i.state is S.STOPPED)
    assert all(one.cancelled() for one in waiting)
    await tasks_ended()
    monkeypatch.delenv("PYTHONPATH")
    assert (await world.use(tiny)).state is S.READY


@pytest.mark.usefixtures("standing")
async def test_a_load_that_somebody_asked_for_goes_on(
    bench: Bench, audit: AuditTrail, tiny: Path
) -> None:
    world = World(bench, audit)
    waiting = asyncio.create_task(world.use(tiny))
    instance = await held(world)
    assert instance.pid is not None
    world.on_demand.keep(instance.id)
    waiting.cancel()
    await asyncio.wait([waiting])
    await tasks_ended()
    os.kill(instance.pid, signal.SIGCONT)
    await bench.until(instance, lambda i: i.state is S.READY)


@pytest.mark.usefixtures("standing")
async def test_a_load_is_called_off_also_while_it_is_being_noted(
    bench: Bench, audit: AuditTrail, tiny: Path
) -> None:
    world = World(bench, audit)
    world.loads.noted = asyncio.Event()  # as by an audit trail that takes its time
    waiting = asyncio.create_task(world.use(tiny))
    instance = await held(world)
    assert instance.pid is not None
    waiting.cancel()
    await bench.until(instance, lambda i: i.state is S.STOPPING)
    os.kill(instance.pid, signal.SIGCONT)
    await bench.until(instance, lambda i: i.state is S.STOPPED)


async def test_a_model_that_cannot_be_loaded_is_not_worth_asking_again(
    bench: Bench, audit: AuditTrail, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(EngineFailed) as caught:
        await World(bench, audit).use(broken)
    assert caught.value.final
    assert not EngineFailed.final


async def test_where_it_is_not_allowed_only_what_is_loaded_is_used(
    bench: Bench, audit: AuditTrail, tiny: Path
) -> None:
    world = World(bench, audit, allowed=False)
    with pytest.raises(Conflict, match="load_on_demand"):
        await world.use(tiny)
    loaded = await bench.loaded(tiny)
    assert (await world.use(tiny)).id == loaded.id


async def test_what_is_refused_at_once_is_known_before_it_is_asked(
    bench: Bench, audit: AuditTrail, tiny: Path
) -> None:
    allowed, forbidden = World(bench, audit), World(bench, audit, allowed=False)
    here = model(tiny)
    gone = replace(here, downloaded=False)
    allowed.on_demand.check(here)
    with pytest.raises(NotDownloaded):
        allowed.on_demand.check(gone)
    with pytest.raises(Conflict, match="nothing is loaded on demand"):
        forbidden.on_demand.check(here)
    await allowed.use(tiny)
    forbidden.on_demand.check(here)
    allowed.on_demand.check(gone)  # it is loaded, and answers


@pytest.mark.usefixtures("standing")
async def test_a_load_is_not_called_off_by_a_core_that_ends_and_nothing_is_raised(
    bench: Bench, audit: AuditTrail, tiny: Path
) -> None:
    world = World(bench, audit)
    waiting = asyncio.create_task(world.use(tiny))
    instance = await held(world)
    assert instance.pid is not None
    audit.close()  # as a core does that was told to stop
    waiting.cancel()
    await asyncio.wait([waiting])
    await tasks_ended()
    await world.tasks.close()
    assert not world.tasks.failures
    await bench.engines.close()  # it ends the engine that stands still
    assert bench.last(instance).state is S.STOPPED


class Refused(Loads):
    """Loads that are refused although the model seems to fit, until `fits` is set."""

    def __init__(self, world: World) -> None:
        super().__init__(world.bench, world.audit)
        self.count = 0
        self.fits = False

    async def load(
        self, ref: str, wish: LoadWish, origin: str, *, remember: bool, as_loaded: bool
    ) -> Instance:
        self.count += 1
        if not self.fits:
            raise NotEnoughMemory("Too little is free.")
        return await super().load(ref, wish, origin, remember=remember, as_loaded=as_loaded)

    async def blockers(self, ref: str, wish: LoadWish) -> tuple[str, ...]:
        return ()


async def test_changes_of_other_models_do_not_use_up_the_tries_of_a_load(
    bench: Bench, audit: AuditTrail, tiny: Path
) -> None:
    world = World(bench, audit)
    refused = Refused(world)
    loader: Any = refused
    world.loads = world.on_demand._loader = loader
    using = asyncio.create_task(world.use(tiny))
    while not refused.count:  # noqa: ASYNC110  # a load that is refused sets no event
        await asyncio.sleep(0)
    for _ in range(50):
        world.on_demand.instance_changed()
        await asyncio.sleep(0)
    assert refused.count < MOST_TRIES
    refused.fits = True
    assert (await asyncio.wait_for(using, PATIENCE_S)).state is S.READY
