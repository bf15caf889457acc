"""Giving way: when, how far, and how it ends."""

import pytest

from modeldeck.core.service.congestion import FLOOR, ClientLatency, CongestionControl

FREE, FULL = 0.02, 0.3
"""Seconds that a front end waits in line."""
RATE = 8_000_000


def run(
    *waits: float, rate: float = RATE, start: CongestionControl | None = None
) -> list[int | None]:
    """The limit after each second, the downloads taking all they may."""
    state, limits = start or CongestionControl(), []
    for wait in waits:
        state = state.after(wait, rate if state.limit is None else min(rate, state.limit))
        limits.append(state.limit)
    return limits


def test_nothing_is_limited_while_nobody_waits() -> None:
    assert run(FREE, 0.0, 0.1) == [None] * 3


def test_one_late_answer_changes_nothing() -> None:
    assert run(FULL, FREE, FULL, FREE) == [None] * 4


def test_it_halves_while_somebody_waits_and_never_stops_the_downloads() -> None:
    limits = run(*[FULL] * 20)
    assert limits[:4] == [None, RATE // 2, RATE // 2, RATE // 4]
    assert limits[-1] == FLOOR


def test_it_grows_back_by_tenths() -> None:
    _, low, *after = run(FULL, FULL, FREE, FREE)
    assert low == RATE // 2
    assert after == [int(low * 1.1) + 1, int((int(low * 1.1) + 1) * 1.1) + 1]


def test_a_limit_that_holds_nothing_back_is_lifted() -> None:
    assert run(*[FREE] * 30, start=CongestionControl(limit=RATE // 4))[-1] is None
    assert CongestionControl(limit=RATE).after(FREE, 0).limit is None


@pytest.mark.parametrize(
    ("answers", "waits"),
    [((0.01, 0.01), 0.0), ((0.01, 0.25), 0.24), ((0.2, 0.01), 0.0), ((0.3, 0.3, 0.3), 0.0)],
)
def test_what_counts_is_what_it_takes_more_than_at_its_best(
    answers: tuple[float, ...], waits: float
) -> None:
    latency, now = ClientLatency(), 100.0
    for took in answers:
        latency = latency.ping_sent(now).ping_answered(now + took)
        now += 1
    assert latency.current_delay_s(now) == pytest.approx(waits, abs=0.002)


def test_an_answer_that_is_overdue_counts_before_it_comes() -> None:
    latency = ClientLatency().ping_sent(0.0).ping_answered(0.01).ping_sent(1.0)
    assert latency.current_delay_s(1.005) == 0
    assert latency.current_delay_s(3.0) == pytest.approx(1.99)
    assert ClientLatency().ping_sent(0.0).current_delay_s(5.0) == 0, "nothing is known of it yet"
    assert ClientLatency().ping_answered(1.0) == ClientLatency()
