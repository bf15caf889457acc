"""Streamed answers that go on without their connection, so that a client can fetch the rest.

Each runs in a background task. When its last reader is gone it goes on for `RESUME_S`, then it is
cancelled; at once where its owner asks the same model again, since a client that sends a request
anew would wait for its first one. One that was asked for in the background needs no reader: it goes
on to its end, or to that of the core. The events of an answer are kept for `LOG_KEPT_S` after its
end.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from modeldeck.core.concurrency import BackgroundTasks
from modeldeck.core.errors import Busy
from modeldeck.core.service.answers.conversations import ConversationStore
from modeldeck.core.service.answers.event_log import EventLog
from modeldeck.core.service.answers.store import AnswerStore

RESUME_S = 15.0
"""Seconds that an answer goes on without a reader: a line that broke is made anew in less."""
LOG_KEPT_S = 120.0
"""Seconds that the events of an ended answer are kept."""
MOST_LOG_BYTES = 32 << 20
"""Bytes of events of all ended answers together."""
MOST_IN_BACKGROUND = 64
"""Answers that are made in the background at the same time, queued ones included."""
MOST_OF_ONE_OWNER = 16
"""Of them, those of one owner."""
MOST_HELD_BYTES = 64 << 20
"""Bytes of what all of them were asked."""


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
        in_background: bool = False,
        held_bytes: int = 0,
    ) -> None:
        """Make one that has no events yet.

        Args:
            id: Its id.
            owner: Id of the token that asked for it; empty for this machine's own user.
            model_id: Of the model that answers.
            snapshot: Gives the answer as it is now, in its dialect; not called after its end.
            called_off: Ends the answer as it is now, and gives its last event.
            in_background: Whether it goes on without a reader.
            held_bytes: Bytes of what it was asked, about.
        """
        self.id = id
        self.owner = owner
        self.model_id = model_id
        self.in_background = in_background
        self.held_bytes = held_bytes
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
        unread = self._was_read and not self.log.is_read and not self.ended
        return unread and not self.in_background

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
        """Cancel it in `RESUME_S`, unless it needs no reader, has one, or has ended."""
        if not self.in_background and not self.log.is_read and not self.ended:
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
        self.conversations = ConversationStore()
        self._tasks = tasks
        self._running: OrderedDict[str, RunningAnswer] = OrderedDict()

    def start(
        self, answer: RunningAnswer, events: AsyncGenerator[bytes, None], first: bytes
    ) -> None:
        """Make an answer in a task of its own; `first` are events that were made already.

        Raises Busy where too many are made in the background.
        """
        self._prune()
        if answer.in_background:
            self._check_room(answer)
        self._running[answer.id] = answer
        answer.log.add(first)
        answer.expect_reader()
        self._tasks.start(self._make(answer, events), name=f"answering {answer.id}")

    def _check_room(self, answer: RunningAnswer) -> None:
        others = [each for each in self._running.values() if each.in_background and not each.ended]
        if (
            len(others) >= MOST_IN_BACKGROUND
            or sum(each.owner == answer.owner for each in others) >= MOST_OF_ONE_OWNER
            or sum(each.held_bytes for each in others) + answer.held_bytes > MOST_HELD_BYTES
        ):
            raise Busy(
                f"{len(others)} answers are queued or being made in the background.",
                "Try again when one of them has ended, or ask without background.",
            )

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

    def cancel_all_of(self, owner: str) -> None:
        """Cancel all answers of an owner, whose token was revoked."""
        for answer in self._running.values():
            if answer.owner == owner:
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
