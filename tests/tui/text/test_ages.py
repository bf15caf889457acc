"""How long ago a moment was."""

from __future__ import annotations

import doctest

import pytest

from modeldeck.tui.text import ages


def test_the_examples_hold() -> None:
    result = doctest.testmod(ages)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (5, "now"), (60, "1 min ago"), (7199, "1 h ago"), (3 * 86_400, "3 d ago"),
        (40 * 86_400, "1 mo ago"), (800 * 86_400, "2 y ago"),
    ],
)  # fmt: skip
def test_age_is_told_in_its_largest_unit(ago: int, words: str) -> None:
    assert ages.age(1e9 - ago, 1e9) == words
    assert ages.age(0, 1e9) == "—"
