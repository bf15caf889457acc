"""The lines of an engine's log, and the end of its process, in words."""

from __future__ import annotations

import signal

import pytest

from modeldeck.core.errors import (
    DeckError,
)
from modeldeck.core.runtime.process.engine_log import death, last_lines, log_line


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-signal.SIGKILL, "ran out of memory"),
        (-signal.SIGABRT, "SIGABRT"),
        (-signal.SIGBUS, "SIGBUS"),
        (-signal.SIGHUP, "SIGHUP"),
        (-99, "signal 99"),
        (3, "code 3"),
        (None, "code None"),
    ],
)
def test_a_death_is_put_into_words(code: int | None, words: str) -> None:
    error = death(code, [("error", "last words")])
    assert words in error.message
    assert error.remedy
    assert error.details == ("last words",)


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ([], ()),
        (["<7>one", "<7>two"], ("one", "two")),
        (["<3>bad", "<7>two", " ", "<4>hm"], ("bad", "hm")),
        ([f"{n}" for n in range(20)], tuple(str(n) for n in range(12, 20))),
    ],
)
def test_the_lines_of_a_failure_are_the_worst_or_the_last(
    lines: list[str], shown: tuple[str, ...]
) -> None:
    assert last_lines([log_line(line) for line in lines]) == shown


def test_every_failure_is_one_that_survives_the_wire() -> None:
    assert issubclass(type(death(1, [])), DeckError)
