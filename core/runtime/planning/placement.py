"""Whether a load has room, and what would have to go first. Pure, since it is asked on a guess.

Room is counted in stores that do not stand in for each other: the machine's memory, the memory of
its GPUs where that is apart, and the budget that a person set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Store = Literal["memory", "gpu", "budget"]
Bytes = Mapping[Store, int]
"""Bytes by store. A store that a need does not name is not needed; one that is not in the room is
not known, and so never short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictionCandidate:
    """A loaded model that could make room."""

    id: str
    holds: Bytes
    """What comes back when it is unloaded."""
    idle_s: float | None
    """None while it is busy or not ready: then it is never unloaded for another."""
    pinned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """There is room, once these are unloaded."""

    unload: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DoesNotFit:
    """There is not."""

    store: Store
    """Where most is missing."""
    needed_bytes: int
    available_bytes: int
    """Free there now."""
    idle: tuple[str, ...] = ()
    """Unpinned models that do nothing and hold some of it, the longest idle first."""
    idle_bytes: int = 0
    """What they hold there."""
    would_do: tuple[str, ...] = ()
    """Those of them whose unloading would be enough; none where all of them would not."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """What pinned and busy models hold there, by id: those stay."""


def place(
    need: Bytes,
    room: Bytes,
    candidates: Sequence[EvictionCandidate] = (),
    *,
    may_unload: bool = False,
) -> Placement | DoesNotFit:
    """Room for `need`, unloading the longest idle first if allowed.

    No more is unloaded than is needed, and nothing at all when it would not be enough.
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
        idle_bytes=sum(c.holds[store] for c in holding),
        would_do=tuple(c.id for c in enough),
        kept={
            c.id: c.holds[store] for c in candidates if c not in idle and c.holds.get(store, 0) > 0
        },
    )


def _enough(short: Bytes, idle: Sequence[EvictionCandidate]) -> list[EvictionCandidate]:
    """The fewest of the longest idle that hold what is short; none where all would not do."""

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
