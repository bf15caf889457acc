"""The rows of a table in their order, and the place of the cursor among them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class TableRows(Generic[T]):
    """Items with a key each; the cursor belongs to a key, and stays on it when rows move."""

    def __init__(self, is_rule: Callable[[T], bool]) -> None:
        """Create it without rows.

        Args:
            is_rule: Whether an item is a rule between rows, which the cursor skips.
        """
        self.items: Sequence[T] = ()
        self.at = 0
        """Place of the row under the cursor."""
        self.cursor_key: str | None = None
        """The key of the row under the cursor; None where there are no rows."""
        self._is_rule = is_rule
        self._keys: list[str] = []
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def replace(self, items: Sequence[T], key: Callable[[T], str]) -> bool:
        """Take these items; False where their keys are the same, in the same order."""
        keys = [key(item) for item in items]
        self.items = items
        if keys == self._keys:
            return False
        self._keys = keys
        self._places = {key: place for place, key in enumerate(keys)}
        return True

    def key(self, place: int) -> str:
        """The key of the row at a place."""
        return self._keys[place]

    def place(self, key: str | None) -> int | None:
        """The place of a key; None where it is not listed."""
        return None if key is None else self._places.get(key)

    @property
    def under_cursor(self) -> T | None:
        """The item under the cursor; None where there are no rows."""
        return self.items[self.at] if self.cursor_key is not None else None

    def of(self, keys: Collection[str]) -> list[T]:
        """The items with one of these keys, in the order of the rows."""
        return [item for key, item in zip(self._keys, self.items, strict=True) if key in keys]

    def is_rule(self, place: int) -> bool:
        """Whether a rule stands at a place."""
        return self._is_rule(self.items[place])

    def selectable(self, place: int, by: int) -> int | None:
        """The nearest row to `place` that is no rule, first in the direction of `by`."""
        if not self._keys:
            return None
        place = max(0, min(place, len(self._keys) - 1))
        step = 1 if by >= 0 else -1
        ways = (range(place, len(self._keys)), range(place, -1, -1))
        for way in ways[::step]:
            for candidate in way:
                if not self.is_rule(candidate):
                    return candidate
        return None

    def put(self, place: int | None) -> bool:
        """Put the cursor on a row, or on none; False where it is there already."""
        self.at = place or 0
        key = None if place is None else self._keys[place]
        moved = key != self.cursor_key
        self.cursor_key = key
        return moved

    def top_to_show_cursor(self, top: int, height: int) -> int | None:
        """The first line in sight once the cursor is; None where it is in sight.

        `top` is the first line now, `height` the number of lines.
        """
        if self.at < top:
            # A rule above the first row comes into sight with it.
            return self.at - (self.at == 1)
        return self.at - height + 1 if self.at >= top + height else None
