"""Turns of models that do not fit together: kept while there is work, but not for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.schema import Priority
from modeldeck.core.service.loading.model_turns import HOLD_S, ModelTurn, ahead


def turn(since: float, *blockers: str, priority: Priority = "interactive") -> ModelTurn:
    return ModelTurn(
        model_id=f"m{since}", unique="m", since=since, priority=priority, blockers=blockers
    )


@pytest.mark.parametrize(
    ("own", "others", "now", "found"),
    [
        (turn(5), [], 100, None),
        (turn(5), [turn(1, "a")], HOLD_S, None),  # it may still go ahead
        (turn(5), [turn(1, "a")], 1 + HOLD_S, 1),
        (turn(5), [turn(1, "b")], 100, None),  # that one waits for another model
        (turn(5), [turn(6, "a")], 100, None),  # that one is younger
        (turn(5), [turn(2, "a"), turn(1, "a")], 100, 1),
        (turn(5, priority="batch"), [turn(1, "a")], 5, 1),
        (turn(5, priority="batch"), [turn(1, "a", priority="batch")], 5, None),
        (turn(5), [turn(1, "a", priority="batch")], 100, 1),
        (turn(5), [turn(5, "a")], 100, None),
    ],
)
def test_the_older_one_goes_first_when_it_has_waited_long(
    own: ModelTurn, others: list[ModelTurn], now: float, found: float | None
) -> None:
    other = ahead(own, [*others, own], "a", now)
    assert (None if other is None else other.since) == found


TURNS = st.lists(
    st.builds(
        turn,
        st.floats(0, 100),
        st.sampled_from("ab"),
        priority=st.sampled_from(["interactive", "batch"]),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda one: one.since,
)


@given(TURNS, st.floats(100, 200))
def test_nobody_waits_in_a_circle(turns: list[ModelTurn], now: float) -> None:
    """Each yields to an older one only, so following it ends at one that yields to nobody."""
    oldest = min(turns, key=lambda one: one.since)
    for instance in "ab":
        assert ahead(oldest, turns, instance, now) is None
        for own in turns:
            other = ahead(own, turns, instance, now)
            assert other is None or other.since < own.since


@given(TURNS)
def test_in_the_end_every_older_one_that_needs_the_memory_goes_first(
    turns: list[ModelTurn],
) -> None:
    newest = turn(101)
    needing = [one.since for one in turns if "a" in one.blockers]
    other = ahead(newest, [*turns, newest], "a", 100 + HOLD_S)
    assert (None if other is None else other.since) == min(needing, default=None)
