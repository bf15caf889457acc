"""Which columns a width has room for."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.tui.dashboard.widgets.columns import Column, arrange

SIGN = Column("sign", "", 1)
NAME = Column("name", "name", 20, grow=True)
SIZE = Column("size", "size", 8, right=True, rank=1)
DATE = Column("date", "date", 10, rank=2)
COLUMNS = (SIGN, NAME, DATE, SIZE)


@pytest.mark.parametrize(
    ("width", "kept"),
    [
        (60, ["sign", "name", "date", "size"]),
        (44, ["sign", "name", "date", "size"]),
        (43, ["sign", "name", "size"]),
        (32, ["sign", "name", "size"]),
        (31, ["sign", "name"]),
        (12, ["sign", "name"]),
        (1, ["sign"]),
        (0, []),
    ],
)
def test_the_highest_ranks_are_dropped_first(width: int, kept: list[str]) -> None:
    assert [slot.column.key for slot in arrange(COLUMNS, width)] == kept


def test_what_is_left_goes_to_the_growing_column() -> None:
    slots = {slot.column.key: slot for slot in arrange(COLUMNS, 60)}
    assert (slots["name"].x, slots["name"].width) == (2, 36)
    assert slots["size"].x + slots["size"].width == 60


def test_one_that_has_enough_leaves_the_rest_to_the_next() -> None:
    columns = (Column("a", "", 10, grow=True, most=20), Column("b", "", 10, grow=True, most=15))
    widths = [[slot.width for slot in arrange(columns, width)] for width in (22, 30, 35, 60)]
    assert widths == [[10, 10], [18, 10], [20, 13], [43, 15]]


column = st.builds(
    Column,
    st.text("abc", min_size=1),
    st.just(""),
    st.integers(1, 30),
    grow=st.booleans(),
    rank=st.integers(0, 3),
    most=st.integers(30, 60),
)


@given(st.lists(column, max_size=8), st.integers(0, 200))
def test_slots_never_overlap_nor_leave_the_width(columns: list[Column], width: int) -> None:
    slots = arrange(columns, width)
    for before, after in pairwise(slots):
        assert before.x + before.width < after.x
    assert all(slot.width > 0 and slot.x + slot.width <= width for slot in slots)
