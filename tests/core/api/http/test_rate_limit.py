from __future__ import annotations

import pytest

from modeldeck.core.api.http.rate_limit import CALLERS, Allowance, RequestLimiter

TWO_A_SECOND = Allowance(per_s=2, burst=3, at_once=2)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_and_then_the_rate_holds() -> None:
    clock = Clock()
    limiter = RequestLimiter(TWO_A_SECOND, clock)
    assert [limiter.ask("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert limiter.ask("b") == 0
    clock.now += 0.5
    assert limiter.ask("a") == 0
    assert limiter.ask("a") == pytest.approx(0.5)
    clock.now += 3600
    assert [limiter.ask("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_asking_while_refused_costs_nothing_more() -> None:
    clock = Clock()
    limiter = RequestLimiter(TWO_A_SECOND, clock)
    for _ in range(100):
        limiter.ask("a")
    clock.now += 0.5
    assert limiter.ask("a") == 0


def test_so_many_are_under_way_and_no_more() -> None:
    limiter = RequestLimiter(TWO_A_SECOND, Clock())
    assert [limiter.enter("a") for _ in range(3)] == [True, True, False]
    assert limiter.enter("b")
    limiter.leave("a")
    assert limiter.enter("a")
    limiter.leave("never came")


def test_a_crowd_of_callers_takes_bounded_room_and_forgets_no_work() -> None:
    limiter = RequestLimiter(TWO_A_SECOND, Clock())
    assert limiter.enter("busy")
    assert limiter.enter("busy")
    for number in range(2 * CALLERS):
        assert limiter.ask(f"caller {number}") == 0
    assert not limiter.enter("busy")
    assert len(limiter._buckets) == CALLERS
