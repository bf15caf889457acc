"""The requests to one instance: the one that is answered, and those that wait for their turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from modeldeck.core.errors import Busy, DeckError
from modeldeck.core.runtime.instance.request import RequestStream


class RequestQueue:
    """A bounded line. Whoever gives a request up leaves it, wherever it stands."""

    def __init__(
        self,
        name: str,
        length: int,
        *,
        on_count: Callable[[int], None],
        cancel: Callable[[RequestStream[Any]], None],
        wake: Callable[[], None],
    ) -> None:
        """Make an empty line.

        Args:
            name: Of the model, for a person.
            length: How many may wait.
            on_count: Told how many wait or are answered, whenever that may have changed.
            cancel: Asks the engine to give up the request that is answered.
            wake: Told that there is something to do.
        """
        self._name = name
        self._length = length
        self._on_count = on_count
        self._cancel = cancel
        self._wake = wake
        self._jobs: deque[RequestStream[Any]] = deque()
        self._current: RequestStream[Any] | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    @contextmanager
    def asking(self, job: RequestStream[Any]) -> Iterator[None]:
        """Put a request at the end; leaving the block gives it up. Raises Busy."""
        if len(self._jobs) >= self._length:
            raise Busy(
                f"{len(self._jobs)} requests wait for {self._name} already.",
                "Try again later, or raise runtime.queue_length.",
            )
        self._jobs.append(job)
        self._count()
        self._wake()
        try:
            yield
        finally:
            self._give_up(job)

    def _give_up(self, job: RequestStream[Any]) -> None:
        job.abandon()
        if job is self._current:
            self._cancel(job)
        elif job in self._jobs:
            self._jobs.remove(job)
            self._count()

    @contextmanager
    def next(self, number: int) -> Iterator[RequestStream[Any]]:
        """The first of the line, which is being answered, under this number, during the block."""
        job = self._current = self._jobs.popleft()
        job.id = number
        try:
            yield job
        finally:
            self._current = None
            self._count()

    def cancel(self) -> None:
        """Ask the engine to give up what it answers."""
        if self._current is not None:
            self._cancel(self._current)

    def refuse(self, error: DeckError) -> None:
        """Send all who wait away with this error."""
        while self._jobs:
            self._jobs.popleft().fail(error)
        self._count()

    def _count(self) -> None:
        self._on_count(len(self._jobs) + (self._current is not None))
