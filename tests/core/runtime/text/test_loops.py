"""Answers that repeat themselves are told from those that only do so for a while."""

import doctest
import random

import pytest

from modeldeck.core.runtime.text import loops
from modeldeck.core.runtime.text.loops import EVERY, LONGEST_RUN, WINDOW, is_due, repeated_run

DRAW = random.Random(3)
TEXT = [DRAW.randrange(50_000) for _ in range(3000)]
LONG = TEXT[:LONGEST_RUN]


@pytest.mark.parametrize(
    ("tokens", "run"),
    [
        ([], 0),
        (TEXT, 0),
        ([5] * WINDOW, 1),
        ([5] * (WINDOW - 1), 0),
        (TEXT + [5] * WINDOW, 1),
        ([5] * WINDOW + [6], 0),
        ([5] * 700 + [6] + [5] * 700, 0),
        (TEXT + [1, 2, 3, 2] * 300, 4),
        (TEXT + LONG * 8, LONGEST_RUN),
        (TEXT + LONG[:-1] * 9, LONGEST_RUN - 1),
        (TEXT + TEXT[: LONGEST_RUN + 1] * 8, 0),  # a longer run: that may be a text with variations
        (TEXT + LONG * 7, 0),
        # A list that counts is no loop.
        ([token for number in range(900) for token in (1, 2, number)], 0),
    ],
)
def test_the_run_that_the_last_tokens_repeat(tokens: list[int], run: int) -> None:
    assert repeated_run(tokens) == run


def test_an_answer_is_looked_at_now_and_then() -> None:
    assert [n for n in range(2 * WINDOW) if is_due(n)] == list(range(WINDOW, 2 * WINDOW, EVERY))


def test_the_examples_hold() -> None:
    assert doctest.testmod(loops).failed == 0
