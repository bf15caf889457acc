"""What requests at once share, in words."""

import doctest

import pytest

from modeldeck.core.schema import Forecast
from modeldeck.tui.text import sharing

FORECAST = Forecast(
    total_bytes=1, weights_bytes=1, kv_bytes=0, compute_bytes=0, overhead_bytes=0, exact=True
)


@pytest.mark.parametrize(
    ("parallel", "length", "cells", "words", "brief"),
    [
        (None, 8192, None, "", ""),
        (1, 8192, 8192, "", ""),
        (4, None, None, "", ""),
        (2, 1000, 1500, "2 requests share 1,500 tokens, each up to 1,000", "2 share 1500"),
        (2, 1024, 2048, "1,024 tokens for each of 2 requests", "1k for each of 2"),
    ],
)
def test_sharing_is_told(
    parallel: int | None, length: int | None, cells: int | None, words: str, brief: str
) -> None:
    assert sharing.shared(parallel, length, cells) == words
    assert sharing.shared_briefly(parallel, length, cells) == brief


def test_a_prefix_cache_is_told_with_its_limit_and_what_it_holds() -> None:
    from dataclasses import replace

    assert sharing.prefix_cache(FORECAST) == ""
    limited = replace(FORECAST, prefix_cache_bytes=512 << 20)
    assert sharing.prefix_cache(limited) == "prefix cache up to 512 MiB more"
    assert sharing.prefix_cache(limited, 3 << 20) == (
        "prefix cache up to 512 MiB more, 3.0 MiB now"
    )
    assert sharing.own_cells(None, 1) == sharing.own_cells(1, None) == ""


def test_the_worked_examples_hold() -> None:
    result = doctest.testmod(sharing)
    assert result.attempted
    assert not result.failed
