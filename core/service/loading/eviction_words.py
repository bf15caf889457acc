"""What a load takes from other models to have room, in the words of a plan. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from modeldeck.core.runtime.planning.eviction import DoesNotFit
from modeldeck.core.schema import Eviction, Instance, LoadOptions, Model
from modeldeck.core.schema.units import gib, mib
from modeldeck.core.service.loading.instance_memory import cache_limit, candidate


def evictions(ids: Sequence[str], instances: Iterable[Instance]) -> tuple[Eviction, ...]:
    """Return what comes back when these instances are unloaded; those that are gone are left out.

    In the order of `ids`.
    """
    known = {instance.id: instance for instance in instances if instance.state.live}
    return tuple(eviction(known[key]) for key in ids if key in known)


def eviction(instance: Instance) -> Eviction:
    """Return what comes back when an instance is unloaded."""
    holds = candidate(instance).holds
    return Eviction(
        instance_id=instance.id,
        unique=instance.unique,
        bytes=holds.get("memory", 0),
        gpu_bytes=holds.get("gpu", 0),
    )


def cache_limits(shrink: Mapping[str, int], instances: Iterable[Instance]) -> dict[str, int]:
    """Return the new limits of prefix caches that give as many bytes back, by instance."""
    return {i.id: cache_limit(i, shrink[i.id]) for i in instances if i.id in shrink}


def shrink_note(shrink: Mapping[str, int]) -> str:
    """Return the note that prefix caches of other models give memory back.

    >>> shrink_note({"a": 3 << 20, "b": 1 << 20})
    'prefix caches of other models give 4 MiB back'
    """
    return f"prefix caches of other models give {mib(sum(shrink.values()))} back"


def refusal_text(
    model: Model, placement: DoesNotFit, options: LoadOptions, reserve_bytes: int
) -> str:
    """Return why a load is refused; `reserve_bytes` are kept for the system."""
    free = gib(placement.available_bytes)
    where = {
        "memory": f"{free} are free besides the {gib(reserve_bytes)} kept for the system",
        "gpu": f"{free} are free on the GPU",
        "budget": f"{free} are left of what models may take together",
    }[placement.store]
    kept = ""
    if placement.kept:
        held = gib(sum(placement.kept.values()))
        kept = f" Busy and pinned models hold {held}."
    length = options.context_length
    return f"{model.name} needs {gib(placement.needed_bytes)} at context {length}; {where}.{kept}"
