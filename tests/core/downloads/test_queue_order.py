"""The order of the queue: what a move changes, and what it leaves alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.downloads.queue_order import moved
from modeldeck.core.schema import QueueMove

THREE = {"a": 1, "b": 5, "c": 9}

MOVES: list[tuple[str, QueueMove, dict[str, int]]] = [
    ("a", "down", {"b": 1, "a": 5}),
    ("b", "up", {"b": 1, "a": 5}),
    ("c", "up", {"c": 5, "b": 9}),
    ("c", "first", {"c": 0}),
    ("a", "last", {"a": 10}),
    ("a", "up", {}),
    ("a", "first", {}),
    ("c", "down", {}),
    ("c", "last", {}),
]


@pytest.mark.parametrize(("job", "to", "changed"), MOVES)
def test_a_move_changes_no_more_than_it_must(
    job: str, to: QueueMove, changed: dict[str, int]
) -> None:
    assert moved(THREE, job, to) == changed


def test_positions_that_are_equal_are_told_apart() -> None:
    torn = {"a": 2, "b": 2, "c": 2}
    after = torn | moved(torn, "c", "up")
    assert sorted(after, key=after.__getitem__) == ["a", "c", "b"]
    assert len(set(after.values())) == 3


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=6),
    st.data(),
    st.sampled_from(["up", "down", "first", "last"]),
)
def test_a_move_puts_one_job_elsewhere_and_keeps_the_others_in_order(
    numbers: list[int], data: st.DataObject, to: QueueMove
) -> None:
    before = {chr(97 + at): number for at, number in enumerate(numbers)}
    job = data.draw(st.sampled_from(sorted(before)))
    order = sorted(before, key=before.__getitem__)
    after = before | moved(before, job, to)
    new = sorted(after, key=after.__getitem__)
    assert [key for key in new if key != job] == [key for key in order if key != job]
    step = {"up": -1, "down": 1, "first": -len(order), "last": len(order)}[to]
    assert new.index(job) == min(max(order.index(job) + step, 0), len(order) - 1)
