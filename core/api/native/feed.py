"""WebSocket feed under `/deck/feed`: the State, then events as they happen."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from typing import TYPE_CHECKING

from modeldeck.core.api.http.messages import CachedEncoding, Request, WebSocket
from modeldeck.core.api.http.websocket_frames import TextFrame
from modeldeck.core.concurrency import Repeated
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema.state import Event, State, frame_from_item

if TYPE_CHECKING:
    from modeldeck.core.service.bandwidth import AttachedClient
    from modeldeck.core.service.deck import Deck

LOOK_S = 5.0
"""Seconds between checks whether pings are needed."""
FASTEST_HZ = 60.0
"""Highest `max_hz` of a subscriber; no screen draws faster."""


class FeedFrames:
    """Messages of the feed, each encoded, framed and deflated once for all subscribers."""

    LIMIT = 64
    """Events kept; subscribers that keep up are never further apart."""

    def __init__(self) -> None:
        self._state = CachedEncoding(lambda state: TextFrame(frame_from_item(state)))
        self._events: OrderedDict[int, tuple[Event, TextFrame]] = OrderedDict()

    def of(self, item: State | Event) -> TextFrame:
        """The message of this item."""
        if isinstance(item, State):
            return self._state.of(item)
        kept = self._events.get(id(item))
        if kept is None:
            # The item is kept too, so that no other object can get its id meanwhile.
            kept = self._events[id(item)] = item, TextFrame(frame_from_item(item))
            if len(self._events) > self.LIMIT:
                self._events.popitem(last=False)
        return kept[1]


_frames = FeedFrames()


async def feed(deck: Deck, request: Request, socket: WebSocket) -> None:
    """A State, then events as they happen; with `max_hz` only the newest of each."""
    max_hz = _hertz(request.query.get("max_hz"))
    await socket.accept()
    with (
        deck.feed.subscribe(
            max_hz, take_now=lambda event: socket.post(_frames.of(event))
        ) as subscription,
        deck.listening() as listener,
    ):
        pings = asyncio.create_task(_ping(deck, socket, listener))
        try:
            async for batch in subscription.batches():
                for item in batch:
                    await socket.send(_frames.of(item))
        finally:
            pings.cancel()


async def _ping(deck: Deck, socket: WebSocket, listener: AttachedClient) -> None:
    """Measure round trips to a front end while downloads should leave it bandwidth."""
    pinging = Repeated("pinging a front end")
    while True:
        every_s = deck.ping_s
        with pinging.turn():
            if every_s is not None and not listener.waits:
                listener.asked()
                socket.ping(listener.answered)
        await asyncio.sleep(every_s or LOOK_S)


def _hertz(text: str | None) -> float | None:
    if not text:
        return None
    try:
        hertz = float(text)
    except ValueError:
        hertz = math.nan
    if not 0 < hertz <= FASTEST_HZ:
        raise InvalidRequest(f"max_hz is not a number above 0 and up to {FASTEST_HZ:g}.")
    return hertz
