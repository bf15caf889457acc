from dataclasses import replace
from typing import Any

import pytest

from modeldeck.core.runtime.planning.eviction import (
    Bytes,
    DoesNotFit,
    EvictionCandidate,
    Placement,
    Store,
    in_caches,
    left_over,
    place,
)


def loaded(
    name: str, idle_s: float | None, memory: int, gpu: int = 0, *, pinned: bool = False
) -> EvictionCandidate:
    holds: Any = {"memory": memory, "gpu": gpu, "budget": memory + gpu}
    return EvictionCandidate(id=name, holds=holds, idle_s=idle_s, pinned=pinned)


OLD = loaded("old", 100, 40)
NEW = loaded("new", 5, 30)
BUSY = loaded("busy", None, 500)
PINNED = loaded("pinned", 900, 500, pinned=True)
ALL = [NEW, BUSY, PINNED, OLD]


@pytest.mark.parametrize(
    ("needed", "available", "may_unload", "unload"),
    [
        (10, 10, False, ()),
        (10, 50, True, ()),
        (50, 10, True, ("old",)),
        (80, 10, True, ("old", "new")),
        (51, 10, True, ("old", "new")),
    ],
)
def test_room_is_made_by_the_longest_idle_and_no_more_than_needed(
    needed: int, available: int, may_unload: bool, unload: tuple[str, ...]
) -> None:
    plan = place({"memory": needed}, {"memory": available}, ALL, may_unload=may_unload)
    assert plan == Placement(unload=unload)


@pytest.mark.parametrize(
    ("needed", "may_unload", "would_do"),
    [(11, False, ("old",)), (81, True, ()), (600, True, ())],
)
def test_nothing_is_unloaded_when_it_is_not_allowed_or_not_enough(
    needed: int, may_unload: bool, would_do: tuple[str, ...]
) -> None:
    answer = place({"memory": needed}, {"memory": 10}, ALL, may_unload=may_unload)
    assert answer == DoesNotFit(
        store="memory",
        needed_bytes=needed,
        available_bytes=10,
        idle=("old", "new"),
        would_do=would_do,
        kept={"busy": 500, "pinned": 500},
    )


def test_a_reserve_larger_than_what_is_free_counts_as_nothing_free() -> None:
    answer = place({"memory": 5}, {"memory": -100})
    assert answer == DoesNotFit(store="memory", needed_bytes=5, available_bytes=0)


IN_RAM = loaded("in ram", 300, 50)
ON_GPU = loaded("on gpu", 200, 5, 50)
BOTH = loaded("both", 100, 30, 30)


@pytest.mark.parametrize(
    ("need", "room", "unload"),
    [
        # The GPU is short: what holds none of it stays, however long it was idle.
        ({"memory": 10, "gpu": 60}, {"memory": 20, "gpu": 20}, ("on gpu",)),
        ({"memory": 30, "gpu": 0}, {"memory": 0, "gpu": 0}, ("in ram",)),
        # Both are short; the first to go turns out not to be needed.
        ({"memory": 30, "gpu": 30}, {"memory": 0, "gpu": 0}, ("in ram", "on gpu")),
        ({"memory": 35, "gpu": 60}, {"memory": 0, "gpu": 0}, ("on gpu", "both")),
        ({"memory": 85, "gpu": 80}, {"memory": 0, "gpu": 0}, ("in ram", "on gpu", "both")),
        # A budget counts both together.
        ({"memory": 5, "budget": 40}, {"memory": 100, "budget": 0}, ("in ram",)),
        ({"memory": 5, "budget": 54}, {"memory": 100, "budget": 0}, ("on gpu",)),
        # What is not known is never short.
        ({"memory": 10, "gpu": 1000}, {"memory": 20}, ()),
        ({"memory": 10, "gpu": 1000}, {}, ()),
        ({"memory": 10}, {"memory": 20, "gpu": 0}, ()),
    ],
)
def test_memory_and_gpu_are_rooms_apart(need: Bytes, room: Bytes, unload: tuple[str, ...]) -> None:
    candidates = [BOTH, ON_GPU, IN_RAM]
    assert place(need, room, candidates, may_unload=True) == Placement(unload=unload)


@pytest.mark.parametrize(
    ("need", "store", "available"),
    [
        ({"memory": 10, "gpu": 500}, "gpu", 20),
        ({"memory": 500, "gpu": 100}, "memory", 10),
        ({"memory": 5, "gpu": 5, "budget": 300}, "budget", 0),
    ],
)
def test_a_refusal_names_the_store_where_most_is_missing(
    need: Bytes, store: str, available: int
) -> None:
    room: Bytes = {"memory": 10, "gpu": 20, "budget": 0}
    answer = place(need, room, [BOTH, ON_GPU, IN_RAM], may_unload=True)
    assert isinstance(answer, DoesNotFit)
    assert (answer.store, answer.available_bytes) == (store, available)
    assert answer.needed_bytes == need[answer.store]


@pytest.mark.parametrize(
    ("room", "unload", "left"),
    [
        ({"memory": 100, "budget": 70}, (), 20),
        ({"memory": 100}, (), 50),
        ({"memory": 100, "gpu": 0}, (), 50),
        ({"memory": 30, "budget": 70}, ("old",), 20),
        ({"memory": 50, "budget": 50}, (), 0),
        ({}, (), None),
    ],
)
def test_what_is_left_beside_a_load_is_the_least_of_memory_and_budget(
    room: Bytes, unload: tuple[str, ...], left: int | None
) -> None:
    need: Bytes = {"memory": 50, "gpu": 0, "budget": 50}
    assert left_over(need, room, ALL, Placement(unload=unload)) == left


def holding(name: str, idle_s: float | None, memory: int, cache: int) -> EvictionCandidate:
    return replace(loaded(name, idle_s, memory), cache={"memory": cache, "budget": cache})


CACHED = [holding("busy", None, 500, 20), holding("old", 100, 40, 10), holding("new", 5, 30, 5)]


@pytest.mark.parametrize(
    ("candidates", "store", "count"),
    [(CACHED, "memory", 35), (CACHED, "budget", 35), (CACHED, "gpu", 0), (ALL, "memory", 0)],
)
def test_caches_give_back_what_they_hold_of_a_store(
    candidates: list[EvictionCandidate], store: Store, count: int
) -> None:
    assert in_caches(candidates, store) == count


@pytest.mark.parametrize(
    ("needed", "may_unload", "unload", "shrink"),
    [
        (10, True, (), {}),
        # Prefix caches give first, those of the longest idle before others, and only what is short.
        (18, False, (), {"old": 8}),
        (24, True, (), {"old": 10, "new": 4}),
        (45, False, (), {"old": 10, "new": 5, "busy": 20}),
        # Then a model goes, and caches of the others give only what is still missing.
        (46, True, ("old",), {}),
        (60, True, ("old",), {"new": 5, "busy": 5}),
        (76, True, ("old", "new"), {}),
        (100, True, ("old", "new"), {"busy": 20}),
    ],
)
def test_prefix_caches_give_way_before_a_model_does(
    needed: int, may_unload: bool, unload: tuple[str, ...], shrink: dict[str, int]
) -> None:
    need: Bytes = {"memory": needed, "budget": needed}
    room: Bytes = {"memory": 10, "budget": 10}
    plan = place(need, room, CACHED, may_unload=may_unload)
    assert plan == Placement(unload=unload, shrink=shrink)
    left = left_over(need, room, CACHED, plan)
    assert (
        left == 10 + sum(shrink.values()) + sum({"old": 40, "new": 30}[u] for u in unload) - needed
    )


def test_what_loaded_models_take_too_much_is_made_up_for_first() -> None:
    plan = place({"budget": 10}, {"budget": -20}, CACHED)
    assert plan == Placement(shrink={"old": 10, "new": 5, "busy": 15})
    assert left_over({"budget": 10}, {"budget": -20}, CACHED, Placement()) == 0


def test_a_cache_in_the_machines_memory_gives_nothing_to_a_gpu() -> None:
    need: Bytes = {"memory": 5, "gpu": 8, "budget": 13}
    room: Bytes = {"memory": 5, "gpu": 0, "budget": 100}
    answer = place(need, room, CACHED, may_unload=True)
    assert isinstance(answer, DoesNotFit)
    assert (answer.store, answer.available_bytes) == ("gpu", 0)
    short = place({"memory": 200}, {"memory": 10}, CACHED, may_unload=True)
    assert isinstance(short, DoesNotFit)
    assert short.available_bytes == 45, "with what caches can give"
