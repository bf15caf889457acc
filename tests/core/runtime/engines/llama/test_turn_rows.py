"""Which rows of a prompt a turn reads: pure functions."""

from __future__ import annotations

import doctest

import pytest

from modeldeck.core.runtime.engines.llama import batch, sampler, turn_rows
from modeldeck.core.runtime.engines.llama.turn_rows import (
    chunk_length,
    is_left_for_later,
    prompt_rows,
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
    ("wanted", "left", "room", "later"),
    [
        (600, 512, 512, False),  # the first text of a turn
        (270, 242, 512, True),
        (242, 242, 512, False),  # it fits
        (270, 256, 512, True),
        (270, 257, 512, False),  # the turn is not half full yet
        (2, 1, 512, True),
    ],
)
def test_a_text_that_does_not_fit_waits_where_the_turn_is_half_full(
    wanted: int, left: int, room: int, later: bool
) -> None:
    assert is_left_for_later(wanted, left, room) == later
