"""The thumb of a scrollbar stands where one is, and is seen without colours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.segment import Segment

from modeldeck.tui.dashboard.ascii_filter import plain
from modeldeck.tui.dashboard.widgets.scrollbar import WholeCellScrollBar, place


@pytest.mark.parametrize(
    ("size", "rows", "at", "thumb"),
    [
        (10, 20, 0, (0, 5)),
        (10, 20, 10, (5, 10)),
        (10, 20, 5, (2, 7)),
        (10, 10_000, 0, (0, 1)),
        (10, 10_000, 9_990, (9, 10)),
        (10, 10, 0, (0, 0)),
        (10, 3, 0, (0, 0)),
        (0, 30, 0, (0, 0)),
        (1, 30, 15, (0, 1)),
    ],
)
def test_the_thumb_stands_where_one_is(
    size: int, rows: int, at: float, thumb: tuple[int, int]
) -> None:
    assert place(size, rows, size, at) == thumb


@given(st.integers(1, 60), st.integers(1, 20_000), st.floats(0, 1))
def test_the_thumb_is_inside(size: int, rows: int, share: float) -> None:
    start, end = place(size, rows, size, share * max(0, rows - size))
    assert 0 <= start <= end <= size
    assert (start < end) == (rows > size)


def drawn(rows: int) -> str:
    segments = WholeCellScrollBar.render_bar(5, rows, 5, 0).segments
    return "".join(segment.text for segment in segments if isinstance(segment, Segment))


def test_it_is_seen_without_colours_and_in_ascii() -> None:
    assert drawn(10) == "┃┃┃││"
    assert plain(drawn(10)) == "###||"
    assert drawn(5) == " " * 5
