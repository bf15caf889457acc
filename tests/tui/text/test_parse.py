"""What a person writes on a line, read as numbers."""

from __future__ import annotations

import pytest

from modeldeck.core.errors import InvalidRequest
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import parse


@pytest.mark.parametrize(
    ("text", "rate"),
    [("", None), ("none", None), ("2.5 MB/s", 2_500_000), ("800k", 800_000), ("1MiB", 1 << 20),
     ("5000", 5000), ("10 B/s", 10)],
)  # fmt: skip
def test_a_rate(text: str, rate: int | None) -> None:
    assert parse.rate(text) == rate


@pytest.mark.parametrize(
    ("text", "count"),
    [("", None), (" none ", None), ("48 GiB", 48 << 30), ("48GB", 48 << 30), ("48", 48 << 30),
     ("1.5g", 3 << 29), ("512 MiB", 512 << 20), ("1t", 1 << 40)],
)  # fmt: skip
def test_memory(text: str, count: int | None) -> None:
    assert parse.memory(text) == count


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("never", 0), ("90", 90), ("90 s", 90), ("10m", 600), ("10 min", 600),
     ("1h30m", 5400), ("1h", 3600), ("2d 4h", 187_200), ("1m05s", 65)],
)  # fmt: skip
def test_a_time(text: str, seconds: float) -> None:
    assert parse.span(text) == seconds


@pytest.mark.parametrize("text", ["fast", "-1", "2.5", "0", "1 XB/s"])
def test_what_is_no_rate_says_how_one_is_written(text: str) -> None:
    with pytest.raises(InvalidRequest) as told:
        parse.rate(text)
    assert told.value.remedy


@pytest.mark.parametrize("text", ["much", "-1 GiB", "0", "1e9"])
def test_what_is_no_memory_says_how_it_is_written(text: str) -> None:
    with pytest.raises(InvalidRequest) as told:
        parse.memory(text)
    assert told.value.remedy == f"S{parse.MEMORY_FORMS[1:]}."


@pytest.mark.parametrize("text", ["soon", "-1", "10x", "1.5h"])
def test_what_is_no_time_says_how_it_is_written(text: str) -> None:
    with pytest.raises(InvalidRequest) as told:
        parse.span(text)
    assert told.value.remedy == f"S{parse.TIME_FORMS[1:]}."


@pytest.mark.parametrize("seconds", [10.0, 59.0, 65.0, 5400.0, 90_000.0])
def test_what_the_screen_writes_it_reads(seconds: float) -> None:
    assert parse.span(fmt.duration(seconds)) == seconds
