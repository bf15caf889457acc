"""Answers are kept within bounds, for their owner only, with what they go on from."""

from __future__ import annotations

import doctest
import gc
import itertools
import tracemalloc
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from modeldeck.core.service.answers import shares
from modeldeck.core.service.answers.store import (
    MOST_ANSWERS,
    MOST_BYTES,
    AnswerStore,
    StoredAnswer,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def answer(
    id: str, owner: str = "", previous: StoredAnswer | None = None, size: int = 10
) -> StoredAnswer:
    return StoredAnswer(
        id=id,
        owner=owner,
        response=b"r" * size,
        inputs=(b"in " + id.encode(),),
        outputs=(b"out " + id.encode(),),
        item_ids=(f"msg_{id}", f"rs_{id}"),
        previous=previous,
    )


def test_an_answer_is_found_by_its_owner_until_it_is_forgotten() -> None:
    store = AnswerStore()
    store.keep(answer("a", "token"))
    assert store.find("a", "token") is not None
    assert store.find("a", "") is None
    assert store.find("a", "other") is None
    assert store.find_item("rs_a", "token") == b"out a"
    assert store.find_item("rs_a", "other") is None
    assert not store.forget("a", "other")
    assert store.forget("a", "token")
    assert not store.forget("a", "token")
    assert store.find_item("rs_a", "token") is None
    assert (len(store), store.total_bytes) == (0, 0)


def test_items_with_the_same_id_are_kept_apart() -> None:
    store = AnswerStore()
    for id, owner in (("a", "token"), ("b", "token"), ("c", "other")):
        one = replace(answer(id, owner), item_ids=("msg_1", f"rs_{id}"))
        store.keep(one)
    assert store.find_item("msg_1", "other") == b"in c"
    assert store.find_item("msg_1", "token") == b"in b"
    assert store.forget("b", "token")
    assert store.find_item("msg_1", "token") == b"in a"
    assert store.forget("a", "token")
    assert store.find_item("msg_1", "token") is None
    assert store.find_item("msg_1", "other") == b"in c"


def test_who_has_the_most_makes_room() -> None:
    assert doctest.testmod(shares).failed == 0
    by_count = AnswerStore(most_answers=4)
    by_size = AnswerStore(most_bytes=20 * answer("0").own_bytes)
    for store, size in ((by_count, 4), (by_size, 10_000)):
        store.keep(answer("quiet", "a"))
        for number in range(30):
            store.keep(answer(str(number), "b", size=size))
        assert store.find("quiet", "a") is not None
        assert store.find("29", "b") is not None
        assert store.find("0", "b") is None


def test_the_newest_answers_stay() -> None:
    store = AnswerStore(most_answers=3)
    for number in range(5):
        store.keep(answer(str(number)))
    assert [bool(store.find(str(number), "")) for number in range(5)] == [False, False, *[True] * 3]
    small = AnswerStore(most_bytes=5 * answer("0").own_bytes)
    for number in range(9):
        small.keep(answer(str(number)))
    assert len(small) == 5
    assert small.total_bytes <= small.most_bytes
    small.keep(answer("big", size=small.most_bytes))
    assert (len(small), small.total_bytes) == (0, 0)


def test_a_day_is_enough() -> None:
    clock = Clock()
    store = AnswerStore(clock=clock)
    store.keep(answer("a"))
    clock.now = 86399.0
    assert store.find("a", "") is not None
    store.keep(answer("b"))
    clock.now = 86400.0
    assert store.find("a", "") is None
    assert store.find("b", "") is not None


def test_a_conversation_outlives_its_first_answers() -> None:
    store = AnswerStore(most_answers=2)
    last: StoredAnswer | None = None
    for number in range(4):
        last = answer(str(number), previous=last)
        store.keep(last)
    assert last is not None
    assert list(last.items()) == [
        f"{kind} {number}".encode() for number in range(4) for kind in ("in", "out")
    ]
    assert store.total_bytes == sum(answer(str(number)).own_bytes for number in range(4))
    assert store.forget("3", "")
    assert store.forget("2", "")
    assert store.total_bytes == 0


def test_an_answer_that_was_let_go_of_meanwhile_counts_again() -> None:
    store = AnswerStore()
    first = answer("a")
    store.keep(first)
    assert store.forget("a", "")
    store.keep(answer("b", previous=first))
    assert store.total_bytes == first.own_bytes + answer("b").own_bytes
    assert store.find("a", "") is None
    assert store.forget("b", "")
    assert store.total_bytes == 0


def test_an_answer_is_replaced_by_one_with_its_id() -> None:
    store = AnswerStore()
    store.keep(answer("a", size=10))
    store.keep(answer("a", size=20))
    assert store.total_bytes == answer("a", size=20).own_bytes


def test_200_answers_of_coding_agents_stay_within_the_bound() -> None:
    """Of 400 kB each, in ten conversations: more than there is room for."""
    store = AnswerStore()
    last: dict[int, StoredAnswer] = {}
    tracemalloc.start()
    try:
        for number in range(200):
            line = number % 10
            last[line] = answer(str(number), previous=last.get(line), size=400_000)
            store.keep(last[line])
            assert store.total_bytes <= MOST_BYTES
        kept = len(store)
        last.clear()
        gc.collect()
        assert 0 < kept <= MOST_ANSWERS
        assert tracemalloc.get_traced_memory()[0] <= 1.02 * MOST_BYTES
    finally:
        tracemalloc.stop()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["keep", "forget", "wait"]),
        st.integers(0, 9),
        st.integers(0, 9),
        st.integers(0, 4000),
    ),
    max_size=60,
)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_the_count_of_bytes_is_that_of_what_is_reachable(
    steps: list[tuple[str, int, int, int]],
) -> None:
    clock = Clock()
    store = AnswerStore(most_answers=6, most_bytes=12_000, kept_s=100, clock=clock)
    numbers = itertools.count()
    known: list[StoredAnswer] = []
    for step, which, other, size in steps:
        if step == "keep":
            previous = known[which] if which < len(known) and other < 7 else None
            known.append(answer(str(next(numbers)), previous=previous, size=size))
            store.keep(known[-1])
        elif step == "forget" and which < len(known):
            store.forget(known[-1 - which].id, "")
        else:
            clock.now += size / 100
            store.prune()
        reachable: dict[str, int] = {}
        for each in known:
            line: StoredAnswer | None = each if store.find(each.id, "") is not None else None
            while line is not None:
                reachable[line.id] = line.own_bytes
                line = line.previous
        assert store.total_bytes == sum(reachable.values())
        assert store.total_bytes <= store.most_bytes
        assert len(store) <= store.most_answers
