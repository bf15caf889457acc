"""The order in which waiting requests are answered. Pure.

Interactive requests come before batch requests, but while both wait every `BATCH_EVERY`th start is
a batch request. Within a priority the requesters take turns: each start goes to the requester that
has waited longest since its last start, or since the arrival of its first waiting request. The
requests of one requester and one priority are answered in the order of their arrival. So a request
waits for a bounded number of starts, whatever arrives after it. A request that lost its engine is
first of all.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from modeldeck.core.schema import Priority

BATCH_EVERY = 8
"""While both kinds wait, every eighth request that starts is a batch request."""


@dataclass(frozen=True, slots=True)
class WaitingTurn:
    """A waiting request, as far as the order needs to know it."""

    arrived: int
    """Number of its arrival; arrivals and starts are counted together."""
    who: str
    priority: Priority = "interactive"
    again: bool = False
    """Whether it was started before and lost its engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnHistory:
    """The past starts that the order depends on."""

    starts: Mapping[str, int] = field(default_factory=dict)
    """Number of the last start of each requester that has waiting requests."""
    interactive_run: int = 0
    """Interactive starts in a row while batch requests waited."""


def pick(waiting: Sequence[WaitingTurn], history: TurnHistory) -> int:
    """The index of the request to start next. Raises ValueError where none waits.

    >>> both = [WaitingTurn(1, "a"), WaitingTurn(2, "a"), WaitingTurn(3, "b")]
    >>> pick(both, TurnHistory()), pick(both[1:], TurnHistory(starts={"a": 4}))
    (0, 1)
    """
    again = [turn for turn in waiting if turn.again]
    chosen = again or _class_in_turn(waiting, history)
    first: dict[str, WaitingTurn] = {}
    for turn in sorted(chosen, key=lambda turn: turn.arrived):
        first.setdefault(turn.who, turn)
    if again:
        found = min(first.values(), key=lambda turn: turn.arrived)
    else:
        found = min(first.values(), key=lambda t: max(t.arrived, history.starts.get(t.who, 0)))
    return waiting.index(found)


def _class_in_turn(waiting: Sequence[WaitingTurn], history: TurnHistory) -> Sequence[WaitingTurn]:
    """The waiting requests of the priority that the next start goes to."""
    interactive = [turn for turn in waiting if turn.priority == "interactive"]
    batch = [turn for turn in waiting if turn.priority == "batch"]
    if interactive and batch:
        return batch if history.interactive_run >= BATCH_EVERY - 1 else interactive
    return interactive or batch


def after_start(
    waiting: Sequence[WaitingTurn], history: TurnHistory, index: int, number: int
) -> TurnHistory:
    """The history once the request at `index` was started as the event with this number."""
    started = waiting[index]
    rest = [turn for at, turn in enumerate(waiting) if at != index]
    is_run = started.priority == "interactive" and any(t.priority == "batch" for t in rest)
    keep = {turn.who for turn in rest}
    starts = {**history.starts, started.who: number}
    return TurnHistory(
        starts={who: at for who, at in starts.items() if who in keep},
        interactive_run=history.interactive_run + 1 if is_run else 0,
    )


def order(waiting: Sequence[WaitingTurn], history: TurnHistory, number: int) -> list[int]:
    """The indexes of the waiting requests in the order of their starts, if none arrives meanwhile.

    It is what `pick` and `after_start` give one after the other, in a time that grows little faster
    than the number of requests. `number` is that of the next event.
    """
    queue = _Queue(waiting, dict(history.starts))
    run = history.interactive_run
    found: list[int] = []
    for at in sorted(range(len(waiting)), key=lambda at: waiting[at].arrived):
        if waiting[at].again:
            found.append(at)
        else:
            queue.add(at)
    for count, at in enumerate(found):
        queue.left[waiting[at].priority] -= 1
        queue.starts[waiting[at].who] = number + count
        run = run + 1 if waiting[at].priority == "interactive" and queue.left["batch"] else 0
    while len(found) < len(waiting):
        priority: Priority = "interactive" if queue.ready["interactive"] else "batch"
        if queue.ready["batch"] and run >= BATCH_EVERY - 1:
            priority = "batch"
        found.append(queue.take(priority, number + len(found)))
        run = run + 1 if priority == "interactive" and queue.left["batch"] else 0
    return found


class _Queue:
    """Waiting requests by priority and requester, for a simulation of their starts."""

    def __init__(self, waiting: Sequence[WaitingTurn], starts: dict[str, int]) -> None:
        self._waiting = waiting
        self.starts = starts
        self.left = Counter(turn.priority for turn in waiting)
        self.ready: dict[Priority, list[tuple[int, str]]] = {"interactive": [], "batch": []}
        """Heaps of the requesters with their ranks, which may be older than their last start."""
        self._requests: dict[tuple[Priority, str], deque[int]] = {}

    def add(self, at: int) -> None:
        """Add the request at this index, in the order of arrival."""
        turn = self._waiting[at]
        requests = self._requests.setdefault((turn.priority, turn.who), deque())
        requests.append(at)
        if len(requests) == 1:
            heappush(self.ready[turn.priority], (turn.arrived, turn.who))

    def take(self, priority: Priority, number: int) -> int:
        """Start the next request of a priority; return its index."""
        heap = self.ready[priority]
        while True:
            rank, who = heappop(heap)
            requests = self._requests[priority, who]
            now = max(self._waiting[requests[0]].arrived, self.starts.get(who, 0))
            if now <= rank:
                break
            heappush(heap, (now, who))
        self.left[priority] -= 1
        self.starts[who] = number
        at = requests.popleft()
        if requests:
            heappush(heap, (number, who))
        return at
