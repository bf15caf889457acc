"""Decides whether a load fits, and which models would have to be unloaded first. Pure.

Room is counted in stores that cannot replace each other: the machine's memory, the GPUs' own
memory, and the memory budget of the settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The load fits, once these instances are unloaded."""

    unload: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DoesNotFit:
    """The load does not fit."""

    store: Store
    """The store that lacks most."""
    needed_bytes: int
    available_bytes: int
    """Bytes free in that store now."""
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
    """Find room for `need`, unloading the longest idle models first if allowed.

    Unloads no more than needed, and nothing when that would not be enough.
    """
    short = {store: need[store] - room[store] for store in need if store in room}
    short = {store: count for store, count in short.items() if count > 0}
    if not short:
        return Placement()
    idle = [c for c in candidates if c.idle_s is not None and not c.pinned]
    idle.sort(key=lambda c: c.idle_s or 0.0, reverse=True)
    enough = _enough(short, idle)
    if enough and may_unload:
        return Placement(unload=tuple(c.id for c in enough))
    store = max(short, key=lambda s: short[s] - sum(c.holds.get(s, 0) for c in idle))
    holding = [c for c in idle if c.holds.get(store, 0) > 0]
    return DoesNotFit(
        store=store,
        needed_bytes=need[store],
        available_bytes=max(0, room[store]),
        idle=tuple(c.id for c in holding),
        would_do=tuple(c.id for c in enough),
        kept={
            c.id: c.holds[store] for c in candidates if c not in idle and c.holds.get(store, 0) > 0
        },
    )


def left_over(
    need: Bytes, room: Bytes, candidates: Sequence[EvictionCandidate], placement: Placement
) -> int | None:
    """Bytes of the machine's memory that stay free beside a load, the budget included.

    None where neither is known.
    """
    freed = [c for c in candidates if c.id in placement.unload]
    return min(
        (
            max(0, room[store] + sum(c.holds.get(store, 0) for c in freed) - need[store])
            for store in ("memory", "budget")
            if store in room and store in need
        ),
        default=None,
    )


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
