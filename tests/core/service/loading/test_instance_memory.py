"""What the prefix caches of loaded models give back."""

from __future__ import annotations

import pytest

from modeldeck.core.schema import Forecast, Instance, InstanceState, LoadOptions
from modeldeck.core.service.loading.instance_memory import cache_limit, candidate


def loaded(*, measured: int, mapped: int = 0, held: int = 0) -> Instance:
    """A model of 100 bytes with up to 50 in its prefix cache."""
    forecast = Forecast(
        total_bytes=100,
        weights_bytes=100,
        kv_bytes=0,
        compute_bytes=0,
        overhead_bytes=0,
        exact=True,
        prefix_cache_bytes=50,
        gpu_bytes=0,
    )
    return Instance(
        id="i",
        model_id="m",
        unique="m",
        state=InstanceState.READY,
        engine="llama.cpp",
        started_at="",
        options=LoadOptions(),
        forecast=forecast,
        measured_bytes=measured,
        mapped_bytes=mapped,
        prefix_cache_bytes=held,
    )


@pytest.mark.parametrize(
    ("instance", "can_give", "given", "limit"),
    [
        # What it may still take comes back without a byte being dropped.
        (loaded(measured=90), 50, 20, 30),
        (loaded(measured=130, held=30), 50, 20, 30),
        (loaded(measured=130, held=30), 50, 50, 0),
        # It takes more than its forecast: only what the cache holds comes back.
        (loaded(measured=180, mapped=60, held=30), 30, 10, 20),
        (loaded(measured=180, mapped=60), 0, 0, 50),
    ],
)
def test_a_cache_gives_what_it_holds_and_what_it_may_still_take(
    instance: Instance, can_give: int, given: int, limit: int
) -> None:
    assert candidate(instance).cache.get("memory", 0) == can_give
    assert cache_limit(instance, given) == limit
