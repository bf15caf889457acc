"""Keeps the KV caches of texts that were read, within a budget of bytes, for later requests.

Order of eviction and kinds as in `mlx_lm.models.cache.LRUPromptCache`, which counts no bytes for
the tokens it keeps, and takes time by the square of their number to find the nearest entry.
"""

from __future__ import annotations

import copy
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

Kind = Literal["assistant", "user", "system"]
"""What a text ends with: the first kind is dropped first, system prompts last."""

ORDER: tuple[Kind, ...] = ("assistant", "user", "system")
MOST_ENTRIES = 256
"""Entries that are kept at most: each is compared with the prompt of every request."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeptText:
    """A text and the KV caches that hold all of it."""

    tokens: bytes
    """The tokens, as an array of 32-bit numbers."""
    caches: list[Any]
    kind: Kind
    size_bytes: int
    """Bytes of caches and tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPrefix:
    """The beginning of a text in caches that the finder may change."""

    tokens: int
    """Tokens that the caches hold; 0 for none."""
    caches: list[Any] | None = None


NOTHING_FOUND = FoundPrefix(tokens=0)


def packed(tokens: Sequence[int]) -> bytes:
    """Tokens in the form that is compared."""
    return array("I", tokens).tobytes()


def common_length(one: bytes, other: bytes) -> int:
    """The number of tokens that two texts begin with alike.

    >>> common_length(packed([1, 2, 3, 4]), packed([1, 2, 9]))
    2
    """
    size = array("I").itemsize
    low, high = 0, min(len(one), len(other)) // size
    if one[: high * size] == other[: high * size]:
        return high
    while high - low > 1:  # alike up to `low`, and not up to `high`
        middle = (low + high) // 2
        if one[low * size : middle * size] == other[low * size : middle * size]:
            low = middle
        else:
            high = middle
    return low


class CacheTools(Protocol):
    """What is done with a text's caches, one of each layer."""

    def can_cut(self, caches: Sequence[Any]) -> bool:
        """Whether tokens can be dropped from their end."""

    def cut(self, caches: Sequence[Any], count: int) -> None:
        """Drop that many tokens."""

    def hold(self, caches: Sequence[Any]) -> None:
        """Compute what they consist of, so that they keep no other memory."""


class MlxPrefixCache:
    """KV caches of texts that no request is working on."""

    def __init__(self, limit_bytes: int, tools: CacheTools) -> None:
        """Begin empty; `limit_bytes` are kept at most, 0 keeps nothing."""
        self._limit_bytes = limit_bytes
        self._tools = tools
        self._kept: list[KeptText] = []
        """The one that was used last comes last."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """Bytes of all that is kept."""
        return sum(entry.size_bytes for entry in self._kept)

    def find(self, tokens: Sequence[int]) -> FoundPrefix:
        """Caches with the longest beginning of a text that is kept, for the caller to change.

        mlx copies an array when one of its users writes, so what is kept stays as it is.
        """
        text = packed(tokens)
        best: KeptText | None = None
        length = 0
        for entry in self._kept:
            alike = self._usable(entry, text)
            if alike > length:
                best, length = entry, alike
        if best is None:
            return NOTHING_FOUND
        self._kept.remove(best)
        self._kept.append(best)
        caches = copy.deepcopy(best.caches)
        if beyond := _count(best.tokens) - length:
            self._tools.cut(caches, beyond)
        return FoundPrefix(tokens=length, caches=caches)

    def _usable(self, entry: KeptText, text: bytes) -> int:
        """Tokens of an entry that a text can go on from."""
        alike = common_length(entry.tokens, text)
        whole = alike == _count(entry.tokens)
        return alike if whole or (alike and self._tools.can_cut(entry.caches)) else 0

    def keep(self, tokens: Sequence[int], caches: list[Any], kind: Kind) -> None:
        """Keep the caches that hold these tokens, and drop what no longer fits beside them."""
        text = packed(tokens)
        size = len(text) + sum(cache.nbytes for cache in caches)
        if not tokens or size > self._limit_bytes:
            return
        # Caches that can be cut stand for all beginnings of their text.
        cuttable = self._tools.can_cut(caches)
        for entry in self._kept:
            if entry.tokens.startswith(text) and self._tools.can_cut(entry.caches):
                self._kept.remove(entry)
                self._kept.append(entry)
                return
        self._tools.hold(caches)
        self._kept = [
            entry
            for entry in self._kept
            if entry.tokens != text and not (cuttable and text.startswith(entry.tokens))
        ]
        self._kept.append(KeptText(tokens=text, caches=caches, kind=kind, size_bytes=size))
        while self.size_bytes > self._limit_bytes or len(self._kept) > MOST_ENTRIES:
            self._kept.remove(self._first_to_go(but=self._kept[-1]))

    def shrink(self, keep_bytes: int, *, stays: bool = False) -> None:
        """Drop entries until at most `keep_bytes` are kept; the limit from now on if it `stays`."""
        if stays:
            self._limit_bytes = min(self._limit_bytes, keep_bytes)
        while self.size_bytes > keep_bytes:
            self._kept.remove(self._first_to_go())

    def _first_to_go(self, but: KeptText | None = None) -> KeptText:
        """The entry to drop next.

        The oldest of the first kind that has as many entries as the next kind, so that system
        prompts stay longest, and old ones go at last.
        """
        of_kind = {
            kind: [entry for entry in self._kept if entry.kind == kind and entry is not but]
            for kind in ORDER
        }
        for kind, following in pairwise(ORDER):
            if of_kind[kind] and len(of_kind[kind]) >= len(of_kind[following]):
                return of_kind[kind][0]
        return next(of_kind[kind][0] for kind in reversed(ORDER) if of_kind[kind])

    def clear(self) -> None:
        """Drop everything."""
        self._kept.clear()


def _count(text: bytes) -> int:
    return len(text) // array("I").itemsize
