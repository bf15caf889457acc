"""Which rows of a prompt a turn reads: pure functions."""

from __future__ import annotations

import doctest

import pytest

from modeldeck.core.runtime.engines.llama import batch, sampler, turn_rows
from modeldeck.core.runtime.engines.llama.turn_rows import (
    chunk_length,
    is_half_full,
    prompt_rows,
    rows_to_step,
)


def test_the_examples_hold() -> None:
    for module in (batch, sampler, turn_rows):
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("writing", "shared", "row_s", "rows"),
    [
        (0, False, None, 512),  # no other request waits meanwhile
        (0, False, 1.0, 512),
        (1, True, None, 64),  # the speed is not known yet
        (3, True, 0.0001, 509),
        (3, True, 0.005, 100),
        (3, True, 1.0, 64),  # a turn of fewer would cost much more for each
        (510, True, 0.0001, 2),
    ],
)
def test_a_turn_has_room_for_what_it_can_read_in_time(
    writing: int, shared: bool, row_s: float | None, rows: int
) -> None:
    assert prompt_rows(512, writing, shared=shared, turn_s=0.5, row_s=row_s) == rows


@pytest.mark.parametrize(
    ("held", "length", "marks", "room", "size"),
    [
        (0, 100, [], 512, 100),
        (0, 100, [], 60, 60),
        (0, 100, [40, 92], 512, 40),
        (40, 100, [40, 92], 512, 52),
        (92, 100, [40, 92], 5, 5),
    ],
)
def test_reading_stops_at_marks(
    held: int, length: int, marks: list[int], room: int, size: int
) -> None:
    assert chunk_length(held, length, marks, room) == size


@pytest.mark.parametrize(
    ("left", "room", "row_s", "full"),
    [
        (256, 512, 0.001, True),
        (257, 512, 0.001, False),
        (242, 512, 0.00002, False),  # a fast machine: what is left takes 5 ms
        (242, 512, None, False),  # the speed is not known yet
        (60, 120, 0.01, False),  # a turn has at least 64 rows
        (60, 124, 0.01, True),
    ],
)
def test_a_turn_is_full_enough_where_the_rest_takes_long(
    left: int, room: int, row_s: float | None, full: bool
) -> None:
    assert is_half_full(left, room, row_s=row_s) == full


@pytest.mark.parametrize(
    ("rows", "left", "step", "more"),
    [(270, 242, 32, 18), (256, 256, 32, 0), (510, 1, 32, 1), (270, 242, 1, 0)],
)
def test_a_batch_is_made_a_multiple(rows: int, left: int, step: int, more: int) -> None:
    assert rows_to_step(rows, left, step=step) == more
