"""Requests that come, go, pause and run out of cells in any order, also with a draft model."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modeldeck.core.schema import GenerateRequest, LoadOptions
from tests.support import recorded
from tests.support.engine_turns import EngineTurns, Told, alike

ARCHITECTURES = Path(__file__).parents[2] / "architectures.json"
REQUESTS, PARALLEL = 40, 4


class Players:
    """Requests of a pool in work, and what is done with them at random."""

    def __init__(self, engine: EngineTurns, pool: list[GenerateRequest], seed: int) -> None:
        self.engine = engine
        self.pool = pool
        self.running: dict[int, int] = {}
        """Which request of the pool each is."""
        self.paused: set[int] = set()
        self.begun = 0
        self.done: list[tuple[int, Told]] = []
        self._draw = random.Random(seed)

    @property
    def over(self) -> bool:
        return self.begun == REQUESTS and not self.running

    def act(self) -> None:
        """Begin, cancel, pause or resume a request, or none."""
        draw, engine = self._draw, self.engine.engine
        if self.begun < REQUESTS and len(self.running) < PARALLEL and draw.random() < 0.4:
            which = draw.randrange(len(self.pool))
            request = replace(self.pool[which], cache=draw.random() > 0.1)
            self.running[self.engine.begin(request)] = which
            self.begun += 1
        if self.running and draw.random() < 0.01:
            number = draw.choice(list(self.running))
            engine.cancel(number)
            del self.running[number]
            self.paused.discard(number)
        if self.running and draw.random() < 0.05:
            number = draw.choice(list(self.running))
            (engine.resume if number in self.paused else engine.pause)(number)
            self.paused ^= {number}
        if not engine.working:
            for number in self.paused:
                engine.resume(number)
            self.paused.clear()

    def take(self) -> None:
        """Take what is over."""
        for number, which in list(self.running.items()):
            if self.engine.told[number].over:
                self.done.append((which, self.engine.told[number]))
                del self.running[number]
                self.paused.discard(number)


@pytest.fixture
def engines() -> Iterator[list[EngineTurns]]:
    """Engines to close after the test."""
    found: list[EngineTurns] = []
    yield found
    for engine in found:
        engine.close()


@pytest.mark.parametrize(
    ("architecture", "guesses"),
    [("gemma3", 0), ("jamba", 0), ("llama", 4), ("gemma3", 4)],
    ids=["window", "hybrid", "attention with draft", "window with draft"],
)
def test_every_answer_is_the_one_alone_and_the_slots_agree_with_llama_cpp(
    tmp_path: Path, engines: list[EngineTurns], architecture: str, guesses: int
) -> None:
    path = tmp_path / "model.gguf"
    recorded.read(ARCHITECTURES)[architecture].recipe(architecture).write(path)
    draw = random.Random(1)

    def words(count: int) -> str:
        return "".join(draw.choices(string.ascii_lowercase + " ", k=count))

    base = words(100)
    pool = [
        GenerateRequest(
            prompt=base[: draw.randrange(20, 100)] + words(draw.randrange(3, 80)),
            temperature=0,
            max_tokens=draw.choice((3, 20, 80)),
        )
        for _ in range(8)
    ]
    engine = EngineTurns(
        path,
        LoadOptions(
            parallel=PARALLEL,
            context_length=256,
            threads=1,
            draft_model="itself" if guesses else None,
            draft_tokens=guesses or None,
        ),
        cache_bytes=1 << 20,
        turn_s=0.0,
        draft=path if guesses else None,
    )
    engines.append(engine)
    alone = engine.alone(pool)
    engine.engine.reset()
    players, memory = Players(engine, pool, seed=2), engine.turns.memory
    while not players.over:
        players.act()
        if engine.engine.working:
            engine.step()
        for slot in memory.slots:
            last = memory._c.llama_memory_seq_pos_max(memory._memory, slot.number)
            assert last == slot.held - 1
        assert memory.cache.bytes <= memory.cache.limit_bytes
        players.take()
    assert len(players.done) > REQUESTS / 2
    assert all(alike(told, alone[which]) for which, told in players.done)
    assert any(told.waits for told in engine.told.values()), "cells ran out"
