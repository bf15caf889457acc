"""Whether a load has room, and what would have to go first. Pure, since it is asked on a guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A loaded model that could make room."""

    id: str
    holds_bytes: int
    """What comes back when it is unloaded."""
    idle_s: float | None
    """None while it is busy or not ready: then it is never unloaded for another."""
    pinned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """There is room, once these are unloaded."""

    unload: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRoom:
    """There is not."""

    needed_bytes: int
    available_bytes: int
    """Free now, with the reserve taken off."""
    evictable_bytes: int
    """What idle, unpinned models hold."""


def place(
    needed_bytes: int,
    available_bytes: int,
    candidates: Sequence[Candidate] = (),
    *,
    may_unload: bool = False,
) -> LoadPlan | NoRoom:
    """Room for `needed_bytes` in `available_bytes`, unloading the longest idle first if allowed.

    No more is unloaded than is needed, and nothing at all when it would not be enough.
    """
    idle = [c for c in candidates if c.idle_s is not None and not c.pinned]
    idle.sort(key=lambda c: c.idle_s or 0.0, reverse=True)
    evictable = sum(c.holds_bytes for c in idle)
    short = needed_bytes - available_bytes
    if short <= 0:
        return LoadPlan()
    if not may_unload or evictable < short:
        return NoRoom(
            needed_bytes=needed_bytes,
            available_bytes=max(0, available_bytes),
            evictable_bytes=evictable,
        )
    unload: list[str] = []
    for candidate in idle:
        if short <= 0:
            break
        unload.append(candidate.id)
        short -= candidate.holds_bytes
    return LoadPlan(unload=tuple(unload))
