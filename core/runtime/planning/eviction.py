"""Decides whether a load fits, and what makes room for it: prefix caches, then idle models. Pure.

Room is counted in stores that cannot replace each other: the machine's memory, the GPUs' own
memory, and the memory budget of the settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Store = Literal["memory", "gpu", "budget"]
Bytes = Mapping[Store, int]
"""Bytes by store. A store missing in a need is not needed; one missing in the room is unknown, and
never counts as short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictionCandidate:
    """A loaded model that could make room."""

    id: str
    holds: Bytes
    """Bytes that unloading it gives back."""
    idle_s: float | None
    """None while it is busy or not ready: then it is never unloaded for another."""
    pinned: bool = False
    cache: Bytes = field(default_factory=dict)
    """Bytes of `holds` that it gives back where its prefix cache goes; it is then still loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The load fits, once room was made for it."""

    unload: tuple[str, ...] = ()
    """Instances to unload."""
    shrink: Mapping[str, int] = field(default_factory=dict)
    """Bytes that the prefix caches of others give back, by id of the instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoesNotFit:
    """The load does not fit."""

    store: Store
    """The store that lacks most."""
    needed_bytes: int
    available_bytes: int
    """Bytes free in that store now, with those that prefix caches can give back."""
    idle: tuple[str, ...] = ()
    """Unpinned idle models that hold some of that store, the longest idle first."""
    would_do: tuple[str, ...] = ()
    """Those of `idle` whose unloading would be enough; empty when not even all would be."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """Bytes of that store that pinned and busy models hold, by id; those stay loaded."""


def place(
    need: Bytes,
    room: Bytes,
    candidates: Sequence[EvictionCandidate] = (),
    *,
    may_unload: bool = False,
) -> Placement | DoesNotFit:
    """Find room for `need`: by shrinking prefix caches, then by unloading idle models if allowed.

    Those that were idle longest give first. Takes no more than needed, and nothing when that would
    not be enough.
    """
    short = {store: need[store] - room[store] for store in need if store in room}
    short = {store: count for store, count in short.items() if count > 0}
    if not short:
        return Placement()
    by_idle = sorted(candidates, key=lambda c: c.idle_s or 0.0, reverse=True)
    if (shrink := _shrinks(short, by_idle)) is not None:
        return Placement(shrink=shrink)
    idle = [c for c in by_idle if c.idle_s is not None and not c.pinned]
    cached = {store: in_caches(candidates, store) for store in short}
    # Caches alone are not enough: all of them go, and idle models give what is still missing.
    rest = {store: count - cached[store] for store, count in short.items()}
    rest = {store: count for store, count in rest.items() if count > 0}
    enough = _enough(rest, [_without_cache(c) for c in idle])
    if enough and may_unload:
        unload = {c.id for c in enough}
        gone = [c for c in candidates if c.id in unload]
        left = {s: count - sum(c.holds.get(s, 0) for c in gone) for s, count in short.items()}
        others = [c for c in by_idle if c.id not in unload]
        return Placement(unload=tuple(c.id for c in enough), shrink=_shrinks(left, others) or {})
    store = max(rest, key=lambda s: rest[s] - sum(_without_cache(c).holds.get(s, 0) for c in idle))
    holding = [c for c in idle if c.holds.get(store, 0) > 0]
    return DoesNotFit(
        store=store,
        needed_bytes=need[store],
        available_bytes=max(0, room[store] + cached[store]),
        idle=tuple(c.id for c in holding),
        would_do=tuple(c.id for c in enough),
        kept={
            c.id: c.holds[store] for c in candidates if c not in idle and c.holds.get(store, 0) > 0
        },
    )


def in_caches(candidates: Sequence[EvictionCandidate], store: Store) -> int:
    """Bytes of a store that come back where all prefix caches go, with no model unloaded."""
    return sum(candidate.cache.get(store, 0) for candidate in candidates)


def left_over(
    need: Bytes, room: Bytes, candidates: Sequence[EvictionCandidate], placement: Placement
) -> int | None:
    """Bytes of the machine's memory that stay free beside a load, the budget included.

    None where neither is known.
    """
    freed = [c for c in candidates if c.id in placement.unload]
    shrunk = [c for c in candidates if c.id in placement.shrink]
    counts: list[int] = []
    for store in ("memory", "budget"):
        if store in room and store in need:
            back = sum(c.holds.get(store, 0) for c in freed)
            back += sum(given_of(c, placement.shrink[c.id], store) for c in shrunk)
            counts.append(max(0, room[store] + back - need[store]))
    return min(counts, default=None)


def _without_cache(candidate: EvictionCandidate) -> EvictionCandidate:
    """The candidate without its prefix cache, whose bytes are counted already."""
    cache = candidate.cache
    holds = {store: count - cache.get(store, 0) for store, count in candidate.holds.items()}
    return replace(candidate, holds=holds)


def _shrinks(short: Bytes, candidates: Sequence[EvictionCandidate]) -> dict[str, int] | None:
    """What prefix caches give, in this order, until nothing is short; None if it is not enough.

    A byte of a cache counts in every store that has it.
    """
    missing = {store: count for store, count in short.items() if count > 0}
    found: dict[str, int] = {}
    for candidate in candidates:
        if not missing:
            break
        has = max(candidate.cache.get(store, 0) for store in missing)
        given = min(has, max(missing.values()))
        if given > 0:
            found[candidate.id] = given
            left = {s: count - given_of(candidate, given, s) for s, count in missing.items()}
            missing = {store: count for store, count in left.items() if count > 0}
    return None if missing else found


def given_of(candidate: EvictionCandidate, given: int, store: Store) -> int:
    """Bytes that come back in a store where a prefix cache gives `given` bytes."""
    return min(given, candidate.cache.get(store, 0))


def _enough(short: Bytes, idle: Sequence[EvictionCandidate]) -> list[EvictionCandidate]:
    """The fewest of the longest idle that hold what is short; empty if all are not enough."""

    def covers(chosen: Sequence[EvictionCandidate]) -> bool:
        return all(
            sum(c.holds.get(store, 0) for c in chosen) >= count for store, count in short.items()
        )

    chosen: list[EvictionCandidate] = []
    for candidate in idle:
        if covers(chosen):
            break
        if any(candidate.holds.get(store, 0) > 0 for store in short):
            chosen.append(candidate)
    if not covers(chosen):
        return []
    for candidate in reversed(chosen[:]):  # an early one may not be needed any more
        rest = [c for c in chosen if c is not candidate]
        if covers(rest):
            chosen = rest
    return chosen
