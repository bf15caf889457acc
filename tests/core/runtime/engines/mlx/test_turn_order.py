"""Who may begin and who has to wait again, as a table; and that everybody is answered."""

from __future__ import annotations

import random

import pytest

from modeldeck.core.runtime.engines.mlx.turn_order import (
    CROWDED,
    HEADROOM,
    READING,
    InWork,
    must_leave,
    read_at_once,
    why_wait,
)

SEED = "it has a seed"


@pytest.mark.parametrize(
    ("length", "alone", "work", "why"),
    [
        (10, None, InWork(), None),
        (10_000, None, InWork(), None),
        (10, SEED, InWork(), None),
        (10, None, InWork(held=5000), None),
        (10, None, InWork(lengths=(10,)), None),
        (10, SEED, InWork(lengths=(10,)), SEED),
        (10, None, InWork(alone=SEED), SEED),
        (10, SEED, InWork(alone=SEED), SEED),
        (10, None, InWork(lengths=(10,), reading=True), READING),
        (10, None, InWork(lengths=(10, 10, 10, 10)), READING),
        (10, None, InWork(lengths=(10,), crowded=True), CROWDED),
        (10, None, InWork(crowded=True), None),
        # A batch is as long as its longest text.
        (10, None, InWork(lengths=(500 - HEADROOM,)), None),
        (10, None, InWork(lengths=(501 - HEADROOM,)), CROWDED),
        (501 - HEADROOM, None, InWork(lengths=(10,)), CROWDED),
        (10, None, InWork(lengths=(10,), held=950), CROWDED),
    ],
)
def test_when_the_first_that_waits_may_begin(
    length: int, alone: str | None, work: InWork, why: str | None
) -> None:
    assert why_wait(length, alone, work, parallel=4, cells=1000) == why


@pytest.mark.parametrize(
    ("work", "leaves"),
    [
        (InWork(), False),
        (InWork(lengths=(1000,)), False),
        (InWork(lengths=(499, 10)), False),
        (InWork(lengths=(500, 10)), True),
        (InWork(lengths=(100, 100), held=799), True),
    ],
)
def test_when_the_youngest_has_to_wait_again(work: InWork, leaves: bool) -> None:
    assert must_leave(work, cells=1000) is leaves


@pytest.mark.parametrize(
    ("token_s", "writers", "tokens"),
    [(None, 3, 512), (0.01, 0, 512), (0.01, 1, 50), (1.0, 1, 32), (1e-6, 1, 512), (0.0, 1, 512)],
)
def test_prompts_are_read_for_no_longer_than_a_turn(
    token_s: float | None, writers: int, tokens: int
) -> None:
    assert read_at_once(512, 0.5, token_s, writers) == tokens


@pytest.mark.parametrize("seed", range(20))
def test_everybody_is_answered_in_few_turns(seed: int) -> None:
    """Plays the rules as `turns` does, with texts of all lengths, some to be written alone."""
    chance = random.Random(seed)
    cells, context = 400, 400
    texts = {n: chance.randint(1, context - 1) for n in range(30)}
    ends = {n: chance.randint(texts[n] + 1, context) for n in texts}
    alone = {n: SEED if chance.random() < 0.2 else None for n in texts}
    waiting, rows, single, crowded = list(texts), list[int](), list[int](), False
    turns = 0
    while waiting or rows or single:
        turns += 1
        while waiting:
            work = InWork(
                lengths=tuple(texts[n] for n in rows),
                alone=SEED if single else None,
                crowded=crowded,
            )
            if why_wait(texts[waiting[0]], alone[waiting[0]], work, 4, cells) is not None:
                break
            first = waiting.pop(0)
            (single if alone[first] else rows).append(first)
        assert rows or single
        for n in [*rows, *single]:
            texts[n] += 1
            if texts[n] >= ends[n]:
                (single if n in single else rows).remove(n)
                crowded = False
        while must_leave(InWork(lengths=tuple(texts[n] for n in rows)), cells):
            waiting = sorted([*waiting, max(rows)])
            rows.remove(max(rows))
            crowded = True
        assert len(rows) * max((texts[n] for n in rows), default=0) <= cells
    assert turns <= sum(ends[n] for n in ends)
