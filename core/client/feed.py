"""Reads the feed of a core over a WebSocket, and connects again when it is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import msgspec

from modeldeck.core.client.answers import OTHER_VERSION
from modeldeck.core.client.connection import REMEDY, CoreConnection
from modeldeck.core.errors import CoreUnreachable, DeckError, FeedRefused
from modeldeck.core.schema.state import Event, State, apply, item_from_frame

FIRST_WAIT_S = 0.1
"""Before the first attempt to connect again; doubled with each further one."""
LONGEST_WAIT_S = 5.0
"""Between two attempts: after a restart of the core the screen follows within this time."""


class FeedReader:
    """The feed of one core, as a State and events, as States, or as JSON frames."""

    def __init__(self, connection: CoreConnection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def watch(
        self,
        *,
        max_hz: float | None = None,
        patience_s: float | None = None,
        lost: Callable[[CoreUnreachable, float], None] | None = None,
    ) -> AsyncIterator[AsyncIterator[State | Event]]:
        """The feed: a State first, then events; another State after every reconnect.

        A lost connection is made again for as long as the block runs. `lost` is called with the
        reason and the seconds until the next attempt; after `patience_s` without a core the
        iterator raises CoreUnreachable. `max_hz` limits the frames per second.
        """
        async with aclosing(self._items(max_hz, patience_s, lost)) as items:
            yield items

    @asynccontextmanager
    async def states(
        self, *, max_hz: float | None = None, patience_s: float | None = None
    ) -> AsyncIterator[AsyncIterator[State]]:
        """The feed folded: the State after every change."""
        async with (
            self.watch(max_hz=max_hz, patience_s=patience_s) as items,
            aclosing(_folded(items)) as states,
        ):
            yield states

    async def until(
        self, condition: Callable[[State], bool], *, patience_s: float | None = None
    ) -> State:
        """The first State from now on that meets the condition."""
        async with self.states(patience_s=patience_s) as states:
            async for state in states:
                if condition(state):
                    return state
        raise AssertionError("the feed never ends by itself")

    @asynccontextmanager
    async def frames(
        self,
        *,
        max_hz: float | None = None,
        lost: Callable[[CoreUnreachable, float], None] | None = None,
    ) -> AsyncIterator[AsyncIterator[str | bytes]]:
        """As `watch`, but the JSON frames as received, with events of later versions too."""
        async with aclosing(self._frames(max_hz, None, lost)) as frames:
            yield frames

    async def _items(
        self,
        max_hz: float | None,
        patience_s: float | None,
        lost: Callable[[CoreUnreachable, float], None] | None,
    ) -> AsyncGenerator[State | Event, None]:
        async with aclosing(self._frames(max_hz, patience_s, lost)) as frames:
            async for frame in frames:
                if (item := _item(frame)) is not None:
                    yield item

    async def _frames(
        self,
        max_hz: float | None,
        patience_s: float | None,
        lost: Callable[[CoreUnreachable, float], None] | None,
    ) -> AsyncGenerator[str | bytes, None]:
        reached = time.monotonic()
        wait_s = FIRST_WAIT_S
        while True:
            cause: CoreUnreachable | None = None
            try:
                async with aclosing(self._connection.frames(max_hz)) as frames:
                    async for frame in frames:
                        yield frame
                        reached, wait_s = time.monotonic(), FIRST_WAIT_S
            except CoreUnreachable as error:
                cause = error
            gone: CoreUnreachable | None = cause
            if gone is None or not isinstance(gone, FeedRefused):
                gone = CoreUnreachable(f"The core at {self._connection.where} went away.", REMEDY)
                gone.__cause__ = cause
            if patience_s is not None and time.monotonic() - reached >= patience_s:
                raise gone
            if lost is not None:
                lost(gone, wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def _item(frame: str | bytes) -> State | Event | None:
    try:
        return item_from_frame(frame)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DeckError(f"The core's feed is not understood: {error}.", OTHER_VERSION) from error


async def _folded(items: AsyncIterator[State | Event]) -> AsyncGenerator[State, None]:
    state: State | None = None
    async for item in items:
        state = item if isinstance(item, State) else apply(state, item) if state else None
        if state is not None:
            yield state
