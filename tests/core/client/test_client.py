"""The client against a real core."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.demo.vocabulary import expected
from modeldeck.core.errors import (
    CoreUnreachable,
    InvalidRequest,
    NotDownloaded,
    NotFound,
)
from modeldeck.core.schema import GenerateRequest, InstanceState, LoadOptions, Message, ModelSeed
from modeldeck.core.schema.state import State, apply
from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
OPTIONS = LoadOptions(context_length=512)


async def test_the_main_job_by_its_verbs(core: CoreProcess) -> None:
    async with Client(socket=core.socket) as client:
        assert (await client.health()).startswith("ok:")
        assert "deck/tiny-GGUF" in [h.repo for h in (await client.search("tiny")).hits]
        repository = await client.repository("deck/tiny-GGUF")
        assert TINY in [variant.unique for variant in repository.variants]
        fit = await client.fit(TINY, 512)
        assert (fit.verdict, fit.exact) == ("fits", True)

        model, job = await client.download(TINY)
        assert job is not None
        state = await client.feed.until(lambda s: s.downloads[job.id].state == "completed")
        assert state.models[model.id].downloaded
        assert (await client.download(TINY))[1] is None

        instance = await client.loaded(TINY, OPTIONS)
        assert instance.state is InstanceState.READY
        request = GenerateRequest(
            messages=(Message(role="user", content="Say llama."),), temperature=0.0
        )
        async with client.generate(TINY, request) as chunks:
            pieces = [chunk async for chunk in chunks]
        assert "".join(piece.text for piece in pieces) == expected("llama")
        assert pieces[-1].finish_reason == "stop"
        assert pieces[-1].completion_tokens

        receipt = await client.unload(instance.id)
        assert receipt.process_gone
        plan = await client.plan_deletion([TINY])
        deleted = await client.delete_cached([TINY])
        assert deleted.freed_bytes == plan.freed_bytes > 0
        assert [entry.action for entry in await client.audit_trail()]
        assert await client.log(limit=10)


async def test_it_speaks_over_tcp_as_well(core: CoreProcess) -> None:
    async with Client(url=core.url) as client:
        state = await client.state()
        assert core.url in state.host.urls
        assert await client.feed.until(lambda s: s.seq >= state.seq)


async def test_custom_models_come_and_go(core: CoreProcess, demo_models: Path) -> None:
    path = str(demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf")
    async with Client(socket=core.socket) as client:
        model = await client.create_model(ModelSeed(unique=path, name="mine"))
        assert (await client.model(path)).id == model.id
        assert (await client.update_model(model.id, {"name": "yours"})).name == "yours"
        await client.delete_model(model.id)
        with pytest.raises(NotFound):
            await client.model(model.id)


@pytest.mark.parametrize("ref", ["nobody/nothing:X", "../../deck/stop", "a?b#c", "%2e%2e", "日本"])
async def test_a_hostile_name_is_one_segment_and_not_found(core: CoreProcess, ref: str) -> None:
    async with Client(socket=core.socket) as client:
        with pytest.raises(NotFound) as caught:
            await client.model(ref)
        assert ref in caught.value.message


async def test_the_class_of_an_error_survives_the_wire(core: CoreProcess) -> None:
    async with Client(socket=core.socket) as client:
        model = next(iter((await client.state()).models.values()))
        with pytest.raises(NotDownloaded) as caught:
            await client.load(model.id, LoadOptions())
        assert caught.value.remedy
        with pytest.raises(InvalidRequest):
            await client.load(model.id, LoadOptions(context_length=1))
        with pytest.raises(NotFound):
            await client.unload("no-such-instance")
        with pytest.raises(NotFound):
            async with client.generate(
                "no-such-model", GenerateRequest(messages=(Message(role="user", content="hello"),))
            ) as chunks:
                await anext(chunks)


async def test_the_feed_folds_to_the_state_that_is_answered(core: CoreProcess) -> None:
    async with Client(socket=core.socket) as client, client.feed.watch(max_hz=20) as items:
        state = await anext(items)
        assert isinstance(state, State)
        _, job = await client.download(TINY)
        assert job is not None
        async for item in items:
            state = item if isinstance(item, State) else apply(state, item)
            if job.id in state.downloads and state.downloads[job.id].state == "completed":
                break
        asked = await client.state()
        assert asked.downloads == state.downloads


async def test_the_feed_comes_back_after_the_core_was_killed(core: CoreProcess) -> None:
    lost: list[tuple[CoreUnreachable, float]] = []
    told = asyncio.Event()

    def tell(error: CoreUnreachable, seconds: float) -> None:
        lost.append((error, seconds))
        told.set()

    async with Client(socket=core.socket) as client, client.feed.watch(lost=tell) as items:
        first = await anext(items)
        assert isinstance(first, State)
        core.kill()

        async def next_state() -> State:
            async for item in items:
                if isinstance(item, State):
                    return item
            raise AssertionError("the feed ended")

        waiting = asyncio.create_task(next_state())
        await told.wait()
        await asyncio.to_thread(core.restart)
        again = await waiting
        assert again.host.pid == core.process.pid != first.host.pid
        assert all(seconds > 0 for _, seconds in lost)


async def test_patience_with_a_core_that_is_gone_ends(core: CoreProcess) -> None:
    async with Client(socket=core.socket) as client:
        await client.stop()
        await asyncio.to_thread(core.process.wait)
        with pytest.raises(CoreUnreachable) as caught:
            await client.feed.until(lambda _: False, patience_s=0)
        assert caught.value.remedy
        with pytest.raises(CoreUnreachable) as caught:
            await client.state()
        assert str(core.socket) in caught.value.message
