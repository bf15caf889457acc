"""Answers of models that a client may name again: bounded in number, bytes and time. No I/O.

An answer belongs to the token that asked for it; other tokens cannot read it. Where there are too
many, the oldest go of the token that has the most, so that no client costs another its answers. An
answer that
continues another one keeps the items of that one, even after that one is deleted; bytes that
several answers share count once.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from modeldeck.core.service.answers.shares import OwnerShares

MOST_ANSWERS = 500
MOST_BYTES = 64 << 20
KEPT_S = 86400.0
"""A day."""

OVERHEAD_BYTES = 1 << 10
"""What an answer takes besides its items: the records and the places in two tables."""
ITEM_BYTES = 160
"""What an item takes besides its bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """One answer with what it was asked, as JSON."""

    id: str
    owner: str
    """Id of the token that asked for it; empty for this machine's own user."""
    response: bytes
    """The answer as its dialect has it."""
    inputs: tuple[bytes, ...]
    """The items of its request, each with its id; those of `previous` are not among them."""
    outputs: tuple[bytes, ...]
    """The items of the answer, each with its id."""
    item_ids: tuple[str, ...] = ()
    """Ids of all these items, in the same order."""
    previous: StoredAnswer | None = None
    """The answer it goes on from."""
    streamed: bool = False
    """Whether it was streamed, so that its events had numbers."""
    background: bool = False
    """Whether it was made in the background."""
    conversation: str = ""
    """Id of the conversation that it was given in; empty for none."""

    @property
    def own_bytes(self) -> int:
        """Bytes that it takes without those of `previous`."""
        parts = (*self.inputs, *self.outputs)
        return OVERHEAD_BYTES + len(self.response) + sum(map(len, parts)) + ITEM_BYTES * len(parts)

    def items(self) -> Iterator[bytes]:
        """Every item of the conversation up to and with this answer, the oldest first."""
        line: list[StoredAnswer] = []
        answer: StoredAnswer | None = self
        while answer is not None:
            line.append(answer)
            answer = answer.previous
        for each in reversed(line):
            yield from each.inputs
            yield from each.outputs


@dataclass(slots=True)
class _Held:
    """An answer in memory, by how many it is held: the table, and answers that go on from it."""

    answer: StoredAnswer
    holders: int = 1


@dataclass(slots=True)
class AnswerStore:
    """Keeps the newest answers."""

    most_answers: int = MOST_ANSWERS
    most_bytes: int = MOST_BYTES
    kept_s: float = KEPT_S
    clock: Callable[[], float] = time.monotonic
    _shares: OwnerShares = field(default_factory=OwnerShares)
    _listed: OrderedDict[str, float] = field(default_factory=OrderedDict)
    """Ids that can be named, with the time until which, the oldest first."""
    _held: dict[str, _Held] = field(default_factory=dict)
    """Answers by id: the listed ones, and those that listed ones go on from."""
    _items: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)
    """Ids of the listed answers that have an item, the oldest first, by owner and id of the item.
    Clients choose ids of items themselves, so two owners may have the same."""

    def __len__(self) -> int:
        return len(self._listed)

    @property
    def total_bytes(self) -> int:
        """What all of them take together."""
        return self._shares.total_bytes

    def keep(self, answer: StoredAnswer) -> None:
        """Keep an answer, at the cost of older ones; one with the same id is replaced."""
        self._forget(answer.id)
        self._held[answer.id] = _Held(answer)
        self._listed[answer.id] = self.clock() + self.kept_s
        self._shares.add(answer.owner, answer.own_bytes, entries=1)
        previous = self._held.get(answer.previous.id) if answer.previous is not None else None
        if previous is not None and previous.answer is answer.previous:
            previous.holders += 1
        elif answer.previous is not None:
            self._hold_again(answer.previous)
        for item in answer.item_ids:
            self._items.setdefault((answer.owner, item), {})[answer.id] = None
        while self._listed and (
            len(self._listed) > self.most_answers or self.total_bytes > self.most_bytes
        ):
            self._forget(self._oldest_of_the_largest())

    def _oldest_of_the_largest(self) -> str:
        """The oldest listed answer of the owner that has the most of what there is too much of."""
        owner = self._shares.largest(in_bytes=self.total_bytes > self.most_bytes)
        return next(id for id in self._listed if self._held[id].answer.owner == owner)

    def _hold_again(self, answer: StoredAnswer) -> None:
        """Count an answer that was let go of while another one was made from it."""
        each: StoredAnswer | None = answer
        while each is not None:
            held = self._held.get(each.id)
            if held is not None and held.answer is each:
                held.holders += 1
                return
            self._held[each.id] = _Held(each)
            self._shares.add(each.owner, each.own_bytes)
            each = each.previous

    def find(self, id: str, owner: str) -> StoredAnswer | None:
        """The answer with this id; None where it is not kept, or belongs to another."""
        self.prune()
        held = self._held.get(id) if id in self._listed else None
        return held.answer if held is not None and held.answer.owner == owner else None

    def find_item(self, id: str, owner: str) -> bytes | None:
        """The item with this id of any kept answer of the owner."""
        self.prune()
        holders = self._items.get((owner, id))
        answer = self.find(next(reversed(holders)), owner) if holders else None
        if answer is None:
            return None
        parts = (*answer.inputs, *answer.outputs)
        return next((part for key, part in zip(answer.item_ids, parts, strict=True) if key == id))

    def forget(self, id: str, owner: str) -> bool:
        """Forget an answer; returns whether there was one."""
        found = self.find(id, owner) is not None
        if found:
            self._forget(id)
        return found

    def prune(self) -> None:
        """Forget what is too old."""
        now = self.clock()
        while self._listed and next(iter(self._listed.values())) <= now:
            self._forget(next(iter(self._listed)))

    def _forget(self, id: str) -> None:
        if self._listed.pop(id, None) is None:
            return
        answer = self._held[id].answer
        self._shares.add(answer.owner, 0, entries=-1)
        for item in answer.item_ids:
            holders = self._items.get((answer.owner, item), {})
            holders.pop(id, None)
            if not holders:
                self._items.pop((answer.owner, item), None)
        key: str | None = id
        while key is not None:
            held = self._held[key]
            held.holders -= 1
            if held.holders:
                return
            del self._held[key]
            self._shares.add(held.answer.owner, -held.answer.own_bytes)
            key = held.answer.previous.id if held.answer.previous is not None else None
