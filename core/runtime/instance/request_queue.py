"""Bounded queue of the requests to one instance, with those that are being answered.

`modeldeck.core.runtime.instance.request_order` decides which one is next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from modeldeck.core.errors import Busy, DeckError
from modeldeck.core.runtime.instance import request_order
from modeldeck.core.runtime.instance.request import RequestStream
from modeldeck.core.runtime.instance.request_order import TurnHistory, WaitingTurn

AnyRequest = RequestStream[Any]


class RequestQueue:
    """Waiting and running requests. A requester that leaves takes its request out, anywhere."""

    def __init__(
        self,
        name: str,
        length: int,
        *,
        on_count: Callable[[int, int], None],
        cancel: Callable[[AnyRequest], None],
        wake: Callable[[], None],
    ) -> None:
        """Make an empty queue.

        Args:
            name: Name of the model, for error messages.
            length: Most requests that may wait.
            on_count: Called after each change with the number of waiting and running requests
                together, and of those that are being answered.
            cancel: Asks the engine to cancel a running request.
            wake: Called when a request was added.
        """
        self._name = name
        self._length = length
        self._on_count = on_count
        self._cancel = cancel
        self._wake = wake
        self._waiting: list[AnyRequest] = []
        self._running: dict[int, AnyRequest] = {}
        self._history = TurnHistory()
        self._events = 0
        """Arrivals and starts so far."""

    @property
    def running(self) -> Mapping[int, AnyRequest]:
        """The running requests by the id of their command."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @contextmanager
    def entered(self, request: AnyRequest) -> Iterator[None]:
        """Hold a request in the queue during the block; leaving it cancels it. Raises Busy."""
        if len(self._waiting) >= self._length:
            raise Busy(
                f"{self._name} is busy: {len(self._waiting)} requests are waiting.",
                "Try again later, or raise runtime.queue_length.",
            )
        self._events += 1
        request.arrived = self._events
        request.on_cancel = lambda _: self._take_out(request)
        self._waiting.append(request)
        self._tell()
        self._wake()
        try:
            yield
        finally:
            request.abandon()
            self._take_out(request)

    def _take_out(self, request: AnyRequest) -> None:
        """Remove a waiting request, or ask the engine to cancel a running one.

        That one stays until the engine reports its end.
        """
        request.on_cancel = None
        if request in self._waiting:
            self._waiting.remove(request)
            self._tell()
        elif self._running.get(request.id) is request:
            self._cancel(request)

    def start(self, number: int, slots: int) -> AnyRequest | None:
        """Move the next request to the running ones, with this id; None while none may start.

        `slots` is how many requests the engine answers at the same time.
        """
        free = next((at for at, r in enumerate(self._waiting) if r.needs_now == "nothing"), None)
        turns = self._turns()
        index = request_order.pick(turns, self._history) if free is None and turns else free
        if index is None or not self._has_room(self._waiting[index], slots):
            return None  # nothing overtakes it, so its turn comes
        request = self._waiting[index]
        self._events += 1
        if request.needs_now != "nothing":
            self._history = request_order.after_start(turns, self._history, index, self._events)
        del self._waiting[index]
        request.begin(number)
        self._running[number] = request
        self._tell()
        return request

    def _has_room(self, request: AnyRequest, slots: int) -> bool:
        busy = self._busy()
        if request.needs_now == "nothing" or not busy:
            return True
        is_alone = request.needs_now == "alone" or any(r.needs_now == "alone" for r in busy)
        return not is_alone and len(busy) < slots

    def _busy(self) -> list[AnyRequest]:
        """The running requests that keep others from being started."""
        return [r for r in self._running.values() if r.needs_now != "nothing"]

    def finish(self, request: AnyRequest) -> None:
        """Remove a running request that the engine is done with."""
        if self._running.pop(request.id, None) is not None:
            request.on_cancel = None
            self._tell()

    def take_back(self, requests: Iterable[AnyRequest], *, suspects: bool) -> None:
        """Let running requests wait again, before all others; `suspects` are then asked alone."""
        for request in requests:
            del self._running[request.id]
            request.again, request.suspect, request.id = True, suspects, 0
            self._waiting.append(request)
        self._tell()

    def clear_suspects(self) -> None:
        """Let requests that wait to be asked alone be asked together with others."""
        for request in self._waiting:
            request.suspect = False

    def cancel_running(self) -> None:
        """Ask the engine to cancel every running request."""
        for request in list(self._running.values()):
            self._cancel(request)

    def refuse(self, error: DeckError) -> None:
        """Fail all waiting requests with this error."""
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            request.fail(error)
        self._tell()

    def fail_running(self, error: DeckError) -> None:
        """Fail all running requests with this error."""
        for request in list(self._running.values()):
            request.fail(error)
            self.finish(request)

    def _turns(self) -> list[WaitingTurn]:
        return [
            WaitingTurn(r.arrived, r.requester.who, r.requester.priority, r.again)
            for r in self._waiting
        ]

    def _tell(self) -> None:
        """Tell the counts, and each waiting request its place."""
        self._on_count(len(self._waiting) + len(self._running), len(self._busy()))
        ahead = request_order.order(self._turns(), self._history, self._events + 1)
        for place, index in enumerate(ahead, 1):
            request = self._waiting[index]
            if request.place != place:
                request.place = place
                request.note(state="waiting", place=place)
