"""Bounded queue of the requests to one instance, with the request that is being answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from modeldeck.core.errors import Busy, DeckError
from modeldeck.core.runtime.instance.request import RequestStream


class RequestQueue:
    """First in, first out. A requester that leaves takes its request out, at any position."""

    def __init__(
        self,
        name: str,
        length: int,
        *,
        on_count: Callable[[int], None],
        cancel: Callable[[RequestStream[Any]], None],
        wake: Callable[[], None],
    ) -> None:
        """Make an empty queue.

        Args:
            name: Name of the model, for error messages.
            length: Most requests that may wait.
            on_count: Called with the number of waiting and answered requests after each change.
            cancel: Asks the engine to cancel the request that is being answered.
            wake: Called when a request was added.
        """
        self._name = name
        self._length = length
        self._on_count = on_count
        self._cancel = cancel
        self._wake = wake
        self._requests: deque[RequestStream[Any]] = deque()
        self._current: RequestStream[Any] | None = None

    def __len__(self) -> int:
        return len(self._requests)

    @contextmanager
    def entered(self, request: RequestStream[Any]) -> Iterator[None]:
        """Hold a request in the queue during the block; leaving it cancels it. Raises Busy."""
        if len(self._requests) >= self._length:
            raise Busy(
                f"{self._name} is busy: {len(self._requests)} requests are waiting.",
                "Try again later, or raise runtime.queue_length.",
            )
        self._requests.append(request)
        self._count()
        self._wake()
        try:
            yield
        finally:
            self._leave(request)

    def _leave(self, request: RequestStream[Any]) -> None:
        request.abandon()
        if request is self._current:
            self._cancel(request)
        elif request in self._requests:
            self._requests.remove(request)
            self._count()

    @contextmanager
    def next(self, number: int) -> Iterator[RequestStream[Any]]:
        """Take the first request out and give it this id; it is being answered during the block."""
        request = self._current = self._requests.popleft()
        request.id = number
        try:
            yield request
        finally:
            self._current = None
            self._count()

    def cancel(self) -> None:
        """Ask the engine to cancel the request that is being answered."""
        if self._current is not None:
            self._cancel(self._current)

    def refuse(self, error: DeckError) -> None:
        """Fail all waiting requests with this error."""
        while self._requests:
            self._requests.popleft().fail(error)
        self._count()

    def _count(self) -> None:
        self._on_count(len(self._requests) + (self._current is not None))
