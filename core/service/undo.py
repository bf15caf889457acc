"""What can be taken back, newest first, for as long as the core runs.

Only what costs nothing to keep is offered: links to content that others use as well, entries of the
list, downloads that were cleared or called off with what arrived kept. Content that was deleted is
not among it: its disk came back at once, and fetching it again is a download.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from modeldeck.core.errors import NotFound
from modeldeck.core.schema import Undoable
from modeldeck.core.schema.clock import now

KEPT = 50
"""Actions remembered: more than anybody goes back."""


class UndoLog:
    """Remembers how to take actions back, each of them once."""

    def __init__(self) -> None:
        self._steps: OrderedDict[str, tuple[Undoable, Callable[[], Awaitable[object]]]] = (
            OrderedDict()
        )
        self._undoing = asyncio.Lock()

    def offer(self, what: str, back: Callable[[], Awaitable[object]]) -> str:
        """Remember that `back` takes an action back; the key to it. `what` says what was done."""
        step = Undoable(id=str(uuid.uuid4()), what=what, at=now())
        self._steps[step.id] = step, back
        while len(self._steps) > KEPT:
            self._steps.popitem(last=False)
        return step.id

    @property
    def steps(self) -> tuple[Undoable, ...]:
        """What can be taken back, newest first."""
        return tuple(step for step, _ in reversed(self._steps.values()))

    async def undo(self, key: str | None) -> Undoable:
        """Take an action back, the newest without a key.

        Raises NotFound, and what keeps it from that, as Conflict; then it may be tried again.
        """
        async with self._undoing:
            if key is None and self._steps:
                key = next(reversed(self._steps))
            if key is None or key not in self._steps:
                raise NotFound(
                    "There is nothing to take back." if key is None else f"No such action: {key}.",
                    "GET /deck/undo lists what can be taken back.",
                )
            step, back = self._steps[key]
            await back()
            self._steps.pop(key, None)
            return step
