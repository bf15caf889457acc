"""How many connections and which bytes for each: by tables."""

from __future__ import annotations

import doctest
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.downloads.ranges import ByteRanges, add, missing
from modeldeck.core.downloads.transfer import connection_count
from modeldeck.core.downloads.transfer.connection_count import (
    HOLD_S,
    LATE_ANSWER_S,
    LATE_PART_BYTES,
    LEAST_PART_BYTES,
    LEAST_SPLIT_BYTES,
    MOST_PART_BYTES,
    ConnectionCount,
    ends_soon,
    is_slow,
    next_part,
    part_bytes,
)

MB = 1_000_000


def test_examples() -> None:
    assert doctest.testmod(connection_count).failed == 0


LINES: list[tuple[str, Callable[[int], float], int, int]] = [
    ("each connection held back", lambda n: n * 20.0 * MB, 16, 16),
    ("one connection fills a fast line", lambda _: 1300.0 * MB, 1, 1),
    ("a slow line that one connection fills", lambda _: 5.0 * MB, 1, 1),
    ("four fill it", lambda n: min(n * 25.0, 100.0) * MB, 4, 4),
    ("a fast line that takes eight", lambda n: min(n * 150.0, 1200.0) * MB, 8, 16),
]


@pytest.mark.parametrize(("name", "rate", "least", "most"), LINES)
def test_the_width_finds_what_a_line_takes(
    name: str, rate: Callable[[int], float], least: int, most: int
) -> None:
    here, now = ConnectionCount(most=16), 0.0
    for _ in range(60):
        now += here.window_s(0.01)
        here = here.measured(rate(here.wanted), now)
    assert least <= here.base <= most, name
    assert here.quiet_until > now or here.wanted != here.base


def test_connections_that_are_held_back_are_opened_within_half_a_second() -> None:
    here, now = ConnectionCount(most=16), 0.0
    while here.wanted < 16:
        now += here.window_s(0.0)
        here = here.measured(here.wanted * 20.0 * MB, now)
    assert now <= 0.5


@pytest.mark.parametrize(
    ("answer_s", "most", "wanted"),
    [(0.01, 16, 1), (0.049, 16, 1), (0.05, 16, 16), (0.3, 16, 16), (0.3, 6, 6), (0.3, 64, 16)],
)
def test_a_late_first_answer_opens_the_others_at_once(
    answer_s: float, most: int, wanted: int
) -> None:
    here = ConnectionCount(most=most).after_first_answer(answer_s)
    assert here.wanted == wanted
    assert here.is_opening
    assert ConnectionCount(most=2, is_opening=False).after_first_answer(1.0).wanted == 1


def ramp_s(answer_s: float, most: int) -> float:
    """Seconds until `most` connections receive, of a server that limits each to 20 MB/s."""
    here, now = ConnectionCount(most=most), answer_s
    here = here.after_first_answer(answer_s)
    while here.wanted < most:
        now += here.window_s(answer_s)
        here = here.measured(here.wanted * 20.0 * MB, now)
        now += answer_s
    return now + (answer_s if answer_s >= LATE_ANSWER_S else 0.0)


@pytest.mark.parametrize("answer_s", [0.05, 0.1, 0.3, 1.0])
def test_all_connections_receive_after_two_late_answers(answer_s: float) -> None:
    assert ramp_s(answer_s, 16) == pytest.approx(2 * answer_s)


def test_connections_opened_at_once_are_fewer_again_where_one_fills_the_line() -> None:
    here, now = ConnectionCount(most=16).after_first_answer(0.1), 0.2
    while here.base > 1 or here.wanted > 1:
        now += here.window_s(0.1)
        here = here.measured(5.0 * MB, now)
        assert now < 15.0


AHEAD = [
    (2_900_000, 20e6, 0.1, True),
    (3_100_000, 20e6, 0.1, False),
    (10_000_000, 20e6, 0.5, True),
    (0, 20e6, 0.02, False),
    (1, 0.0, 0.1, False),
]


@pytest.mark.parametrize(("left", "rate", "answer_s", "soon"), AHEAD)
def test_when_the_next_range_is_requested(
    left: int, rate: float, answer_s: float, soon: bool
) -> None:
    assert ends_soon(left, rate, answer_s, 0.05) is soon


@pytest.mark.parametrize(("wanted", "ceiling", "limit"), [(16, 99, 24), (1, 99, 2), (4, 4, 4)])
def test_requests_ahead_are_few_and_none_beyond_what_a_server_allows(
    wanted: int, ceiling: int, limit: int
) -> None:
    assert ConnectionCount(most=16, wanted=wanted, ceiling=ceiling).limit_ahead == limit


def test_requests_refused_together_reduce_the_count_once() -> None:
    here = ConnectionCount(most=16, wanted=16, base=16).refused(0, 100.0)
    assert here.wanted == 1
    for working in (1, 2, 4, 3, 4):
        here = here.refused_again(working, 100.0)
    assert (here.wanted, here.limit, here.quiet_until) == (4, 4, 100.0 + HOLD_S)


def test_who_refuses_gets_fewer_and_no_more_for_a_while() -> None:
    here = ConnectionCount(most=16, wanted=16, base=16, is_opening=False)
    here = here.refused(5, 100.0)
    assert (here.wanted, here.limit) == (5, 5)
    for now in range(101, 160):
        here = here.measured(here.wanted * MB, now)
        assert here.wanted <= 5
    for now in range(161, 400):
        here = here.measured(here.wanted * MB, now)
    assert here.base > 5, "a refusal is not for ever"
    for _ in range(10):
        here = here.refused(0, 500.0)
    assert here.wanted == 1


def test_what_is_held_back_by_something_else_does_not_grow() -> None:
    here = ConnectionCount(most=16)
    assert here.held() == here
    tried = ConnectionCount(most=16, wanted=8, base=4, is_opening=False)
    assert tried.held().wanted == 4


PARTS = [
    (0.0, 0.0, 1 << 30, 1, LEAST_PART_BYTES),
    (1e9, 0.0, 1 << 30, 1, MOST_PART_BYTES),
    (20e6, 0.0, 1 << 30, 16, 5_000_000),
    (20e6, 0.1, 1 << 30, 16, 10_000_000),
    (0.0, 0.1, 1 << 30, 16, LATE_PART_BYTES),
    (0.0, 0.1, 64 << 20, 16, LEAST_PART_BYTES),
    (1e9, 0.0, 200 << 20, 16, 200 << 15),
    (1e9, 0.0, 20 << 20, 16, LEAST_PART_BYTES),
]


@pytest.mark.parametrize(("rate", "answer_s", "left", "lanes", "size"), PARTS)
def test_sizes_of_parts(rate: float, answer_s: float, left: int, lanes: int, size: int) -> None:
    assert part_bytes(rate, answer_s, left, lanes) == size


@given(st.integers(1, 64), st.integers(1, 40), st.integers(1, 8))
def test_parts_cover_a_file_once_in_order(size: int, most: int, lanes: int) -> None:
    size, most = size << 18, most << 18
    there: ByteRanges = ()
    taken: list[tuple[int, int]] = []
    while missing(there, size):
        while len(taken) < lanes and (span := next_part(there, taken, size, most)) is not None:
            assert 0 < span[1] - span[0] <= most + LEAST_SPLIT_BYTES
            assert all(end <= span[0] or span[1] <= start for start, end in (*there, *taken))
            taken.append(span)
        there = add(there, taken.pop(0))
    assert there == ((0, size),)


SLOW = [
    (0, 30.0, [], True),
    (30_000, 30.0, [], True),
    (31_000, 30.0, [], False),
    (0, 7.0, [1e6], False),
    (10_000, 10.0, [1e6, 1e6], True),
    (600_000, 10.0, [1e6, 1e6], False),
    (10_000, 10.0, [], False),
]


@pytest.mark.parametrize(("brought", "elapsed", "others", "slow"), SLOW)
def test_which_connections_are_given_up(
    brought: int, elapsed: float, others: list[float], slow: bool
) -> None:
    assert is_slow(brought, elapsed, 30.0, others) is slow
