"""What each owner has of a store, so that the one who fills it makes room for the others. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class OwnerShares:
    """Entries and bytes by owner.

    >>> shares = OwnerShares()
    >>> shares.add("a", 10, entries=1)
    >>> shares.add("b", 3, entries=2)
    >>> shares.largest(in_bytes=True), shares.largest(in_bytes=False)
    ('a', 'b')
    """

    total_bytes: int = 0
    """What all of them have together."""
    _bytes: Counter[str] = field(default_factory=Counter)
    _entries: Counter[str] = field(default_factory=Counter)

    def add(self, owner: str, size: int, entries: int = 0) -> None:
        """Count bytes and entries of an owner; both are negative for what is taken away."""
        self.total_bytes += size
        for counter, more in ((self._bytes, size), (self._entries, entries)):
            counter[owner] += more
            if not counter[owner]:
                del counter[owner]

    def largest(self, *, in_bytes: bool) -> str:
        """The owner with the most bytes, or entries. Raises ValueError where there is none."""
        share = self._bytes if in_bytes else self._entries
        return max(share, key=share.__getitem__)
