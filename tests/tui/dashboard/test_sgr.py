"""The change from one style to the next leaves the terminal in that style, in few bytes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.tui.dashboard import sgr

ENDS = {"22": "12", "23": "3", "24": "4", "25": "5", "27": "7", "28": "8", "29": "9"}


def colours(base: int) -> st.SearchStrategy[str]:
    """Colours of the terminal, indexed ones, and true ones; also none."""
    small, level = st.integers(0, 7), st.integers(0, 255)
    return st.one_of(
        st.just(""),
        small.map(lambda number: str(base + number)),
        small.map(lambda number: str(base + 60 + number)),
        level.map(lambda number: f"{base + 8};5;{number}"),
        st.tuples(level, level, level).map(lambda rgb: f"{base + 8};2;" + ";".join(map(str, rgb))),
    )


STYLES = st.tuples(
    st.lists(st.sampled_from("1234579"), unique=True, max_size=3).map(sorted),
    colours(30),
    colours(40),
).map(lambda parts: ";".join(filter(None, (*parts[0], *parts[1:]))))


def shown(sequences: str) -> tuple[set[str], str, str]:
    """Attributes, colour and background of a terminal that was sent these sequences."""
    attributes: set[str] = set()
    front = back = ""
    for sequence in re.findall(r"\x1b\[([0-9;]*)m", sequences):
        for word in re.findall(r"[34]8;5;\d+|[34]8;2;\d+;\d+;\d+|\d+", sequence):
            code = int(word.split(";")[0])
            if code == 0:
                attributes, front, back = set(), "", ""
            elif word in ENDS:
                attributes -= {*ENDS[word]}
            elif 30 <= code <= 39 or 90 <= code <= 97:
                front = "" if code == 39 else word
            elif 40 <= code <= 49 or 100 <= code <= 107:
                back = "" if code == 49 else word
            else:
                attributes.add(word)
    return attributes, front, back


@given(STYLES, STYLES)
def test_a_change_leads_to_the_style(before: str, now: str) -> None:
    whole = f"\x1b[0;{now}m"
    found = sgr.change(before, now)
    assert shown(f"\x1b[{before}m" * bool(before) + found) == shown(whole)
    assert len(found) <= len(whole)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ("", "31", "\x1b[0;31m"),
        ("31", "31", ""),
        ("31", "", "\x1b[0m"),
        ("38;2;1;2;3;48;2;4;5;6", "38;2;7;8;9;48;2;4;5;6", "\x1b[38;2;7;8;9m"),
        ("1;38;2;1;2;3", "38;2;1;2;3", "\x1b[22m"),
        ("1;31", "2;31", "\x1b[0;2;31m"),
        ("9;53", "53;9", ""),
    ],
)
def test_only_what_differs_is_said(before: str, now: str, expected: str) -> None:
    assert sgr.change(before, now) == expected


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("", ""),
        ("1;3;38;2;1;2;3", ""),
        ("4;31;48;5;7", "4;48;5;7"),
        ("7;31", "7;31"),
    ],
)
def test_of_a_blank_its_background_and_lines_show(style: str, expected: str) -> None:
    assert sgr.of_blank(style) == expected
