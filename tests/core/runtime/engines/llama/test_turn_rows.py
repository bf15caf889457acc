"""Which rows of a prompt a turn reads: pure functions."""

from __future__ import annotations

import doctest

import pytest

from modeldeck.core.runtime.engines.llama import batch, sampler, turn_rows
from modeldeck.core.runtime.engines.llama.turn_rows import (
    chunk_length,
    prompt_rows,
    rows_of_text,
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
    ("wanted", "left", "room", "rows", "size"),
    [
        (600, 512, 512, 0, 512),  # the first text of a turn
        (242, 242, 512, 270, 242),  # it fits
        (270, 257, 512, 255, 257),  # the turn is not half full yet
        (270, 256, 512, 256, 0),  # the turn is half full, and its rows are a good number
        (270, 242, 512, 270, 18),  # 288 rows
        (270, 242, 500, 300, 20),  # answers count among the rows
        (60, 2, 512, 510, 2),  # no more than there is room for
    ],
)
def test_a_text_that_does_not_fit_waits_where_the_turn_is_half_full(
    wanted: int, left: int, room: int, rows: int, size: int
) -> None:
    assert rows_of_text(wanted, left, room, rows) == size
