"""The State of the core, and bounded subscriptions to it: a State first, then events.

Each subscriber owns a queue of at most `LIMIT` items. When it would overflow, all of it is replaced
by one State, so a slow reader costs a bounded amount of memory and still ends up right. A
subscriber may ask for a rate; it then gets at most that many batches a second, each with the newest
record per subject.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager

from modeldeck.core.schema.state import Event, State, apply, subject

LIMIT = 256
"""Events a subscriber may lag behind: at 10 events a second, half a minute."""


class Subscription:
    """One reader's view of the feed. Iterate over `batches()`."""

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
        """Take an event in; never waits."""
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
        """All that is waiting, oldest first; a State alone after an overflow or at the start."""
        self._wake.clear()
        if self._resync:
            self._resync = False
            return [self._state()]
        batch: list[State | Event] = [*self._pending, *self._newest.values()]
        self._pending.clear()
        self._newest.clear()
        return batch

    async def batches(self) -> AsyncGenerator[list[State | Event], None]:
        """Batches as they come; the first is one State. Ends only by cancellation."""
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
    """Holds the State, folds events into it, and hands each to every subscriber."""

    def __init__(self, state: State) -> None:
        self._current = state
        self._subscriptions: set[Subscription] = set()
        self.watchers = 0
        """How many subscribers look at the machine, and not only at what is done on it."""

    @property
    def state(self) -> State:
        """The State now."""
        return self._current

    @property
    def subscribers(self) -> int:
        """How many are subscribed."""
        return len(self._subscriptions)

    def commit(self, kind: Callable[..., Event], **record: object) -> None:
        """Make the next event of this kind, fold it in, and give it to every subscriber."""
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
        """A subscription for as long as the block runs.

        Args:
            max_hz: Limits its batches a second.
            watching: Whether it needs memory and disk sampled.
            take_now: Offered each event while nothing else waits, without a rate only; what it
                takes does not come in a batch. Waking a task costs as much as sending does.
        """
        subscription = Subscription(lambda: self._current, max_hz, take_now)
        self._subscriptions.add(subscription)
        self.watchers += watching
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            self.watchers -= watching
