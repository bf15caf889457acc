"""Answers with their records: a real service, and an engine process that follows scripts."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modeldeck.core.config.config import Config, RuntimeSettings
from modeldeck.core.config.paths import locate
from modeldeck.core.errors import (
    Busy,
    Cancelled,
    Conflict,
    InvalidRequest,
    NotEnoughMemory,
    NotFound,
)
from modeldeck.core.schema import (
    GenerateRequest,
    LoadOptions,
    LoadWish,
    Model,
    ModelSeed,
    Requester,
    RequestInfo,
)
from modeldeck.core.schema.state import RequestChanged, State, frame_from_item
from modeldeck.core.service.deck import Deck
from modeldeck.core.service.inference import request_records
from modeldeck.core.service.loading import model_turns
from tests.support import scripted_engine
from tests.support.bench import PATIENCE_S
from tests.support.scripted_engine import PIECE

ME = Requester(origin="test", who="me", dialect="openai", client="00c0ffee")


class World:
    """A deck with two models, of which the memory has room for one where a test says so."""

    def __init__(self, deck: Deck, a: Model, b: Model) -> None:
        self.deck, self.a, self.b = deck, a, b
        self.loads: list[str] = []
        """The models in the order of their loads."""

    async def room_for_one(self) -> None:
        plan = await self.deck.instances.plan(self.a.id, LoadWish())
        assert plan.forecast is not None
        count = plan.forecast.total_bytes * 3 // 2
        await self.deck.change_settings({"memory_budget_bytes": count}, "test")

    def ask(self, model: Model, prompt: str, **more: Any) -> asyncio.Task[str]:
        """Ask, and read the whole answer."""

        async def work() -> str:
            request = GenerateRequest(prompt=prompt)
            requester = more.pop("requester", ME)
            async with self.deck.inference.answer(model, request, requester, **more) as reply:
                return "".join([chunk.text async for chunk in reply.chunks])

        return asyncio.create_task(work(), name=prompt)

    async def until(self, holds: Callable[[State], Any]) -> Any:
        """Wait until the State is so; return what `holds` found in it."""
        async with asyncio.timeout(PATIENCE_S):
            with self.deck.feed.subscribe() as news:
                async for _ in news.batches():
                    if found := holds(self.deck.state):
                        return found
        raise AssertionError

    async def request(self, state: str, **fields: Any) -> RequestInfo:
        """Wait for a request in this state and with these fields."""

        def find(whole: State) -> RequestInfo | None:
            for info in whole.requests.values():
                if info.state == state and all(getattr(info, k) == v for k, v in fields.items()):
                    return info
            return None

        found = await self.until(find)
        assert isinstance(found, RequestInfo)
        return found


@pytest.fixture
def runtime() -> dict[str, Any]:
    return {}


@pytest.fixture
async def world(
    home: Path,
    demo_models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    runtime: dict[str, Any],
) -> AsyncIterator[World]:
    scripted_engine.install(tmp_path, monkeypatch)
    settings = RuntimeSettings(
        calibrate=False, when_full="unload_idle", context_length=1024, queue_length=3, **runtime
    )
    async with Deck(locate(), Config(runtime=settings)) as deck:
        folder = demo_models / "tiny-GGUF"
        paths = (folder / "tiny-F16.gguf", folder / "tiny-Q8_0.gguf")
        seeds = [ModelSeed(unique=str(path), name=path.stem) for path in paths]
        a, b = [await deck.models.create(seed, "test") for seed in seeds]
        world = World(deck, a, b)
        await world.until(lambda state: state.runtimes)
        yield world


@asynccontextmanager
async def recorded(world: World) -> AsyncIterator[list[Any]]:
    """Everything that the feed tells while the block runs."""
    told: list[Any] = []

    async def listen() -> None:
        with world.deck.feed.subscribe() as news:
            async for batch in news.batches():
                told.extend(batch)

    task = asyncio.create_task(listen())
    try:
        yield told
        async with asyncio.timeout(PATIENCE_S):
            while not told or told[-1].seq < world.deck.state.seq:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_request_is_seen_from_its_arrival_to_its_end(world: World) -> None:
    async with recorded(world) as told:
        asked = world.ask(world.a, "read 200 think 200 say 200 endless", options=LoadOptions())
        writing = await world.request("writing")
        world.deck.requests.all()
        await world.deck.requests.cancel(writing.id, Requester(who="laptop"))
        with pytest.raises(Cancelled, match="cancelled by laptop"):
            await asked
        ended = await world.request("cancelled", cancelled_by="laptop")
    states = [e.request.state for e in told if isinstance(e, RequestChanged)]
    order = ["waiting", "loading", "prompt", "thinking", "writing", "cancelled"]
    assert list(dict.fromkeys(states)) == [s for s in order if s in states]
    assert {"writing", "cancelled"} <= set(states)  # a load may be shorter than a quarter second
    assert (ended.who, ended.dialect, ended.client) == ("me", "openai", "00c0ffee")
    assert (ended.cached_tokens, ended.prompt_tokens, ended.prompt_read) == (1, 200, 200)
    assert ended.completion_tokens
    assert ended.completion_tokens > 200
    assert ended.time_to_first_token_s
    assert ended.tokens_per_s
    assert (ended.ended_at, ended.model_id) >= (ended.since, world.a.id)
    assert ended.instance_id in world.deck.state.instances
    await world.until(lambda state: not any(i.requests for i in state.instances.values()))


async def test_figures_of_an_answer_that_is_done_and_nothing_that_was_said(world: World) -> None:
    async with recorded(world) as told:
        assert await world.ask(world.a, "read 2 say 3") == PIECE * 3
        done = await world.request("done")
    assert (done.completion_tokens, done.cached_tokens, done.tokens_per_s) == (3, 1, 100.0)
    assert (done.place, done.why, done.error_code) == (None, "", "")
    frames = b"".join(frame_from_item(item) for item in told)
    for document in (frames, msgspec.json.encode(world.deck.requests.all())):
        assert b"read 2" not in document
        assert PIECE.encode() not in document
    counters = world.deck.counters
    assert (counters.cached_tokens, counters.completion_tokens) == (1, 3)
    assert counters.answers == {"stop": 1}


async def test_how_a_request_can_end(world: World) -> None:
    with pytest.raises(InvalidRequest, match="longer than the context"):
        await world.ask(world.a, "word " * 1100)
    failed = await world.request("failed")
    assert failed.error_code == "invalid_request"
    leaving = world.ask(world.a, "endless")
    await world.request("writing")
    leaving.cancel()
    await world.request("left")
    await world.until(lambda state: not any(i.requests for i in state.instances.values()))
    cut = world.ask(world.a, "endless")
    await world.request("writing")
    instance = world.deck.instances.of(world.a.id)
    assert instance is not None
    world.deck._parts.engines._supervisors[instance.id].stop(0.01)
    assert PIECE in await cut
    await world.request("cut")


async def test_whatever_a_request_waits_for_it_is_cancelled_at_once(world: World) -> None:
    deck = world.deck

    async def cancelled(task: asyncio.Task[Any], info: RequestInfo) -> None:
        await deck.requests.cancel(info.id, Requester(who="me"))
        with pytest.raises(Cancelled, match="cancelled by me"):
            await asyncio.wait_for(task, PATIENCE_S)
        assert (await world.request("cancelled", id=info.id)).cancelled_by == "me"
        with pytest.raises(Conflict, match="it is cancelled"):
            await deck.requests.cancel(info.id, Requester())

    loading = world.ask(world.a, "hold")  # a load may be over before the feed, at 4 Hz, tells of it
    while not (begun := deck.requests.all()):  # noqa: ASYNC110 - no event comes before the feed
        await asyncio.sleep(0)
    await cancelled(loading, begun[-1])
    held = [world.ask(world.a, "hold") for _ in range(scripted_engine.PARALLEL)]
    await world.until(lambda s: any(i.running == len(held) for i in s.instances.values()))
    waiting = world.ask(world.a, "say 1")
    await cancelled(waiting, await world.request("waiting", place=1))
    embedding = asyncio.create_task(deck.inference.embed(world.a, ["a", "b"], ME))
    info = await world.request("waiting", kind="embedding", place=1)
    await cancelled(embedding, info)
    running = [info for info in deck.requests.all() if info.live]
    assert len(running) == len(held)
    for task, info in zip(held, running, strict=True):
        await cancelled(task, info)
    with pytest.raises(NotFound):
        await deck.requests.cancel("nobody", Requester())
    assert await world.ask(world.a, "say 2") == PIECE * 2


async def test_embeddings_have_records_too(world: World) -> None:
    reply = await world.deck.inference.embed(world.a, ["a b", "c"], ME)
    assert [vector.tokens for vector in reply.vectors] == [2, 1]
    done = await world.request("done", kind="embedding")
    assert done.prompt_tokens == 3


async def test_records_are_few_and_told_at_most_four_times_a_second(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.ask(world.a, "say 1")
    earlier = await world.request("done")
    commits: list[float] = []
    feed, loop = world.deck.feed, asyncio.get_running_loop()
    commit = feed.commit

    def counted(kind: Any, **record: Any) -> None:
        if kind is RequestChanged and record["request"].id != earlier.id:
            commits.append(loop.time())
        commit(kind, **record)

    monkeypatch.setattr(feed, "commit", counted)
    assert await world.ask(world.a, "say 300") == PIECE * 300
    await world.request("done", completion_tokens=300)
    for before, after in itertools.pairwise(commits):
        assert after - before >= request_records.INTERVAL_S * 0.9

    monkeypatch.setattr(request_records, "INTERVAL_S", 0.001)
    for _ in range(request_records.KEPT + 5):
        await world.ask(world.a, "say 1")
    await world.until(
        lambda s: (
            len(s.requests) == request_records.KEPT
            and all(i.state == "done" for i in s.requests.values())
        )
    )
    assert len(world.deck.requests.all()) == request_records.KEPT


async def test_one_that_is_refused_as_busy_leaves_no_record(world: World) -> None:
    held = [world.ask(world.a, "hold") for _ in range(scripted_engine.PARALLEL)]
    await world.until(lambda s: any(i.running == len(held) for i in s.instances.values()))
    waiting = [world.ask(world.a, "say 1") for _ in range(3)]
    await world.request("waiting", place=3)
    with pytest.raises(Busy):
        await world.ask(world.a, "say 1")
    await world.until(lambda s: len(s.requests) == len(held) + len(waiting))
    for task in (*held, *waiting):
        task.cancel()


# Models that do not fit together


async def test_a_model_is_kept_while_it_has_work_and_then_makes_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_turns, "HOLD_S", 1e9)
    await world.room_for_one()
    first = world.ask(world.a, "say 2 hold")
    await world.request("writing")
    other = world.ask(world.b, "say 2")
    why = f"its memory is held by {world.a.unique}"
    await world.request("waiting", unique=world.b.unique, why=why)
    assert await world.ask(world.a, "say 3") == PIECE * 3, "A A B A is answered as A A A B"
    assert not other.done()
    first.cancel()
    assert await other == PIECE * 2
    assert [i.model_id for i in world.deck.state.instances.values()] == [world.b.id]
    assert await world.ask(world.a, "say 1") == PIECE, "and back again"


async def test_a_request_for_another_model_does_not_wait_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_turns, "HOLD_S", 0.0)
    monkeypatch.setattr(model_turns, "LOOK_S", 0.01)
    await world.room_for_one()
    first = world.ask(world.a, "say 2 hold")
    await world.request("writing")
    other = world.ask(world.b, "say 2 hold")
    why = f"its memory is held by {world.a.unique}"
    await world.request("waiting", unique=world.b.unique, why=why)
    newer = world.ask(world.a, "say 3")
    yielding = await world.request("waiting", why=f"{world.b.unique} waits for its memory")
    assert yielding.unique == world.a.unique
    first.cancel()
    await world.request("writing", unique=world.b.unique)
    assert not newer.done()
    other.cancel()
    assert await newer == PIECE * 3


async def test_what_waits_for_memory_can_be_cancelled_and_is_bounded(world: World) -> None:
    await world.room_for_one()
    first = world.ask(world.a, "say 2 hold")
    await world.request("writing")
    waiting = [world.ask(world.b, "say 1") for _ in range(3)]
    await world.until(
        lambda s: sum(i.state == "waiting" and bool(i.why) for i in s.requests.values()) == 3
    )
    with pytest.raises(Busy, match="3 requests wait for it"):
        await world.ask(world.b, "say 1")
    info = await world.request("waiting", unique=world.b.unique)
    await world.deck.requests.cancel(info.id, ME)
    ends = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
    (ended,) = ends[0]
    assert isinstance(ended.exception(), Cancelled)
    first.cancel()
    await asyncio.wait(waiting, timeout=PATIENCE_S)
    assert sum(task.exception() is None for task in waiting) == 2


@pytest.mark.parametrize("runtime", [{}])
async def test_nothing_waits_for_memory_that_would_never_come(world: World) -> None:
    await world.room_for_one()
    first = world.ask(world.a, "say 2 hold")
    await world.request("writing")
    instance = world.deck.instances.of(world.a.id)
    assert instance is not None
    await world.deck.instances.change(instance.id, {"pinned": True}, "test")
    with pytest.raises(NotEnoughMemory):
        await world.ask(world.b, "say 1")
    first.cancel()


# A longer context


async def test_a_longer_context_is_had_by_a_reload_where_nothing_else_is_cut(
    world: World,
) -> None:
    deck = world.deck
    assert await world.ask(world.a, "say 1", options=LoadOptions(context_length=512)) == PIECE
    before = deck.instances.of(world.a.id)
    assert before is not None
    assert before.context_length == 512
    shorter = world.ask(world.a, "say 1", options=LoadOptions(context_length=256))
    assert await shorter == PIECE
    assert deck.instances.of(world.a.id) == deck.state.instances[before.id], "not loaded again"

    using = world.ask(world.a, "say 1 hold")
    await world.request("writing")
    with pytest.raises(Conflict, match=r"2048 tokens was asked for.*with 512.*in use by others"):
        await world.ask(world.a, "say 1", options=LoadOptions(context_length=2048))
    using.cancel()
    await world.until(lambda s: not any(i.requests for i in s.instances.values()))
    longer = LoadOptions(context_length=2048)
    both = [world.ask(world.a, "say 1", options=longer) for _ in range(2)]
    assert [await task for task in both] == [PIECE] * 2
    after = deck.instances.of(world.a.id)
    assert after is not None
    assert (after.id != before.id, after.context_length) == (True, 2048)
    assert await world.ask(world.a, "say 1", options=longer) == PIECE
    assert deck.instances.of(world.a.id) == deck.state.instances[after.id]


async def test_a_longer_context_that_does_not_fit_leaves_the_model_loaded(world: World) -> None:
    deck = world.deck
    await world.ask(world.a, "say 1", options=LoadOptions(context_length=512))
    before = deck.instances.of(world.a.id)
    assert before is not None
    await world.room_for_one()
    with pytest.raises(NotEnoughMemory):
        await world.ask(world.a, "say 1", options=LoadOptions(context_length=1 << 20))
    assert deck.state.instances[before.id].state == "ready"
    await deck.instances.change(before.id, {"pinned": True}, "test")
    with pytest.raises(Conflict, match="pinned"):
        await world.ask(world.a, "say 1", options=LoadOptions(context_length=2048))
