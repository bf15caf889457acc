"""Many requests of one instance at once, with an engine process that follows scripts."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.errors import Busy, Cancelled, Conflict, EngineFailed, InvalidRequest
from modeldeck.core.runtime.instance.request import BYTES_WAITING, CHUNKS_WAITING, TextRequest
from modeldeck.core.runtime.process import engine_process
from modeldeck.core.runtime.process.messages import GenerateText
from modeldeck.core.schema import (
    Chunk,
    GenerateRequest,
    Instance,
    InstanceState,
    LoadOptions,
    Requester,
    TokenQuery,
)
from tests.support import scripted_engine
from tests.support.bench import PATIENCE_S, Bench
from tests.support.scripted_engine import BIG, PIECE

S = InstanceState


class Asked:
    """A request that was sent, its chunks and its notes as they came."""

    def __init__(self, bench: Bench, instance: Instance, prompt: str, who: str = "a") -> None:
        self.chunks: list[Chunk] = []
        self.notes: list[dict[str, Any]] = []
        self.go = asyncio.Event()
        """Cleared while its reader does not read."""
        self.go.set()
        self.stream: TextRequest | None = None
        self._news = asyncio.Event()
        self._requester = Requester(who=who)
        self.task = asyncio.create_task(self._read(bench, instance, prompt), name=prompt)

    def _note(self, **changes: Any) -> None:
        self.notes.append(changes)
        self._news.set()

    async def _read(self, bench: Bench, instance: Instance, prompt: str) -> str:
        request = GenerateRequest(prompt=prompt)
        async with bench.engines.generate(
            instance.id, request, self._requester, self._note
        ) as self.stream:
            async for chunk in self.stream:
                self.chunks.append(chunk)
                self._news.set()
                await self.go.wait()
        return "".join(chunk.text for chunk in self.chunks)

    async def until(self, text: int = 0, **noted: Any) -> None:
        """Wait until so many chunks came, or until a note had these fields."""
        async with asyncio.timeout(PATIENCE_S):
            while not (
                len(self.chunks) >= text
                and (not noted or any(noted.items() <= note.items() for note in self.notes))
            ):
                self._news.clear()
                await self._news.wait()

    async def answer(self) -> str:
        """The whole text. Raises what it failed with."""
        return await asyncio.wait_for(asyncio.shield(self.task), PATIENCE_S)

    async def leave(self) -> None:
        """Let the client go away."""
        self.task.cancel()
        await asyncio.wait({self.task})


@pytest.fixture
def settings() -> Settings:
    return Settings(context_length=2048, silence_s=3, queue_length=6, unload_grace_s=10)


@pytest.fixture
async def bench(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    scripted_engine.install(tmp_path, monkeypatch)
    monkeypatch.setattr(engine_process, "END_S", 0.2)
    bench = Bench(settings)
    await bench.engines.open()
    yield bench
    await bench.engines.close()


@pytest.fixture
async def instance(bench: Bench, tiny: Path) -> Instance:
    return await bench.loaded(tiny, LoadOptions(parallel=3))


async def idle(bench: Bench, instance: Instance) -> Instance:
    """Wait until nothing runs or waits."""
    return await bench.until(instance, lambda i: i.state is S.READY and i.requests == 0)


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
    bench: Bench, instance: Instance
) -> None:
    slow = Asked(bench, instance, f"say {CHUNKS_WAITING * 4}")
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


async def test_a_paused_answer_is_no_silence(bench: Bench, instance: Instance) -> None:
    """An engine has nothing to give a sign of life for while all that runs is paused."""
    slow = Asked(bench, instance, f"say {CHUNKS_WAITING * 4}")
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
    assert limit_s() == 3
    await other.leave()
    await bench.until(instance, lambda i: i.running == 1)
    assert limit_s() == 0
    slow.go.set()
    assert await slow.answer() == PIECE * CHUNKS_WAITING * 4


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
    bench: Bench, instance: Instance
) -> None:
    stay = Asked(bench, instance, "say 300")
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


async def test_embeddings_wait_until_nothing_else_runs(bench: Bench, instance: Instance) -> None:
    held = Asked(bench, instance, "hold")
    await bench.until(instance, lambda i: i.running == 1)
    embedding = asyncio.create_task(bench.engines.embed(instance.id, ["a b", "c"]))
    await bench.until(instance, lambda i: i.requests == 2)
    behind = Asked(bench, instance, "say 1")
    await bench.until(instance, lambda i: i.requests == 3)
    assert bench.last(instance).running == 1, "nothing overtakes it"
    await held.leave()
    assert [vector.tokens for vector in await embedding] == [2, 1]
    assert await behind.answer() == PIECE


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


# Crashes


async def killed(bench: Bench, instance: Instance, number: int = signal.SIGKILL) -> None:
    pid = bench.last(instance).pid
    assert pid is not None
    os.kill(pid, number)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_after_a_crash_what_has_shown_nothing_is_asked_again(
    bench: Bench, instance: Instance, number: int
) -> None:
    writing = Asked(bench, instance, "say 5 hold")
    reading = Asked(bench, instance, "read 600 say 2")
    left = Asked(bench, instance, "hold")
    waiting = [Asked(bench, instance, "say 3") for _ in range(2)]
    await writing.until(text=5)
    await reading.until(state="prompt", prompt_read=2)
    await waiting[1].until(place=2)
    await killed(bench, instance, number)
    left.task.cancel()
    with pytest.raises(EngineFailed) as caught:
        await writing.answer()
    assert ("SIGKILL" if number == signal.SIGKILL else "sign of life") in str(caught.value)
    assert await reading.answer() == PIECE * 2
    assert [await one.answer() for one in waiting] == [PIECE * 3] * 2
    assert len(reading.chunks) == 3
    again = await idle(bench, instance)
    assert (again.restarts, again.pid != instance.pid) == (1, True)


async def test_a_second_crash_fails_all_and_nobody_waits_for_ever(
    bench: Bench, instance: Instance
) -> None:
    asked = [Asked(bench, instance, prompt) for prompt in ("die", "hold", "hold", "say 1")]
    ends = await asyncio.gather(*(one.answer() for one in asked), return_exceptions=True)
    assert [type(end) for end in ends] == [EngineFailed] * 4
    failed = await bench.until(instance, lambda i: i.state is S.FAILED)
    assert (failed.restarts, failed.requests, failed.running) == (1, 0, 0)


async def test_one_that_ran_alone_is_told_and_not_asked_again(
    bench: Bench, instance: Instance
) -> None:
    with pytest.raises(EngineFailed, match="SIGKILL"):
        await Asked(bench, instance, "die").answer()
    assert await Asked(bench, instance, "say 1").answer() == PIECE
    assert bench.last(instance).restarts == 1


async def test_a_stuck_request_is_told_and_the_others_are_asked_again(
    bench: Bench, instance: Instance
) -> None:
    other, writing = Asked(bench, instance, "read 900 say 1"), Asked(bench, instance, "say 1 hold")
    await writing.until(text=1)
    stuck = Asked(bench, instance, "stuck")
    with pytest.raises(InvalidRequest, match="grammar took too long") as caught:
        await stuck.answer()
    assert "the model is loaded again" in caught.value.remedy
    with pytest.raises(EngineFailed) as told:
        await writing.answer()
    assert "another request" in told.value.message
    assert await other.answer() == PIECE
    assert bench.last(instance).restarts == 1


# Unloading


async def test_unloading_gives_all_that_run_their_time(bench: Bench, instance: Instance) -> None:
    short, long = Asked(bench, instance, "say 150"), Asked(bench, instance, "say 300")
    third = Asked(bench, instance, "say 1 hold")
    waiting = Asked(bench, instance, "say 1")
    await third.until(text=1)
    await waiting.until(place=1)
    unloading = asyncio.create_task(bench.engines.unload(instance.id))
    with pytest.raises(Conflict, match="being unloaded"):
        await waiting.answer()
    with pytest.raises(Conflict, match="stopping"):
        await Asked(bench, instance, "say 1").answer()
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
    supervisor = bench.engines._supervisors[instance.id]
    command = partial(GenerateText, request=GenerateRequest(prompt="say 3"))
    request = TextRequest(lambda number: command(id=number))
    with ExitStack() as stack:
        bench.engines.change(instance.id, {"idle_ttl_s": 0.1})
        await asyncio.sleep(0)  # the idle time begins
        asyncio.get_running_loop().call_later(
            0.15, lambda: stack.enter_context(supervisor.entered(request))
        )
        time.sleep(0.2)  # noqa: ASYNC251  # so that both are due in the same round of the loop
        async with asyncio.timeout(PATIENCE_S):
            chunks = [chunk async for chunk in request]
    assert [chunk.text for chunk in chunks] == [PIECE] * 3 + [""]
    assert chunks[-1].finish_reason == "stop"
    await bench.until(instance, lambda i: i.state is S.STOPPED)


async def test_after_the_grace_all_are_cut(
    bench: Bench, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldeck.core.runtime.instance.supervisor.CANCEL_S", 0.2)
    cut = [Asked(bench, instance, "endless") for _ in range(2)]
    deaf = Asked(bench, instance, "say 1 deaf")
    for one in (*cut, deaf):
        await one.until(text=1)
    assert (await bench.engines.unload(instance.id)).process_gone
    for one in cut:
        await one.answer()
        assert one.chunks[-1].finish_reason == "cancelled"
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
    supervisor = bench.engines._supervisors[instance.id]
    assert (dict(supervisor._queue.running), supervisor._queue.waiting) == ({}, 0)
