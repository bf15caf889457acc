"""Verdicts in the catalog, where some of a model goes into a GPU's own memory. Pure."""

from dataclasses import replace

import pytest

from modeldeck.core.schema import DeviceBytes, Fit, Forecast, Verdict
from modeldeck.tui.dashboard.screens.catalog.cells import needs
from modeldeck.tui.dashboard.screens.catalog.detail import DetailTarget, beside

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


@pytest.mark.parametrize(
    ("forecast", "verdict", "words"),
    [
        (PLAIN, "fits", "10.0 of 12.0"),
        (SPLIT, "fits", "10.0"),
        (SPLIT, "too large", "10.0"),
        (LOST, "unknown", "~10.0"),
    ],
)
def test_memory_of_the_machine_is_not_set_against_all_of_a_split_model(
    forecast: Forecast, verdict: Verdict, words: str
) -> None:
    assert needs(replace(fit(forecast), verdict=verdict)) == words


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
