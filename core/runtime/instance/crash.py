"""Decides what becomes of the requests of an engine process that cannot be used any more. Pure.

A request may be the cause, and kills the next process as well, together with those that are asked
again beside it. So after a crash of unknown cause those that had shown nothing are suspects: they
are asked again one at a time, each alone until it has shown a first piece. If the process fails
once more with a suspect alone, that one is the cause: it fails, and the others are asked again
together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MOST_CAUSES = 3
"""Requests in a row that are found to be the cause, each with a restart; after that the engine is
taken to be broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningRequest:
    """A request that lost its engine."""

    shown: bool = False
    """Whether a part of its answer was shown, or it is over: asked again, another answer would
    follow the first."""
    again: bool = False
    """Whether it was asked again before."""
    suspect: bool = False
    """Whether it was asked alone, since it may be the cause of an earlier crash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashPlan:
    """What is done after a crash. The requests that are not asked again fail."""

    restarts: bool = False
    """Whether the model is loaded again automatically."""
    again: tuple[int, ...] = ()
    """Numbers of the requests that are asked again."""
    suspects: bool = False
    """Whether those are asked one at a time."""
    found: bool = False
    """Whether the cause was found by asking it alone; those that wait are no suspects any more."""


def after_crash(
    running: Mapping[int, RunningRequest], *, cause: int = 0, recent: bool = False, found: int = 0
) -> CrashPlan:
    """Decide what is done after a crash.

    Args:
        running: The requests that ran, by number.
        cause: The number of the one that is known to be the cause; 0 where none is.
        recent: Whether the model was restarted shortly before.
        found: How many causes were found since the first of these restarts.
    """
    if not running:
        return CrashPlan()
    if recent:
        tried = any(request.suspect for request in running.values())
        is_found = tried and len(running) == 1 and found < MOST_CAUSES
        return CrashPlan(restarts=is_found, found=is_found)
    again = tuple(
        number
        for number, request in running.items()
        if not (request.shown or request.again) and number != cause and len(running) > 1
    )
    return CrashPlan(restarts=True, again=again, suspects=cause not in running)


def failed_alone(message: str) -> str:
    """The message for the request that was the cause.

    >>> failed_alone("The engine process crashed.")
    'The engine process crashed. It did so twice, the second time with this request alone.'
    """
    return f"{message} It did so twice, the second time with this request alone."
