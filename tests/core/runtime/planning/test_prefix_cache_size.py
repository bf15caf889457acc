"""How much memory the state of conversations may take that no request holds."""

import doctest
from typing import Any

import pytest

from modeldeck.core.runtime.planning import prefix_cache_size
from modeldeck.core.runtime.planning.prefix_cache_size import (
    LEAST_BYTES,
    prefix_cache_that_fits,
    shrinks,
)
from modeldeck.core.schema import Instance, InstanceState

MIB = 1 << 20


@pytest.mark.parametrize(
    ("wanted", "left", "found"),
    [
        (512 * MIB, None, 512 * MIB),
        (512 * MIB, 512 * MIB, 512 * MIB),
        (512 * MIB, 100 * MIB, 100 * MIB),
        (512 * MIB, LEAST_BYTES, LEAST_BYTES),
        (512 * MIB, LEAST_BYTES - 1, 0),
        (MIB, MIB, MIB),  # as small as that was asked for
        (0, 0, 0),
    ],
)
def test_it_is_the_first_to_give_way(wanted: int, left: int | None, found: int) -> None:
    assert prefix_cache_that_fits(wanted, left) == found


def test_what_is_idle_longest_gives_back_first_and_no_more_than_is_missing() -> None:
    def instance(key: str, held: int | None, idle_s: float | None, **more: Any) -> Instance:
        known = {
            "state": InstanceState.READY,
            "engine": "llama.cpp",
            "model_id": "m",
            "unique": "m",
        }
        return Instance(
            **{**known, "id": key, "prefix_cache_bytes": held, "idle_s": idle_s, **more}
        )

    held = [
        instance("busy", 100 * MIB, None),
        instance("old", 60 * MIB, 90.0),
        instance("new", 50 * MIB, 5.0),
        instance("none", None, 99.0),
        instance("little", 1000, 98.0),
        instance("gone", 70 * MIB, 97.0, state=InstanceState.STOPPING),
    ]
    assert shrinks(held, 80 * MIB) == {"old": 0, "new": 30 * MIB}
    assert shrinks(held, 999 * MIB) == {"old": 0, "new": 0, "busy": 0}
    assert shrinks(held, 0) == {}


def test_the_worked_examples_hold() -> None:
    result = doctest.testmod(prefix_cache_size)
    assert result.attempted
    assert not result.failed
