"""What becomes of requests after a crash of their engine, as a table."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from modeldeck.core.runtime.instance import crash
from modeldeck.core.runtime.instance.crash import (
    MOST_CAUSES,
    CrashPlan,
    RunningRequest,
    after_crash,
)

NEW = RunningRequest()
SHOWN = RunningRequest(shown=True)
TRIED = RunningRequest(again=True, suspect=True)
CLEARED = RunningRequest(again=True)


@pytest.mark.parametrize(
    ("running", "known", "plan"),
    [
        # Nothing ran: the engine fails by itself.
        ({}, {}, CrashPlan()),
        # One that ran alone is most likely the cause.
        ({1: NEW}, {}, CrashPlan(restarts=True, suspects=True)),
        # Of several those that have shown nothing are asked again, one at a time.
        (
            {1: NEW, 2: SHOWN, 3: NEW},
            {},
            CrashPlan(restarts=True, again=(1, 3), suspects=True),
        ),
        # The cause is known: the others are no suspects.
        ({1: NEW, 2: NEW}, {"cause": 2}, CrashPlan(restarts=True, again=(1,))),
        # A suspect alone: it is the cause, but not any number of times.
        ({4: TRIED}, {"recent": True}, CrashPlan(restarts=True, found=True)),
        ({4: TRIED}, {"recent": True, "found": MOST_CAUSES}, CrashPlan()),
        # A former suspect has company: the cause is not known.
        ({4: CLEARED, 5: NEW}, {"recent": True}, CrashPlan()),
        ({5: NEW}, {"recent": True}, CrashPlan()),
        # Long after: one that was asked again before is not asked a third time.
        ({4: CLEARED, 5: NEW}, {}, CrashPlan(restarts=True, again=(5,), suspects=True)),
    ],
)
def test_after_a_crash(
    running: dict[int, RunningRequest], known: dict[str, Any], plan: CrashPlan
) -> None:
    assert after_crash(running, **known) == plan


def test_the_examples_hold() -> None:
    assert not doctest.testmod(crash).failed
