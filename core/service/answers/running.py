"""Streamed answers that go on without their line, so that a client can come back for the rest.

Each runs in a background task. When its last reader is gone it goes on for `RESUME_S`, then it is
cancelled; at once where its owner asks the same model again, since a client that sends a request
anew would wait for its first one. Its events are kept for `LOG_KEPT_S` after its end.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from modeldeck.core.concurrency import BackgroundTasks
from modeldeck.core.service.answers.event_log import EventLog
from modeldeck.core.service.answers.store import AnswerStore

RESUME_S = 15.0
"""Seconds that an answer goes on without a reader: a line that broke is made anew in less."""
LOG_KEPT_S = 120.0
"""Seconds that the events of an ended answer are kept."""
MOST_LOG_BYTES = 32 << 20
"""Bytes of events of all ended answers together."""


class RunningAnswer:
    """An answer that is being made, or that ended a short while ago."""

    def __init__(
        self,
        id: str,
        owner: str,
        *,
        model_id: str,
        snapshot: Callable[[], bytes],
        called_off: Callable[[], bytes],
    ) -> None:
        """Make one that has no events yet.

        Args:
            id: Its id.
            owner: Id of the token that asked for it; empty for this machine's own user.
            model_id: Of the model that answers.
            snapshot: Gives the answer as it is now, in its dialect; not called after its end.
            called_off: Ends the answer as it is now, and gives its last event.
        """
        self.id = id
        self.owner = owner
        self.model_id = model_id
        self.snapshot = snapshot
        self._called_off = called_off
        self.log = EventLog()
        self.ended_at = 0.0
        """When it ended, by the monotonic clock; 0 while it runs."""
        self._was_read = False
        self._stopping = False
        self._done = asyncio.Event()
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def ended(self) -> bool:
        """Whether it has come to its end."""
        return self.log.ended

    @property
    def is_abandoned(self) -> bool:
        """Whether it runs on and its readers have gone."""
        return self._was_read and not self.log.is_read and not self.ended

    async def stop(self) -> None:
        """End it now, as far as it has come, and wait until it has ended."""
        self.cancel()
        if not self.ended:
            await self._done.wait()

    def cancel(self) -> None:
        """End it as far as it has come."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()

    async def read(self, after: int) -> AsyncGenerator[bytes, None]:
        """Its events after this number. It goes on for `RESUME_S` when the last reader leaves."""
        self._was_read = True
        try:
            async with aclosing(self.log.read(after)) as events:
                async for data in events:
                    self._stop_timer()
                    yield data
        finally:
            self.expect_reader()

    def expect_reader(self) -> None:
        """Cancel it in `RESUME_S`, unless it has a reader or has ended."""
        if not self.log.is_read and not self.ended:
            self._stop_timer()
            self._timer = asyncio.get_running_loop().call_later(RESUME_S, self._give_up)

    def _give_up(self) -> None:
        if not self.log.is_read:
            self.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def make(self, events: AsyncGenerator[bytes, None]) -> None:
        """Take its events to their end; raises what they raise."""
        self._task = asyncio.current_task()
        broken = True
        try:
            async with aclosing(events):
                if self._stopping:
                    raise asyncio.CancelledError
                async for data in events:
                    self.log.add(data)
                    await self.log.room()
            broken = False
        except asyncio.CancelledError:
            self.log.add(self._called_off())
            broken = False
            if not self._stopping:  # the core stops
                raise
        finally:
            self._task = None
            self._stop_timer()
            # They hold the request and the answer once more.
            self.snapshot = self._called_off = bytes
            self.log.end(broken=broken)
            self.ended_at = time.monotonic()
            self._done.set()


class KeptAnswers:
    """The answers of one core: those that are stored, and those that run."""

    def __init__(self, tasks: BackgroundTasks) -> None:
        self.store = AnswerStore()
        self._tasks = tasks
        self._running: OrderedDict[str, RunningAnswer] = OrderedDict()

    def start(
        self, answer: RunningAnswer, events: AsyncGenerator[bytes, None], first: bytes
    ) -> None:
        """Make an answer in the background; `first` are events that were made already."""
        self._prune()
        self._running[answer.id] = answer
        answer.log.add(first)
        answer.expect_reader()
        self._tasks.start(self._make(answer, events), name=f"answering {answer.id}")

    async def _make(self, answer: RunningAnswer, events: AsyncGenerator[bytes, None]) -> None:
        try:
            await answer.make(events)
        finally:
            asyncio.get_running_loop().call_later(LOG_KEPT_S + 1, self._prune)

    def running(self, id: str, owner: str) -> RunningAnswer | None:
        """The answer with this id whose events are at hand; None for another owner's."""
        self._prune()
        found = self._running.get(id)
        return found if found is not None and found.owner == owner else None

    def cancel_abandoned(self, owner: str, model_id: str) -> None:
        """Cancel answers of a model that their owner does not read any more."""
        for answer in self._running.values():
            if answer.is_abandoned and (answer.owner, answer.model_id) == (owner, model_id):
                answer.cancel()

    async def drop(self, answer: RunningAnswer) -> None:
        """Forget the events of an answer; one that still runs is ended."""
        await answer.stop()
        self._running.pop(answer.id, None)

    def _prune(self) -> None:
        """Forget events that are too old, and the oldest ones of too many."""
        ended = [each for each in self._running.values() if each.ended_at]
        total = sum(each.log.bytes for each in ended)
        until = time.monotonic() - LOG_KEPT_S
        for each in ended:
            if each.ended_at <= until or total > MOST_LOG_BYTES:
                total -= each.log.bytes
                del self._running[each.id]
