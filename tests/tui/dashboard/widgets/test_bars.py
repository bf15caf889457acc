"""Bars, sparklines and lines as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.bars import History, Part, bar, fitted, spark, wrapped
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import ASCII, UNICODE

NAMES = ("primary", "secondary", "accent", "success", "warning", "error")
INKS = ink(dict.fromkeys(NAMES, "ansi_red") | {"foreground": "#ffffff", "background": "#000000"})


@pytest.mark.parametrize(
    ("fraction", "shape"), [(None, "...."), (0, "...."), (0.5, "##.."), (1, "####"), (7, "####")]
)
def test_a_bar_is_as_wide_as_asked(fraction: float | None, shape: str) -> None:
    assert bar(fraction, 4, ASCII, INKS).plain == shape


def test_a_sparkline_says_what_is_unknown_and_what_is_nothing() -> None:
    assert spark([None, 0, 1, 50, 100], 100, UNICODE, INKS).plain == "—▁▂▅█"
    assert spark([None, 0, 100], 100, ASCII, INKS).plain == "-_#"


def test_a_sparkline_without_a_ceiling_reaches_its_largest_value() -> None:
    assert spark([1, 3], None, UNICODE, INKS).plain[-1] == "█"
    assert spark([0, 0], None, UNICODE, INKS).plain == "▁▁"
    assert spark([], None, UNICODE, INKS).plain == ""


def test_history_keeps_the_largest_value_of_each_slot() -> None:
    past = History(10, 10)
    for at, value in [(0.0, 1), (0.9, 5), (1.0, 2), (3.5, 4)]:
        past.add(at, value)
    assert past.values(3.9, 10)[-4:] == [5, 2, None, 4]


def test_history_in_fewer_cells_is_merged_and_not_cut() -> None:
    past = History(10, 10)
    for second in range(10):
        past.add(second, second)
    assert past.values(9.5, 5) == [1, 3, 5, 7, 9]
    assert len(past.values(9.5, 3)) == 2


def test_what_is_drawn_of_history_moves_and_does_not_change() -> None:
    past = History(12, 12)
    for second in range(12):
        past.add(second, second)
    assert past.values(12, 6)[:-1] == past.values(11, 6)[1:]


def test_history_forgets_what_is_too_old_and_does_not_invent_what_was_not_seen() -> None:
    past = History(5, 5)
    past.add(0, 1)
    past.add(1, None)
    assert past.values(1, 5) == [None, None, None, 1, None]
    assert past.values(100, 5) == [None] * 5


def test_parts_of_high_rank_give_way() -> None:
    parts = [(0, Text("name")), (2, Text("least")), (1, Text("more"))]
    assert fitted(parts, 40).plain == "name   least   more"
    assert fitted(parts, 12).plain == "name   more"
    assert fitted(parts, 3).plain == "na…"


def test_parts_say_less_before_they_give_way() -> None:
    parts: list[Part] = [
        (0, Text("2 active")),
        (2, Text("▁▂▃")),
        (1, (Text("disk 5 GB left afterwards"), Text("disk 5 GB left"))),
    ]
    assert fitted(parts, 60).plain == "2 active   ▁▂▃   disk 5 GB left afterwards"
    assert fitted(parts, 40).plain == "2 active   ▁▂▃   disk 5 GB left"
    assert fitted(parts, 30).plain == "2 active   disk 5 GB left"


def test_long_text_is_wrapped_under_itself() -> None:
    lines = wrapped(Text("engine    llama.cpp on a CPU", "red"), 20, 10)
    assert [line.plain for line in lines] == ["engine    llama.cpp", "          on a CPU"]
    assert all(str(line.style) == "red" for line in lines)


@given(st.text("ab 猫", max_size=80), st.integers(4, 20), st.integers(0, 2))
def test_wrapped_text_fits_and_is_all_there(text: str, width: int, indent: int) -> None:
    lines = wrapped(Text(text), width, indent)
    assert all(fmt.columns(line.plain) <= width for line in lines)
    assert "".join(line.plain for line in lines).replace(" ", "") == text.replace(" ", "")
