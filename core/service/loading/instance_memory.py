"""What loaded models and forecasts take of each store: system memory, GPU memory, the budget. Pure.

A loaded model is taken to need all of its forecast: buffers that only a long prompt fills are not
allocated before it comes, and the system counts the pages of a mapped file as free.
"""

from __future__ import annotations

from dataclasses import replace

from modeldeck.core.runtime.planning.eviction import Bytes, EvictionCandidate, Store
from modeldeck.core.schema import Forecast, Instance, InstanceState


def needs(forecast: Forecast) -> Bytes:
    """Return the needs of a forecast by store, without the stores that are not known.

    >>> forecast = Forecast(total_bytes=9, weights_bytes=9, kv_bytes=0, compute_bytes=0,
    ...                     overhead_bytes=0, exact=True, gpu_bytes=4)
    >>> needs(forecast)
    {'memory': 5, 'gpu': 4, 'budget': 9}
    >>> needs(replace(forecast, gpu_bytes=None, gpu_unknown="it is not told"))
    {'budget': 9}
    """
    if forecast.gpu_bytes is None or forecast.machine_bytes is None:
        return {"budget": forecast.total_bytes}
    return {
        "memory": forecast.machine_bytes,
        "gpu": forecast.gpu_bytes,
        "budget": forecast.total_bytes,
    }


def candidate(instance: Instance) -> EvictionCandidate:
    """Return an instance as a candidate for eviction, which would give back all its needs.

    What its prefix cache holds, and may still take, it gives back while it stays loaded.
    """
    holds = _holds(instance)
    rest = _holds(_with_prefix_cache(instance, 0))
    return EvictionCandidate(
        id=instance.id,
        holds=holds,
        idle_s=instance.idle_s if instance.state is InstanceState.READY else None,
        pinned=bool(instance.options.pinned),
        cache={store: holds[store] - rest[store] for store in holds if holds[store] > rest[store]},
    )


def _holds(instance: Instance) -> dict[Store, int]:
    return {
        "memory": _own(instance) + yet_to_take(instance),
        "gpu": max(gpu_forecast(instance), instance.gpu_bytes or 0),
        "budget": needed_bytes(instance),
    }


def cache_limit(instance: Instance, given_bytes: int) -> int:
    """Return the limit of a prefix cache with which its model takes `given_bytes` less. Pure.

    Mostly it is that much lower. Where the model takes more than its forecast, only what the cache
    holds comes back.
    """
    limit = instance.forecast.prefix_cache_bytes if instance.forecast else 0
    held = min(limit, instance.prefix_cache_bytes or 0)
    found, before = candidate(instance), _holds(instance)
    for lower in (max(0, limit - given_bytes), max(0, held - given_bytes)):
        after = _holds(_with_prefix_cache(instance, lower))
        if all(
            before[store] - after[store] >= min(given_bytes, most)
            for store, most in found.cache.items()
        ):
            return lower
    return 0


def _with_prefix_cache(instance: Instance, limit: int) -> Instance:
    """Return an instance as it is once its prefix cache has this lower limit."""
    forecast = instance.forecast
    if forecast is None or instance.state not in (InstanceState.READY, InstanceState.BUSY):
        return instance
    held = min(instance.prefix_cache_bytes or 0, forecast.prefix_cache_bytes)
    return replace(
        instance,
        forecast=replace(forecast, prefix_cache_bytes=min(limit, forecast.prefix_cache_bytes)),
        measured_bytes=max(0, (instance.measured_bytes or 0) - max(0, held - limit)),
    )


def yet_to_take(instance: Instance) -> int:
    """Return what a live instance will take of the memory that the system calls free. Pure.

    That includes pages of mapped files, the part of its forecast that it does not hold yet, and
    what its prefix cache may still take.
    """
    mapped, forecast = instance.mapped_bytes or 0, instance.forecast
    if forecast is None or forecast.machine_bytes is None:
        return mapped
    expected = forecast.machine_bytes + forecast.prefix_cache_bytes
    return max(mapped, expected - _own(instance))


def _own(instance: Instance) -> int:
    """Return the memory that the system counts as used by an instance, without file pages."""
    return max(0, (instance.measured_bytes or 0) - (instance.mapped_bytes or 0))


def gpu_forecast(instance: Instance) -> int:
    """Return the forecast GPU memory of an instance; 0 when it is not known."""
    return (instance.forecast.gpu_bytes or 0) if instance.forecast else 0


def needed_bytes(instance: Instance) -> int:
    """Return what counts against the memory budget: memory held, or forecast if that is more."""
    forecast = instance.forecast
    most = forecast.total_bytes + forecast.prefix_cache_bytes if forecast else 0
    return max((instance.measured_bytes or 0) + (instance.gpu_bytes or 0), most)
