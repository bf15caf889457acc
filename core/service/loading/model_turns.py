"""Turns of models that do not fit the memory together.

A loaded model is kept while requests for it come, so that A A B A is answered as A A A B; but a
request that waits for the memory of that model waits no longer than `HOLD_S` for newer ones. A
request yields only to one that came before it, so the oldest of all never waits for another's turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from modeldeck.core.schema import Priority

HOLD_S = 20.0
"""Seconds that requests for a loaded model may go ahead of an older one that needs its memory."""
LOOK_S = 1.0
"""Seconds between two looks at a clock while a request waits."""


@dataclass(slots=True, kw_only=True)
class ModelTurn:
    """A request for a model that is not being answered yet."""

    model_id: str
    unique: str
    since: float
    """When it came, in seconds of a clock."""
    priority: Priority
    blockers: Collection[str] = ()
    """Instances that must become idle before its model fits."""
    waits: bool = False
    """Whether it waits for memory or for its turn."""
    tries: int = 0
    """Refused loads in a row without an instance that blocked them."""


def ahead(
    own: ModelTurn, turns: Collection[ModelTurn], instance_id: str, now: float
) -> ModelTurn | None:
    """The request that a request for the model of `instance_id` must let go first. Pure.

    That is an older one that waits for the memory of that instance: after `HOLD_S`, and at once
    where it is interactive and this one is a batch request.
    """
    for turn in sorted(turns, key=lambda turn: turn.since):
        if turn.since >= own.since:
            return None
        is_urgent = (turn.priority, own.priority) == ("interactive", "batch")
        if instance_id in turn.blockers and (is_urgent or now - turn.since >= HOLD_S):
            return turn
    return None


class ModelTurns:
    """The requests for models that are not being answered yet."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turns: list[ModelTurn] = []
        self._news = asyncio.Event()

    @contextmanager
    def asking(self, model_id: str, unique: str, priority: Priority) -> Iterator[ModelTurn]:
        """Hold a turn for a request while the block runs."""
        turn = ModelTurn(model_id=model_id, unique=unique, since=self._clock(), priority=priority)
        self._turns.append(turn)
        try:
            yield turn
        finally:
            self._turns.remove(turn)
            self.tell()

    def ahead(self, own: ModelTurn, instance_id: str) -> ModelTurn | None:
        """As `ahead` of this module, now."""
        return ahead(own, self._turns, instance_id, self._clock())

    def waiting(self, model_id: str) -> int:
        """How many requests for this model wait for memory or their turn."""
        return sum(turn.waits for turn in self._turns if turn.model_id == model_id)

    def tell(self) -> None:
        """Wake who waits: an instance has changed, or a turn has ended."""
        self._news.set()
        self._news = asyncio.Event()

    async def news(self) -> None:
        """Wait until something has changed, or for `LOOK_S`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._news.wait()
