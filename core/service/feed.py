"""The State of the core, and bounded subscriptions to it: a State first, then events.

Each subscriber owns a queue of at most `LIMIT` items. When it would overflow, all of it is replaced
by one State, so a slow reader costs a bounded amount of memory and still gets the true State. A
subscriber may ask for a rate; it then gets at most that many batches a second, each with the newest
record per subject.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager

from modeldeck.core.schema.state import Event, State, apply, subject

LIMIT = 256
"""Events a subscriber may lag behind: half a minute at 10 events a second."""


class Subscription:
    """The queue of one subscriber. Iterate over `batches()`."""

    def __init__(
        self,
        state: Callable[[], State],
        max_hz: float | None,
        take_now: Callable[[Event], bool] | None,
    ) -> None:
        self._state = state
        self._take_now = None if max_hz else take_now
        self._is_waiting = False
        self._interval_s = 1 / max_hz if max_hz else 0.0
        self._pending: list[Event] = []
        self._newest: dict[tuple[str, str], Event] = {}
        self._resync = True
        self._wake = asyncio.Event()
        self._wake.set()

    def offer(self, event: Event) -> None:
        """Queue an event; never waits."""
        if (
            self._take_now is not None
            and self._is_waiting
            and not self._wake.is_set()
            and self._take_now(event)
        ):
            return
        if not self._resync:
            if self._interval_s:
                key = subject(event)
                self._newest.pop(key, None)
                self._newest[key] = event
            else:
                self._pending.append(event)
            if len(self._pending) + len(self._newest) > LIMIT:
                self._pending.clear()
                self._newest.clear()
                self._resync = True
        self._wake.set()

    def take(self) -> list[State | Event]:
        """Return all queued events, oldest first; a State alone at the start or after overflow."""
        self._wake.clear()
        if self._resync:
            self._resync = False
            return [self._state()]
        batch: list[State | Event] = [*self._pending, *self._newest.values()]
        self._pending.clear()
        self._newest.clear()
        return batch

    async def batches(self) -> AsyncGenerator[list[State | Event], None]:
        """Yield batches as they come; the first is one State. Ends only by cancellation."""
        loop = asyncio.get_running_loop()
        while True:
            self._is_waiting = True
            await self._wake.wait()
            self._is_waiting = False
            started = loop.time()
            yield self.take()
            if (rest := self._interval_s - (loop.time() - started)) > 0:
                await asyncio.sleep(rest)


class Feed:
    """Holds the State, applies events to it, and passes each to every subscriber."""

    def __init__(self, state: State) -> None:
        self._current = state
        self._subscriptions: set[Subscription] = set()
        self.watchers = 0
        """Number of subscribers that need memory and disk sampled."""

    @property
    def state(self) -> State:
        """The current State."""
        return self._current

    @property
    def subscribers(self) -> int:
        """Number of subscribers."""
        return len(self._subscriptions)

    def commit(self, kind: Callable[..., Event], **record: object) -> None:
        """Create the next event of this kind, apply it, and pass it to every subscriber."""
        event = kind(seq=self._current.seq + 1, **record)
        self._current = apply(self._current, event)
        for subscription in self._subscriptions:
            subscription.offer(event)

    @contextmanager
    def subscribe(
        self,
        max_hz: float | None = None,
        *,
        watching: bool = True,
        take_now: Callable[[Event], bool] | None = None,
    ) -> Iterator[Subscription]:
        """Subscribe while the block runs.

        Args:
            max_hz: Maximum number of batches a second; None for no limit.
            watching: Whether it needs memory and disk sampled.
            take_now: Called with each event while the queue is empty, without `max_hz` only; an
                event that it accepts is not in a batch. It saves waking a task, which costs as much
                as sending the event.
        """
        subscription = Subscription(lambda: self._current, max_hz, take_now)
        self._subscriptions.add(subscription)
        self.watchers += watching
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            self.watchers -= watching
