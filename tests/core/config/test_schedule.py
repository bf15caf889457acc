"""When which limit holds, and how a rate is written."""

import doctest

import pytest

from modeldeck.core.config import schedule as module
from modeldeck.core.config.schedule import Schedule, limit_at, parse_entry, parse_rate, window_at
from modeldeck.core.errors import InvalidRequest

NIGHT: Schedule = {"01:00-07:00": "none"}
LATE: Schedule = {"22:30-06:15": 500}
BOTH: Schedule = {"08:00-18:00": 100, "17:00-19:00": 200}
DAY: Schedule = {"00:00-24:00": 7}
ALWAYS: Schedule = {"09:00-09:00": 7}

TABLE: list[tuple[Schedule, str, int | None]] = [
    ({}, "12:00", 1000),
    (NIGHT, "00:59", 1000),
    (NIGHT, "01:00", None),
    (NIGHT, "06:59", None),
    (NIGHT, "07:00", 1000),
    (LATE, "22:29", 1000),
    (LATE, "22:30", 500),
    (LATE, "23:59", 500),
    (LATE, "00:00", 500),
    (LATE, "06:14", 500),
    (LATE, "06:15", 1000),
    (BOTH, "17:30", 100),
    (BOTH, "18:00", 200),
    (BOTH, "19:00", 1000),
    (DAY, "00:00", 7),
    (DAY, "23:59", 7),
    (ALWAYS, "03:00", 7),
    (ALWAYS, "09:00", 7),
]


@pytest.mark.parametrize(("schedule", "clock", "limit"), TABLE)
def test_the_limit_follows_the_clock(schedule: Schedule, clock: str, limit: int | None) -> None:
    hours, minutes = clock.split(":")
    minute = int(hours) * 60 + int(minutes)
    assert limit_at(schedule, 1000, minute) == limit
    assert (window_at(schedule, minute) is None) == (limit == 1000)


RATES = [
    ("5MB/s", 5_000_000),
    ("5 mb", 5_000_000),
    ("5m", 5_000_000),
    ("1.5MiB/s", 1_572_864),
    ("800k", 800_000),
    ("2 GB/s", 2_000_000_000),
    ("2048", 2048),
    ("none", None),
    ("Off", None),
]


@pytest.mark.parametrize(("text", "rate"), RATES)
def test_a_rate_is_read_as_people_write_it(text: str, rate: int | None) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "0", "0.2", "-5MB", "fast", "5 MB per hour", "1e9", "²"])
def test_what_is_no_rate_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_rate(text)
    assert "5MB/s" in caught.value.remedy


def test_an_entry_of_a_schedule_is_read() -> None:
    assert parse_entry(" 01:00-07:00 = none") == ("01:00-07:00", "none")
    assert parse_entry("22:00-24:00=1MB/s") == ("22:00-24:00", 1_000_000)


@pytest.mark.parametrize("text", ["", "1:00-7:00=none", "01:00=none", "25:00-26:00=1", "a-b=c"])
def test_what_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_entry(text)


def test_the_examples_hold() -> None:
    result = doctest.testmod(module)
    assert result.attempted == 3
    assert result.failed == 0
