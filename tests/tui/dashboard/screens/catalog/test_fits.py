"""Verdicts in the catalog, where some of a model goes into a GPU's own memory. Pure."""

from dataclasses import replace

import pytest

from modeldeck.core.schema import DeviceBytes, Fit, Forecast, Verdict
from modeldeck.tui.dashboard.screens.catalog.cells import fit_words
from modeldeck.tui.dashboard.screens.catalog.targets import DetailTarget, beside

GIB = 1 << 30
GPU = DeviceBytes(name="CUDA0", weights_bytes=4 * GIB, kv_bytes=GIB, compute_bytes=0)
PLAIN = Forecast(
    total_bytes=10 * GIB, weights_bytes=8 * GIB, kv_bytes=2 * GIB, compute_bytes=0,
    overhead_bytes=0, exact=True,
)  # fmt: skip
SPLIT = replace(PLAIN, gpu_bytes=5 * GIB, devices=(GPU,))
LOST = replace(PLAIN, exact=False, gpu_bytes=None, gpu_unknown="it is not told")


def fit(forecast: Forecast) -> Fit:
    return Fit(verdict="fits", forecast=forecast, available_bytes=12 * GIB, exact=forecast.exact)


HUGE = replace(PLAIN, total_bytes=120 * GIB)
LARGE = replace(PLAIN, total_bytes=int(24.1 * GIB), exact=False)


@pytest.mark.parametrize(
    ("forecast", "verdict", "words"),
    [
        (PLAIN, "fits", "fits  10.0"),
        (replace(PLAIN, exact=False), "tight", "tight~10.0"),
        (HUGE, "too large", "over   108"),
        (LARGE, "too large", "over ~12.1"),
        (SPLIT, "fits", "fits  10.0"),
        # memory of the machine is not set against all of a split model
        (SPLIT, "too large", "over  10.0"),
        (LOST, "unknown", "—"),
        (PLAIN, "refused", "refused"),
    ],
)
def test_a_fit_is_a_word_and_a_number(forecast: Forecast, verdict: Verdict, words: str) -> None:
    assert "".join(fit_words(replace(fit(forecast), verdict=verdict))) == words


def test_only_the_budget_is_too_small() -> None:
    budget = replace(fit(LARGE), verdict="too large", over_budget=True)
    assert "".join(fit_words(budget)) == "budget ~12"
    assert "".join(fit_words(None)) == "—"


@pytest.mark.parametrize(
    ("forecast", "verdict", "on_gpu"),
    [(PLAIN, "fits", 0), (SPLIT, "unknown", 3 * GIB), (LOST, "unknown", None)],
)
def test_a_sibling_is_split_as_its_planned_neighbour(
    forecast: Forecast, verdict: str, on_gpu: int | None
) -> None:
    planned, half = (
        DetailTarget(unique="a/b", quantization="Q4", size_bytes=size, files=1, model=None)
        for size in (8 * GIB, 4 * GIB)
    )
    found = beside(fit(forecast), planned, half, 20 * GIB)
    assert found is not None
    assert found.forecast is not None
    assert (found.verdict, found.exact) == (verdict, False)
    assert (found.forecast.total_bytes, found.forecast.gpu_bytes) == (6 * GIB, on_gpu)
