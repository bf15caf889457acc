"""Actions that can be undone, newest first, kept while the core runs.

Only actions whose undo costs no disk space are kept: deleted links to shared content, removed
entries, and downloads that were cleared, or canceled without discarding their data. Deleted content
is not restored: its disk space was freed at once, and downloading it again is a download.
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
"""Maximum number of actions that are kept."""


class UndoLog:
    """Keeps how to undo recent actions; each can be undone once."""

    def __init__(self) -> None:
        self._steps: OrderedDict[str, tuple[Undoable, Callable[[], Awaitable[object]]]] = (
            OrderedDict()
        )
        self._undoing = asyncio.Lock()

    def offer(self, what: str, undone: str, back: Callable[[], Awaitable[object]]) -> str:
        """Keep an action that `back` undoes; `what` and `undone` describe both. Returns its key."""
        step = Undoable(id=str(uuid.uuid4()), what=what, at=now(), undone=undone)
        self._steps[step.id] = step, back
        while len(self._steps) > KEPT:
            self._steps.popitem(last=False)
        return step.id

    @property
    def steps(self) -> tuple[Undoable, ...]:
        """The actions that can be undone, newest first."""
        return tuple(step for step, _ in reversed(self._steps.values()))

    async def undo(self, key: str | None) -> Undoable:
        """Undo the action with this key, or the newest one for None.

        Raises NotFound, and the error of `back`, such as Conflict; then it can be tried again.
        """
        async with self._undoing:
            if key is None and self._steps:
                key = next(reversed(self._steps))
            if key is None or key not in self._steps:
                if key is None:
                    raise NotFound("Nothing to undo.")
                remedy = "`modeldeck undo --list` lists what can be undone."
                raise NotFound(f"No such action: {key}.", remedy)
            step, back = self._steps[key]
            await back()
            self._steps.pop(key, None)
            return step
