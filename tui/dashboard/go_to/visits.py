"""The last places of the dashboard, to go back to and forward again. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

KEPT = 20
"""Number of places that are kept."""


@dataclass(frozen=True, slots=True)
class Place:
    """A view, and the row that its cursor was on; empty for none."""

    view: str
    row: str = ""


class Visits:
    """The places that were left, and those that were gone back from.

    >>> visits = Visits()
    >>> visits.left(Place("memory", "a")); visits.left(Place("log"))
    >>> visits.back(Place("chat")), visits.back(Place("log")), visits.back(Place("memory", "a"))
    (Place(view='log', row=''), Place(view='memory', row='a'), None)
    >>> visits.forward(Place("memory", "a"))
    Place(view='log', row='')
    """

    def __init__(self) -> None:
        self._before: deque[Place] = deque(maxlen=KEPT)
        self._after: deque[Place] = deque(maxlen=KEPT)

    def left(self, place: Place) -> None:
        """Remember a place that is left for a new one; there is no way forward from there."""
        self._after.clear()
        if not self._before or self._before[-1] != place:
            self._before.append(place)

    def back(self, here: Place) -> Place | None:
        """The place before this one; None where there is none."""
        if not self._before:
            return None
        self._after.append(here)
        return self._before.pop()

    def forward(self, here: Place) -> Place | None:
        """The place that was gone back from; None where there is none."""
        if not self._after:
            return None
        self._before.append(here)
        return self._after.pop()
