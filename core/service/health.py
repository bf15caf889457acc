"""Whether database and model files answer, for `/health`. Computed from counters, never waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modeldeck.core.storage.foreign_files import CACHE, CUSTOM

STORE_S = 5.0
"""Seconds after which a write to the database counts as not answered; it takes milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The answer of `/health`. Without paths: it needs no authentication."""

    status: Literal["ok", "degraded", "unavailable"] = "ok"
    """`degraded`: some files do not answer, the rest works. `unavailable`: the database or the
    whole cache does not answer."""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Operations that have not answered yet."""

    store_s: float = 0.0
    """Age in seconds of the oldest unanswered read or write of the database."""
    cache: int = 0
    """Reads of the cache that exceeded their time limit and have not come back."""
    cache_exhausted: bool = False
    """Whether all threads hang, so that the cache is not read any more."""
    custom: int = 0
    """Reads of custom models that exceeded their time limit and have not come back."""


def judge(waits: Waits) -> Health:
    """Return the health that follows from these waits. Pure."""
    if waits.store_s >= STORE_S:
        return Health(
            status="unavailable",
            message=f"The database has not answered for {waits.store_s:.0f} s."
            " Check the disk of the state folder.",
        )
    if waits.cache_exhausted:
        return Health(
            status="unavailable",
            message="The cache of models does not answer. Check its disk or network mount.",
        )
    if hanging := waits.cache + waits.custom:
        are = "1 file of a model does" if hanging == 1 else f"{hanging} files of models do"
        return Health(status="degraded", message=f"{are} not answer. The log names it.")
    return Health()


def waits(store_s: float) -> Waits:
    """Return the current waits. `store_s` is `Database.waiting_s`."""
    return Waits(
        store_s=store_s,
        cache=len(CACHE.stuck),
        cache_exhausted=CACHE.exhausted,
        custom=len(CUSTOM.stuck),
    )
