import doctest
from pathlib import Path

import pytest

from core import overhead
from core.catalog import gguf
from core.config import Runtime as Settings
from core.demo.bench import Bench
from core.memory import estimate
from core.memory.estimate import from_header, from_size, judge, kv_cache_bytes
from core.schema import Forecast, LoadOptions

GIB = 1 << 30
LOGGED = 1 << 13
"""llama.cpp's log, which a plan is read from, tells hundredths of a MiB."""


def test_the_worked_numbers_hold() -> None:
    for module in (estimate, overhead):
        result = doctest.testmod(module)
        assert result.attempted
        assert not result.failed


def forecast(total: int, exact: bool = True) -> Forecast:
    return Forecast(
        total_bytes=total,
        weights_bytes=total,
        kv_bytes=0,
        compute_bytes=0,
        overhead_bytes=0,
        exact=exact,
    )


@pytest.mark.parametrize(
    ("needed", "available", "reserve", "verdict"),
    [
        (3 * GIB, 4 * GIB, GIB, "fits"),
        (3 * GIB + 1, 4 * GIB, GIB, "tight"),
        (4 * GIB, 4 * GIB, GIB, "tight"),
        (4 * GIB + 1, 4 * GIB, GIB, "too large"),
        (1, 0, GIB, "too large"),
        (4 * GIB, 4 * GIB, 0, "fits"),
        (GIB, None, GIB, "unknown"),
        (None, 4 * GIB, GIB, "unknown"),
    ],
)
def test_the_verdict(needed: int | None, available: int | None, reserve: int, verdict: str) -> None:
    given = None if needed is None else forecast(needed)
    fit = judge(given, available, reserve)
    assert fit.verdict == verdict
    assert (fit.forecast, fit.available_bytes) == (given, available)
    assert (fit.reason is None) == (verdict == "fits")


def test_a_refusal_tells_what_is_missing_and_an_estimate_is_marked() -> None:
    fit = judge(forecast(6 * GIB, exact=False), 4 * GIB, GIB)
    assert fit.reason == "2.0 GiB more would have to be free."
    assert not fit.exact


@pytest.mark.parametrize("type_", estimate.BITS_PER_VALUE)
def test_a_cache_grows_with_its_type(type_: str) -> None:
    per_value = kv_cache_bytes((1,), 64, 64, 256, type_) / (256 * 128)
    assert per_value == estimate.BITS_PER_VALUE[type_] / 8


async def test_the_formula_comes_near_the_engines_own_plan(demo_models: Path) -> None:
    bench = Bench(Settings())
    try:
        for name in ("tiny-GGUF/tiny-F16.gguf", "padded-GGUF/padded-F16.gguf"):
            path = demo_models / name
            for options in (
                LoadOptions(context_length=512),
                LoadOptions(context_length=4096, kv_cache_type="q8_0"),
                LoadOptions(),
            ):
                exact = await bench.engines.plan(path, options)
                guess = from_header(gguf.read(path), options, path.stat().st_size)
                assert not guess.exact
                assert guess.kv_bytes == pytest.approx(exact.kv_bytes, abs=LOGGED)
                assert guess.total_bytes == pytest.approx(exact.total_bytes, rel=0.05)
    finally:
        await bench.engines.close()


def test_the_size_alone_gives_the_weights_and_the_process() -> None:
    guess = from_size(GIB)
    assert guess.weights_bytes == GIB
    assert guess.total_bytes > GIB
    assert not guess.exact
