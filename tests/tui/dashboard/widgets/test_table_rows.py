"""The cursor of a table stays on its row, and skips rules."""

from __future__ import annotations

import pytest

from modeldeck.tui.dashboard.widgets.table_rows import TableRows


def rows(names: str) -> TableRows[str]:
    """Rows of one letter each; `-` is a rule."""
    found: TableRows[str] = TableRows(lambda name: name == "-")
    found.replace(names, lambda name: name)
    return found


@pytest.mark.parametrize(
    ("names", "place", "by", "expected"),
    [
        ("", 0, 1, None),
        ("-", 0, 1, None),
        ("abc", 9, 1, 2),
        ("abc", -3, -1, 0),
        ("a-b", 1, 1, 2),
        ("a-b", 1, -1, 0),
        ("-ab", 0, -1, 1),
        ("ab-", 2, 1, 1),
    ],
)
def test_the_nearest_row_that_is_no_rule_is_found(
    names: str, place: int, by: int, expected: int | None
) -> None:
    assert rows(names).selectable(place, by) == expected


def test_only_other_keys_or_another_order_are_a_change() -> None:
    found = rows("abc")
    assert not found.replace("ABC", str.lower)
    assert found.items == "ABC"
    assert found.replace("acb", lambda name: name)
    assert (found.place("c"), found.place("x"), found.of({"b", "a"})) == (1, None, ["a", "b"])


def test_the_cursor_belongs_to_a_key() -> None:
    found = rows("abc")
    assert found.under_cursor is None
    assert found.put(1)
    assert not found.put(1)
    assert found.cursor_key == found.under_cursor == "b"
    assert found.put(None)
    assert found.cursor_key is None


@pytest.mark.parametrize(
    ("at", "top", "expected"), [(2, 0, None), (3, 0, 1), (4, 5, 4), (1, 2, 0), (0, 2, 0)]
)
def test_it_scrolls_as_far_as_needed(at: int, top: int, expected: int | None) -> None:
    found = rows("abcdefgh")
    found.put(at)
    assert found.top_to_show_cursor(top, 3) == expected
