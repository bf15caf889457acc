"""Every kind of background work of a core fails, and the core goes on and ends in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.config.config import Config, RuntimeSettings
from modeldeck.core.config.paths import locate
from modeldeck.core.errors import NotEnoughDisk
from modeldeck.core.schema import (
    CacheSelection,
    Download,
    Instance,
    InstanceState,
    ModelSeed,
)
from modeldeck.core.service import bandwidth, sampler
from modeldeck.core.service.deck import Deck

PATIENCE_S = 60.0
ERRORS = (NotEnoughDisk("full"), OSError(5, "io"), ZeroDivisionError("a bug"))
JOB = Download(id="j", model_id="m", unique="a/b", repo="a/b", revision="0" * 40, state="completed")


def instance(state: InstanceState) -> Instance:
    return Instance(id="i", model_id="m", unique="a/b", state=state, engine="llama.cpp")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # conditions of all kinds have no event
            await asyncio.sleep(0.005)


@pytest.fixture
async def deck(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Deck]:
    """A deck whose loops turn fast, and that has probed its engines."""
    for module, name in (
        *((sampler, "SAMPLE_S"), (sampler, "CACHE_S"), (sampler, "REQUESTED_S")),
        *((bandwidth, "ACTIVE_S"), (bandwidth, "CALM_S")),
    ):
        monkeypatch.setattr(module, name, 0.01 if name != "REQUESTED_S" else 1e9)
    async with Deck(locate(), Config(runtime=RuntimeSettings(calibrate=False))) as deck:
        await until(lambda: bool(deck.state.runtimes))
        yield deck


class Broken:
    """Fails with one error after the other, and notes how often it was called."""

    def __init__(self, *, blocks: bool = False) -> None:
        self.calls = 0
        self.blocks = blocks

    def __call__(self, *_: object, **__: object) -> Any:
        if self.blocks:
            self._fail()
        return self._later()

    async def _later(self) -> None:
        self._fail()

    def _fail(self) -> None:
        self.calls += 1
        raise ERRORS[(self.calls - 1) % len(ERRORS)]


def all_called(broken: dict[str, Broken], before: int) -> bool:
    return all(each.calls > before for each in broken.values())


async def goes_on(deck: Deck, name: str) -> None:
    """Assert that the core still does what it is for."""
    made = await deck.models.create(ModelSeed(name=name), "test")
    assert deck.models.find(made.id).name == name
    assert (await deck.refresh()).host.id == deck.host_id


async def test_loops_go_on_after_every_kind_of_failure(
    deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = deck._parts
    sample, look, tick = Broken(), Broken(), Broken(blocks=True)
    with monkeypatch.context() as patch:
        patch.setattr(parts.sampler, "sample", sample)
        patch.setattr(parts.sampler, "_look_at_cache", look)
        patch.setattr(parts.bandwidth, "tick", tick)
        with deck.feed.subscribe():
            await until(lambda: min(sample.calls, look.calls, tick.calls) > 2 * len(ERRORS))
    await until(lambda: any("a bug" in notice for notice in deck.state.host.notices))
    await goes_on(deck, "after loops")


async def test_the_state_is_answered_also_when_nothing_can_be_measured(
    deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken()
    with monkeypatch.context() as patch:
        patch.setattr(deck._parts.sampler, "sample", broken)
        async with asyncio.timeout(PATIENCE_S):
            while broken.calls < 2 * len(ERRORS):
                assert (await deck.refresh()).host.id == deck.host_id
                await asyncio.sleep(0.002)


async def test_work_that_is_started_once_may_fail(
    deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = deck._parts
    for number in range(len(ERRORS)):
        broken = {name: Broken() for name in ("ended", "ready", "sample", "probe", "call off")}
        for each in broken.values():
            each.calls = number  # which begins with another error
        with monkeypatch.context() as patch:
            patch.setattr(parts.loader, "ended", broken["ended"])
            patch.setattr(parts.loader, "ready", broken["ready"])
            patch.setattr(parts.engines, "sample", broken["sample"])
            patch.setattr(parts.engines, "probe", broken["probe"])
            parts._instance_changed(instance(InstanceState.STARTING))
            parts._instance_changed(instance(InstanceState.READY))
            parts._instance_changed(instance(InstanceState.STOPPED))
            parts.tasks.start(parts.engine_probe.run(), name="probing the engines")
            patch.setattr(parts.on_demand, "_cancel_unused", broken["call off"])
            work = parts.on_demand._cancel_unused("m", "test")
            parts.tasks.start(work, name="calling off")
            await until(partial(all_called, broken, number))
    names = {failure.name for failure in parts.tasks.failures}
    assert {"recording what a load took", "remembering the load options"} <= names
    assert {"measuring the engines", "probing the engines", "calling off"} <= names
    await goes_on(deck, "after single tasks")


async def test_a_download_is_told_as_completed_also_when_the_cache_cannot_be_looked_at(
    deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = deck._parts
    with monkeypatch.context() as patch:
        patch.setattr(parts.library, "look", Broken())
        parts._download_changed(JOB)
        await until(lambda: "j" in deck.state.downloads)
    assert deck.state.downloads["j"].state == "completed"
    await goes_on(deck, "after a download")


async def test_a_check_that_meets_a_bug_does_not_look_alive(
    deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = deck._parts

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("modeldeck.core.service.library.verification._wrong", broken)
    snapshot = parts.cache.hub.snapshot("a/b", "0" * 40)
    snapshot.mkdir(parents=True)
    blob = parts.cache.hub.blob("a/b", "1" * 64)
    blob.parent.mkdir()
    blob.write_bytes(b"x")
    (snapshot / "a.gguf").symlink_to(f"../../blobs/{blob.name}")
    check = await deck.cache.verify(CacheSelection(), "test")
    await until(lambda: deck.state.verifications[check.id].state == "failed")
    await until(lambda: any("a bug" in notice for notice in deck.state.host.notices))
    await goes_on(deck, "after a check")


async def test_notices_of_bugs_are_bounded_and_hide_secrets(deck: Deck) -> None:
    async def bug(text: str) -> None:
        raise ValueError(text)

    for number in range(30):
        deck._parts.tasks.start(bug(f"Bearer abc{number}secret {number}"), name=f"work {number}")
    await until(lambda: any("work 29" in notice for notice in deck.state.host.notices))
    assert len(deck.state.host.notices) <= 10
    assert not any("secret" in notice for notice in deck.state.host.notices)
