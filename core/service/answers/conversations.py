"""Conversations that clients build up on this machine: bounded in number, bytes and time. No I/O.

A conversation belongs to the token that made it; other tokens cannot read it. Those that were used
longest ago go first, of the token that has the most.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.service.answers.shares import OwnerShares
from modeldeck.core.service.answers.store import ITEM_BYTES, KEPT_S, OVERHEAD_BYTES

MOST_CONVERSATIONS = 500
MOST_BYTES = 64 << 20
LARGEST_BYTES = 16 << 20
"""Bytes of one conversation: more text than a model reads, or some ten images."""


@dataclass(slots=True)
class KeptConversation:
    """One conversation, with its items as JSON."""

    id: str
    owner: str
    """Id of the token that made it; empty for this machine's own user."""
    created_at: int
    """Seconds since the epoch."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    items: dict[str, bytes] = field(default_factory=dict)
    """By id, in their order."""
    bytes: int = OVERHEAD_BYTES
    """What it takes."""
    until: float = 0.0
    """When it is forgotten, by the clock of its store."""
    full: bool = False
    """Whether an answer found no room in it; nothing is added until an item is removed."""

    @classmethod
    def begun(
        cls, id: str, owner: str, created_at: int, metadata: Mapping[str, str]
    ) -> KeptConversation:
        """A new conversation without items."""
        size = OVERHEAD_BYTES + _text_bytes(metadata)
        return cls(id, owner, created_at, metadata=metadata, bytes=size)


def _text_bytes(metadata: Mapping[str, str]) -> int:
    return sum(len(text.encode()) for pair in metadata.items() for text in pair)


@dataclass(slots=True)
class ConversationStore:
    """Keeps the conversations that were used last."""

    most_conversations: int = MOST_CONVERSATIONS
    most_bytes: int = MOST_BYTES
    largest_bytes: int = LARGEST_BYTES
    kept_s: float = KEPT_S
    clock: Callable[[], float] = time.monotonic
    _shares: OwnerShares = field(default_factory=OwnerShares)
    _kept: OrderedDict[str, KeptConversation] = field(default_factory=OrderedDict)
    """By id, the one that was used longest ago first."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def total_bytes(self) -> int:
        """What all of them take together."""
        return self._shares.total_bytes

    def keep(self, conversation: KeptConversation) -> None:
        """Keep a new conversation, at the cost of those that were used longest ago."""
        self._kept[conversation.id] = conversation
        self._shares.add(conversation.owner, conversation.bytes, entries=1)
        self._used(conversation)

    def find(self, id: str, owner: str) -> KeptConversation | None:
        """The conversation with this id; None where it is not kept, or belongs to another."""
        self.prune()
        found = self._kept.get(id)
        if found is None or found.owner != owner:
            return None
        self._used(found)
        return found

    def find_item(self, id: str, owner: str) -> bytes | None:
        """The item with this id of any kept conversation of the owner, the one used last first."""
        self.prune()
        for each in reversed(self._kept.values()):
            if each.owner == owner and id in each.items:
                return each.items[id]
        return None

    def check(self, conversation: KeptConversation, items: Iterable[tuple[str, bytes]]) -> None:
        """Raise InvalidRequest where the items cannot be added: too much, or an id twice."""
        if conversation.full:
            raise InvalidRequest(
                "The conversation is full: an answer that was given in it found no room.",
                "Delete items of it, or begin a new one.",
            )
        size, ids = conversation.bytes, set(conversation.items)
        for id, data in items:
            if id in ids:
                raise InvalidRequest(
                    f"The conversation has an item {id[:80]!r} already.",
                    "Send only what is new, or leave its id out.",
                )
            ids.add(id)
            size += len(data) + ITEM_BYTES
        self._check_size(size)

    def _check_size(self, size: int) -> None:
        if size > self.largest_bytes:
            raise InvalidRequest(
                f"The conversation would take more than {self.largest_bytes >> 20} MiB.",
                "Delete items of it, or begin a new one.",
            )

    def add(self, conversation: KeptConversation, items: Sequence[tuple[str, bytes]]) -> None:
        """Add items at its end, and those it has already in their old place.

        Does nothing where it was forgotten meanwhile. An answer may be longer than was known when
        its request was checked, and others may have been added since: where there is no room for
        all items, none is added, as a question without its answer is of no use, and `check` refuses
        what comes after, which a model would answer without knowing them.
        """
        if self._kept.get(conversation.id) is not conversation:
            return
        held = conversation.items
        more = sum(self._size(data) - self._size(held.get(id)) for id, data in dict(items).items())
        if more > 0 and conversation.bytes + more > self.largest_bytes:
            conversation.full = True
            return
        for id, data in items:
            self._count(conversation, -self._size(conversation.items.get(id)))
            conversation.items[id] = data
            self._count(conversation, self._size(data))
        self._used(conversation)

    def remove(self, conversation: KeptConversation, item: str) -> bool:
        """Remove an item; returns whether there was one."""
        if self._kept.get(conversation.id) is not conversation:
            return False
        data = conversation.items.pop(item, None)
        conversation.full = conversation.full and data is None
        self._count(conversation, -self._size(data))
        return data is not None

    def describe(self, conversation: KeptConversation, metadata: Mapping[str, str]) -> None:
        """Give it other metadata. Raises InvalidRequest where there is no room for more."""
        if self._kept.get(conversation.id) is conversation:
            more = _text_bytes(metadata) - _text_bytes(conversation.metadata)
            if more > 0:
                self._check_size(conversation.bytes + more)
            conversation.metadata = metadata
            self._count(conversation, more)

    def forget(self, conversation: KeptConversation) -> None:
        """Forget a conversation with its items."""
        if self._kept.get(conversation.id) is conversation:
            del self._kept[conversation.id]
            self._shares.add(conversation.owner, -conversation.bytes, entries=-1)

    def prune(self) -> None:
        """Forget what was not used for too long."""
        now = self.clock()
        while self._kept and next(iter(self._kept.values())).until <= now:
            self.forget(next(iter(self._kept.values())))

    def _used(self, conversation: KeptConversation) -> None:
        """Let it be the one that was used last, and make room for it."""
        conversation.until = self.clock() + self.kept_s
        self._kept.move_to_end(conversation.id)
        while len(self._kept) > self.most_conversations or self.total_bytes > self.most_bytes:
            owner = self._shares.largest(in_bytes=self.total_bytes > self.most_bytes)
            self.forget(next(each for each in self._kept.values() if each.owner == owner))

    def _count(self, conversation: KeptConversation, size: int) -> None:
        conversation.bytes += size
        self._shares.add(conversation.owner, size)

    @staticmethod
    def _size(data: bytes | None) -> int:
        return 0 if data is None else len(data) + ITEM_BYTES
