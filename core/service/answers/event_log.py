"""The newest server-sent events of one answer, for readers that come back. No I/O."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from modeldeck.core.errors import EngineFailed, InvalidRequest

LOG_BYTES = 4 << 20
"""Bytes of events that are kept of one answer: those of some 15,000 tokens."""
BEHIND_BYTES = 256 << 10
"""Bytes that a reader may be behind before the maker of the answer waits for it."""
PIECE_BYTES = 64 << 10
"""Bytes that a reader gets at once."""

END_OF_EVENT = b"\n\n"


class _LogReader:
    """A reader, and the number of the event that it gets next."""

    def __init__(self, next_number: int) -> None:
        self.next = next_number


class EventLog:
    """Numbers events from 0, keeps the newest, and gives them to any number of readers."""

    def __init__(self, limit_bytes: int = LOG_BYTES) -> None:
        self._limit = limit_bytes
        self._events: deque[bytes] = deque()
        self._first = 0
        self._readers: set[_LogReader] = set()
        self._waiting: list[asyncio.Future[None]] = []
        """Of readers that have all events, and of a maker that waits for a reader."""
        self._ended = False
        self._broken = False
        self.bytes = 0
        """Of the events that are kept."""

    @property
    def count(self) -> int:
        """Events that were added so far."""
        return self._first + len(self._events)

    @property
    def ended(self) -> bool:
        """Whether no event follows."""
        return self._ended

    @property
    def is_read(self) -> bool:
        """Whether there is a reader now."""
        return bool(self._readers)

    def add(self, data: bytes) -> None:
        """Add whole events; the oldest ones go where there are too many bytes."""
        for part in data.split(END_OF_EVENT)[:-1]:
            self._events.append(part + END_OF_EVENT)
            self.bytes += len(part) + len(END_OF_EVENT)
        self._trim()
        self._wake()

    def _trim(self) -> None:
        """Let the oldest events go where there are too many bytes, but none that a reader lacks.

        The events that end an answer hold its whole text several times, and come at once: with log
        probabilities they may be more than the limit.
        """
        if self.bytes <= self._limit:
            return
        read = min((each.next for each in self._readers), default=self.count)
        while self.bytes > self._limit and len(self._events) > 1 and self._first < read:
            self.bytes -= len(self._events.popleft())
            self._first += 1

    def end(self, *, broken: bool = False) -> None:
        """No event follows; `broken` where the answer has no proper end."""
        self._ended, self._broken = True, broken
        self._wake()

    async def room(self) -> None:
        """Wait while a reader is far behind."""
        while not self._ended and any(self._behind(each) for each in self._readers):
            await self._change()

    def _behind(self, reader: _LogReader) -> bool:
        missing = self.count - reader.next
        if missing < 2:
            return False
        newest = (self._events[-number] for number in range(1, missing + 1))
        total = 0
        for data in newest:
            total += len(data)
            if total > BEHIND_BYTES:
                return True
        return False

    def check(self, after: int) -> None:
        """Raise InvalidRequest where events that follow this number are gone, or do not exist."""
        if after + 1 < self._first:
            raise InvalidRequest(
                f"The events after number {after} are no longer kept (at `$.starting_after`).",
                "Get the answer as a whole: leave stream out.",
            )
        if after >= self.count:
            raise InvalidRequest(
                f"There is no event with the number {after} yet (at `$.starting_after`).",
                "Send the number of the last event that came.",
            )

    async def read(self, after: int) -> AsyncGenerator[bytes, None]:
        """The events that follow this number (-1 for all), those to come included.

        Raises InvalidRequest as `check` does, and EngineFailed where the answer has no end.
        """
        self.check(after)
        reader = _LogReader(after + 1)
        self._readers.add(reader)
        try:
            while True:
                if data := self._next(reader):
                    self._wake()
                    yield data
                elif self._ended:
                    break
                else:
                    await self._change()
            if self._broken:
                raise EngineFailed("The answer broke off.", "Ask again.")
        finally:
            self._readers.discard(reader)
            self._wake()

    def _next(self, reader: _LogReader) -> bytes:
        """The next events of a reader, joined; empty where there are none yet."""
        found: list[bytes] = []
        size = 0
        while size < PIECE_BYTES and reader.next < self.count:
            found.append(self._events[reader.next - self._first])
            size += len(found[-1])
            reader.next += 1
        self._trim()
        return b"".join(found)

    async def _change(self) -> None:
        """Wait until an event came or was read, or until the end."""
        change = asyncio.get_running_loop().create_future()
        self._waiting.append(change)
        await change

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)
