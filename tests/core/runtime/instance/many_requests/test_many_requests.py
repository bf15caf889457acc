"""Many requests of one instance at once, with an engine process that follows scripts."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.errors import Busy, Cancelled, Conflict
from modeldeck.core.runtime.instance import supervisor
from modeldeck.core.runtime.instance.request import BYTES_WAITING, CHUNKS_WAITING, TextRequest
from modeldeck.core.runtime.process.messages import GenerateText
from modeldeck.core.schema import (
    GenerateRequest,
    Instance,
    InstanceState,
    LoadOptions,
    TokenQuery,
)
from tests.core.runtime.instance.many_requests.asked import Asked, idle
from tests.support.bench import PATIENCE_S, Bench
from tests.support.scripted_engine import BIG, PIECE, open_gate

S = InstanceState


async def test_as_many_run_as_the_engine_answers_and_each_gets_its_own(
    bench: Bench, instance: Instance
) -> None:
    assert (instance.parallel, instance.cache_tokens, instance.running) == (3, 2048, 0)
    holding = [Asked(bench, instance, "hold") for _ in range(2)]
    full = await bench.until(instance, lambda i: i.running == 2)
    assert (full.state, full.requests) == (S.BUSY, 2)
    texts = [Asked(bench, instance, f"say {count}") for count in (1, 2, 3, 4)]
    assert [await text.answer() for text in texts] == [PIECE * n for n in (1, 2, 3, 4)]
    assert max(i.running for i in bench.changes) == 3
    await texts[-1].until(state="waiting", place=3)
    for one in holding:
        await one.leave()
    await idle(bench, instance)


async def test_a_record_is_told_of_every_step(bench: Bench, instance: Instance) -> None:
    asked = Asked(bench, instance, "read 3 wait 1 think 2 say 2")
    assert await asked.answer() == PIECE * 2
    assert [chunk.thought for chunk in asked.chunks[:2]] == [PIECE, PIECE]
    states = [note["state"] for note in asked.notes if "state" in note]
    assert list(dict.fromkeys(states)) == ["waiting", "prompt", "thinking", "writing"]
    assert {"state": "waiting", "why": "the cache is full"} in asked.notes
    reads = [(n["prompt_read"], n["prompt_tokens"]) for n in asked.notes if "prompt_read" in n]
    assert reads[:3] == [(1, 3), (2, 3), (3, 3)]
    last = asked.chunks[-1]
    assert (last.cached_tokens, last.thought_tokens, last.completion_tokens) == (1, 2, 4)
    assert asked.notes[-1]["cached_tokens"] == 1


async def test_a_slow_reader_holds_up_nobody_and_goes_on_later(
    bench: Bench, instance: Instance, tmp_path: Path
) -> None:
    slow = Asked(bench, instance, f"say {CHUNKS_WAITING * 2} gate say {CHUNKS_WAITING * 2}")
    slow.go.clear()
    await slow.until(text=1)

    def said(word: str) -> bool:
        return any(text.startswith(word) for _, _, text in bench.lines)

    async def heard(word: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not said(word):  # noqa: ASYNC110  # lines of a log have no event
                await asyncio.sleep(0.01)

    await heard("pause")
    assert await Asked(bench, instance, "say 200").answer() == PIECE * 200
    assert not said("resume")
    open_gate(tmp_path)
    slow.go.set()
    assert await slow.answer() == PIECE * CHUNKS_WAITING * 4
    await heard("resume")

    bench.lines.clear()
    slow = Asked(bench, instance, "big 400")
    slow.go.clear()
    await heard("pause")
    assert slow.stream is not None
    assert slow.stream._bytes < BYTES_WAITING * 4, "bounded in bytes as well"
    slow.go.set()
    assert await slow.answer() == BIG * 400


async def test_a_paused_answer_is_no_silence(
    bench: Bench, instance: Instance, settings: Settings, tmp_path: Path
) -> None:
    """An engine has nothing to give a sign of life for while all that runs is paused."""
    slow = Asked(bench, instance, f"say {CHUNKS_WAITING * 2} gate say 1")
    slow.go.clear()
    await slow.until(text=1)
    stream = slow.stream
    assert stream is not None
    async with asyncio.timeout(PATIENCE_S):
        while not stream.paused:  # noqa: ASYNC110  # pausing sets no event
            await asyncio.sleep(0.005)
    limit_s = bench.engines._supervisors[instance.id]._dispatcher._limit_s
    assert limit_s() == 0
    other = Asked(bench, instance, "hold")
    await bench.until(instance, lambda i: i.running == 2)
    assert limit_s() == settings.silence_s
    await other.leave()
    await bench.until(instance, lambda i: i.running == 1)
    assert limit_s() == 0
    open_gate(tmp_path)
    slow.go.set()
    assert await slow.answer() == PIECE * (CHUNKS_WAITING * 2 + 1)


async def test_an_engine_that_does_not_pause_cannot_fill_the_memory(
    bench: Bench, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldeck.core.runtime.instance.request.MOST_BYTES", 100_000)
    slow = Asked(bench, instance, "big 400")
    slow.go.clear()
    await slow.until(text=1)
    await bench.until(instance, lambda i: i.running == 0)
    slow.go.set()
    with pytest.raises(Cancelled, match="not read"):
        await slow.answer()


async def test_one_that_leaves_or_is_cancelled_costs_only_itself(
    bench: Bench, instance: Instance, tmp_path: Path
) -> None:
    stay = Asked(bench, instance, "say 100 gate say 200")
    leaving, cancelled = (Asked(bench, instance, "endless") for _ in range(2))
    waiting, unlucky = (Asked(bench, instance, "say 1") for _ in range(2))
    await leaving.until(text=2)
    await cancelled.until(text=2)
    await unlucky.until(place=2)
    assert unlucky.stream is not None
    unlucky.stream.cancel(Cancelled("by me"))
    with pytest.raises(Cancelled, match="by me"):
        await unlucky.answer()
    assert cancelled.stream is not None
    cancelled.stream.cancel(Cancelled("by me"))
    with pytest.raises(Cancelled, match="by me"):
        await cancelled.answer()
    await leaving.leave()
    assert await waiting.answer() == PIECE
    open_gate(tmp_path)
    assert await stay.answer() == PIECE * 300
    await idle(bench, instance)


async def test_too_many_are_refused_and_the_others_answered(
    bench: Bench, instance: Instance
) -> None:
    running = [Asked(bench, instance, "hold") for _ in range(3)]
    waiting = [Asked(bench, instance, "say 1") for _ in range(6)]
    await bench.until(instance, lambda i: i.requests == 9)
    with pytest.raises(Busy, match="6 requests are waiting"):
        await Asked(bench, instance, "say 1").answer()
    for one in running:
        await one.leave()
    assert [await one.answer() for one in waiting] == [PIECE] * 6


def _append(ended: list[str], who: str, task: asyncio.Task[str]) -> None:
    ended.append(who)


async def test_requesters_take_turns(bench: Bench, tiny: Path) -> None:
    alone = await bench.loaded(tiny, LoadOptions(parallel=1))
    ended: list[str] = []
    first = Asked(bench, alone, "hold")
    await bench.until(alone, lambda i: i.running == 1)
    asked = [Asked(bench, alone, "say 1", who) for who in "aaabc"]
    for who, one in zip("aaabc", asked, strict=True):
        one.task.add_done_callback(partial(_append, ended, who))
    await bench.until(alone, lambda i: i.requests == 6)
    await first.leave()
    for one in asked:
        await one.answer()
    assert "".join(ended) == "abcaa"


async def test_embeddings_take_a_place_as_other_requests_do(
    bench: Bench, instance: Instance
) -> None:
    held = [Asked(bench, instance, "hold") for _ in range(3)]
    await bench.until(instance, lambda i: i.running == 3)
    embedding = asyncio.create_task(bench.engines.embed(instance.id, ["a b", *["c"] * 40]))
    await bench.until(instance, lambda i: i.requests == 4)
    await held.pop().leave()
    assert [vector.tokens for vector in await embedding] == [2] + [1] * 40
    for one in held:
        await one.leave()


async def test_tokens_are_counted_while_all_slots_are_taken(
    bench: Bench, instance: Instance
) -> None:
    held = [Asked(bench, instance, "hold") for _ in range(3)]
    waiting = Asked(bench, instance, "say 1")
    await bench.until(instance, lambda i: i.requests == 4)
    async with asyncio.timeout(PATIENCE_S):
        found = await bench.engines.tokenize(instance.id, TokenQuery(text="a b c"))
    assert found.count == 3
    assert max(i.running for i in bench.changes) == 3
    await held[0].leave()
    assert await waiting.answer() == PIECE
    for one in held[1:]:
        await one.leave()


# Unloading


async def test_unloading_gives_all_that_run_their_time(
    bench: Bench, instance: Instance, tmp_path: Path
) -> None:
    short, long = (Asked(bench, instance, f"say 50 gate say {count}") for count in (100, 250))
    third = Asked(bench, instance, "say 1 hold")
    waiting = Asked(bench, instance, "say 1")
    await third.until(text=1)
    await waiting.until(place=1)
    unloading = asyncio.create_task(bench.engines.unload(instance.id))
    with pytest.raises(Conflict, match="being unloaded"):
        await waiting.answer()
    with pytest.raises(Conflict, match="stopping"):
        await Asked(bench, instance, "say 1").answer()
    open_gate(tmp_path)
    assert await short.answer() == PIECE * 150
    assert await long.answer() == PIECE * 300
    await third.leave()
    receipt = await unloading
    assert receipt.process_gone
    assert bench.last(instance).state is S.STOPPED


@pytest.mark.parametrize("settings", [Settings(unload_grace_s=0.05)])
async def test_a_request_at_the_very_end_of_the_idle_time_is_answered(
    bench: Bench, instance: Instance
) -> None:
    owner = bench.engines._supervisors[instance.id]
    command = partial(GenerateText, request=GenerateRequest(prompt="say 3"))
    request = TextRequest(command)
    with ExitStack() as stack:
        bench.engines.change(instance.id, {"idle_ttl_s": 0.1})
        await asyncio.sleep(0)  # the idle time begins
        asyncio.get_running_loop().call_later(
            0.15, lambda: stack.enter_context(owner.entered(request))
        )
        time.sleep(0.2)  # noqa: ASYNC251  # so that both are due in the same round of the loop
        async with asyncio.timeout(PATIENCE_S):
            chunks = [chunk async for chunk in request]
    assert [chunk.text for chunk in chunks] == [PIECE] * 3 + [""]
    assert chunks[-1].finish_reason == "stop"
    await bench.until(instance, lambda i: i.state is S.STOPPED)


@pytest.mark.parametrize("settings", [Settings(unload_grace_s=0.05)])
async def test_after_the_grace_all_are_cut(
    bench: Bench, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "CANCEL_S", 60.0)
    cut = [Asked(bench, instance, "endless") for _ in range(2)]
    for one in cut:
        await one.until(text=1)
    assert (await bench.engines.unload(instance.id)).process_gone
    for one in cut:
        await one.answer()
        assert one.chunks[-1].finish_reason == "cancelled"


@pytest.mark.parametrize("settings", [Settings(unload_grace_s=0.05)])
async def test_one_that_does_not_end_when_it_is_cancelled_ends_with_its_process(
    bench: Bench, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "CANCEL_S", 0.05)
    deaf = Asked(bench, instance, "say 1 deaf")
    await deaf.until(text=1)
    assert (await bench.engines.unload(instance.id)).process_gone
    with pytest.raises(Cancelled, match="was unloaded"):
        await deaf.answer()


async def test_the_end_of_the_core_ends_all(bench: Bench, instance: Instance) -> None:
    asked = [Asked(bench, instance, "endless") for _ in range(5)]
    await bench.until(instance, lambda i: i.requests == 5)
    await bench.engines.close()
    ends = await asyncio.gather(*(one.answer() for one in asked), return_exceptions=True)
    assert all(isinstance(end, Conflict | Cancelled | str) for end in ends)
    assert bench.last(instance).state is S.STOPPED


async def test_hundreds_of_requests_with_random_leaves_lose_no_place(
    bench: Bench, tiny: Path
) -> None:
    instance = await bench.loaded(tiny, LoadOptions(parallel=8))
    limit = asyncio.Semaphore(12)

    async def one(number: int) -> None:
        async with limit:
            asked = Asked(bench, instance, f"read {number % 3} say 4", who=str(number % 5))
            if number % 4 == 0:
                await asked.until(text=number % 3)
                await asked.leave()
            else:
                assert await asked.answer() == PIECE * 4

    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(one(number) for number in range(300)))
    end = await idle(bench, instance)
    assert (end.running, end.restarts, end.pid) == (0, 0, instance.pid)
    queue = bench.engines._supervisors[instance.id]._queue
    assert (dict(queue.running), queue.waiting) == ({}, 0)


async def test_a_request_begins_when_its_turn_has_come_or_it_has_ended(
    bench: Bench, instance: Instance
) -> None:
    holding = [Asked(bench, instance, "hold") for _ in range(3)]
    await bench.until(instance, lambda i: i.running == 3)
    waiting, cancelled = (Asked(bench, instance, "say 1", who) for who in ("a", "b"))
    for asked in (waiting, cancelled):
        await asked.until(state="waiting")
    stream, other = waiting.stream, cancelled.stream
    assert stream is not None
    assert other is not None
    begun, ended = asyncio.create_task(stream.begun()), asyncio.create_task(other.begun())
    other.cancel(Cancelled("It was cancelled."))
    await asyncio.wait_for(ended, PATIENCE_S)
    assert not begun.done()
    await holding[0].leave()
    await asyncio.wait_for(begun, PATIENCE_S)
    assert await waiting.answer() == PIECE
    with pytest.raises(Cancelled):
        await cancelled.answer()
    for one in holding[1:]:
        await one.leave()
    await idle(bench, instance)
