"""The order of waiting requests: nobody starves, and each requester's requests keep their order."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldeck.core.runtime.instance.request_order import (
    BATCH_EVERY,
    TurnHistory,
    WaitingTurn,
    after_start,
    order,
    pick,
)
from modeldeck.core.schema import Priority


def turns(text: str) -> list[WaitingTurn]:
    """Requests of requesters by letter, in the order of arrival; a capital letter is a batch."""
    return [
        WaitingTurn(at, sign.lower(), "batch" if sign.isupper() else "interactive")
        for at, sign in enumerate(text, 1)
    ]


def started(waiting: list[WaitingTurn], history: TurnHistory | None = None) -> str:
    """The letters in the order of their starts."""
    found = order(waiting, history or TurnHistory(), len(waiting) + 1)
    signs = (waiting[at] for at in found)
    return "".join(t.who.upper() if t.priority == "batch" else t.who for t in signs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("a", "a"),
        ("aaab", "abaa"),
        ("aaabbc", "abcaba"),
        ("ABab", "abAB"),
        ("Aaaaaaaaaaa", "aaaaaaaAaaa"),
    ],
)
def test_requesters_take_turns_and_batches_come_after(text: str, expected: str) -> None:
    assert started(turns(text)) == expected


def test_a_request_that_lost_its_engine_is_first() -> None:
    waiting = [*turns("ab"), WaitingTurn(3, "c", "batch", again=True)]
    assert started(waiting) == "Cab"


@dataclass
class Simulation:
    """A queue with everything that was started, as (arrival, start) by requester and priority."""

    waiting: list[WaitingTurn] = field(default_factory=list)
    history: TurnHistory = field(default_factory=TurnHistory)
    events: int = 0
    starts: list[tuple[WaitingTurn, int]] = field(default_factory=list)

    def arrive(self, who: str, priority: Priority) -> None:
        self.events += 1
        self.waiting.append(WaitingTurn(self.events, who, priority))

    def start(self) -> WaitingTurn:
        index = pick(self.waiting, self.history)
        self.events += 1
        self.history = after_start(self.waiting, self.history, index, self.events)
        turn = self.waiting.pop(index)
        self.starts.append((turn, self.events))
        return turn


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["interactive", "batch"])), st.none()
    ),
    max_size=60,
)


@given(EVENTS)
def test_the_order_that_is_told_is_the_order_of_the_starts(events: list[object]) -> None:
    queue = Simulation()
    for event in events:
        if isinstance(event, tuple):
            queue.arrive(*event)
        elif queue.waiting:
            queue.start()
    told = [queue.waiting[at] for at in order(queue.waiting, queue.history, queue.events + 1)]
    assert told == [queue.start() for _ in range(len(queue.waiting))]


@given(EVENTS)
def test_requests_of_one_requester_keep_their_order(events: list[object]) -> None:
    queue = Simulation()
    for event in events:
        if isinstance(event, tuple):
            queue.arrive(*event)
        elif queue.waiting:
            queue.start()
    for who in "abcd":
        for priority in ("interactive", "batch"):
            arrivals = [
                t.arrived for t, _ in queue.starts if (t.who, t.priority) == (who, priority)
            ]
            assert arrivals == sorted(arrivals)


LENGTH = 12
"""Requests that may wait; more are refused."""


@settings(max_examples=50)
@given(
    before=st.lists(
        st.tuples(st.sampled_from("abcx"), st.sampled_from(["interactive", "batch"])),
        max_size=LENGTH - 1,
    ),
    priority=st.sampled_from(["interactive", "batch"]),
    later=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4),
)
def test_nobody_starves_whatever_arrives_later(
    before: list[tuple[str, Priority]], priority: Priority, later: list[str]
) -> None:
    """New requesters fill the queue after each start; one request is still started in time.

    Its requester's turn comes within a round of as many requesters as may wait, each of them
    `BATCH_EVERY` starts long for a batch, and it needs as many turns as it has requests before it.
    """
    queue = Simulation()
    for who, kind in before:
        queue.arrive(who, kind)
    queue.arrive("x", priority)
    own = queue.events
    bound = (len(before) + 1) * LENGTH * BATCH_EVERY
    for number in range(bound):
        if queue.start().arrived == own:
            return
        for who in later[: LENGTH - len(queue.waiting)]:
            queue.arrive(f"{who}{number}", "interactive")
    raise AssertionError(f"not started within {bound} starts")
