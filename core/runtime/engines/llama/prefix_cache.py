"""States of conversations that no sequence of the context holds, in memory, within a limit.

A state is what llama.cpp computed for the tokens of a text. With it, a request that begins with the
same tokens reads only the rest. A model with recurrent layers or a sliding window cannot go back
within a state; its checkpoints are copies of what cannot be cut, made at places where a later
request is likely to differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from modeldeck.core.runtime.engines.heap import trim_heap
from modeldeck.core.runtime.engines.llama.batch import Tokens, common_length
from modeldeck.core.runtime.engines.llama.media_tokens import boundary, has_media

WORTH = 32
"""Tokens that a common beginning must save before it is copied, waited for, or kept."""
WRITING_PART = 4
"""One in as many bytes of the limit is for states that wait to be written to files."""
TRIM_BYTES = 4 << 20
"""After this many bytes were dropped, free pages of the heap are returned to the system."""

K = TypeVar("K")

State = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The part of a text's state that cannot be cut, as it was after `length` tokens."""

    length: int
    state: State


@dataclass(frozen=True, slots=True, eq=False)
class StoredPrefix:
    """The tokens of a text and their state."""

    tokens: Tokens
    state: State
    checkpoints: tuple[Checkpoint, ...] = ()

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths that have a checkpoint."""
        return tuple(checkpoint.length for checkpoint in self.checkpoints)

    @property
    def bytes(self) -> int:
        """Bytes of tokens and state, without those of the checkpoints, which others share."""
        return self.tokens.nbytes + self.state.nbytes

    @property
    def total_bytes(self) -> int:
        """Bytes of all of it."""
        return self.bytes + sum(found.state.nbytes for found in self.checkpoints)


def usable_length(
    held: Tokens, prompt: Tokens, checkpoints: Iterable[int], rewinds: Callable[[int], bool]
) -> int:
    """How many tokens of a prompt can be had of a text that is held.

    The last token of the prompt is always evaluated: sampling needs its logits. No image is cut.

    Args:
        held: The text.
        prompt: The prompt.
        checkpoints: Lengths of the text that have a checkpoint.
        rewinds: Whether the text can be cut to a length without one.
    """
    length = boundary(prompt, min(common_length(held, prompt), len(prompt) - 1))
    if length == len(held) or rewinds(length):
        return length
    return max((found for found in checkpoints if found <= length), default=0)


def checkpoint_places(prompt: Tokens, held: int, texts: Iterable[Tokens], tail: int) -> list[int]:
    """Where reading a prompt stops for checkpoints.

    That is shortly before its end, since the next turn of a conversation often writes the end
    differently, and where another text parts from it, since the next will as well: system prompts
    end there.

    Args:
        prompt: The prompt.
        held: Its tokens that need not be read.
        texts: Other texts that are known.
        tail: Tokens before the end.
    """
    places = {common_length(text, prompt) for text in texts} | {
        boundary(prompt, max(0, len(prompt) - tail))
    }
    return sorted(n for n in places if max(WORTH, held + 1) <= n < len(prompt))


class TokensWithCheckpoints(Protocol):
    """A text whose state is held somewhere."""

    @property
    def tokens(self) -> Tokens:
        """Its tokens."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths that have a checkpoint."""


def best_prefix(
    texts: Iterable[tuple[K, TokensWithCheckpoints]], prompt: Tokens, *, rewinds: bool
) -> tuple[K | None, int]:
    """The text with the longest beginning of a prompt, and how many tokens that has."""
    best: K | None = None
    most = 0
    for key, text in texts:
        length = usable_length(text.tokens, prompt, text.lengths, lambda _: rewinds)
        if length > most:
            best, most = key, length
    return best, most


class PrefixStore(Protocol):
    """Keeps on disk the states that are dropped from memory."""

    def find(self, prompt: Tokens, *, rewinds: bool) -> tuple[Path | None, int]:
        """The state with the longest beginning of a prompt, and how many tokens that has."""

    def size(self, path: Path) -> int:
        """Bytes of a state."""

    def load(self, path: Path) -> StoredPrefix | None:
        """Read a state; None where it cannot be read any more."""

    def save(self, entry: StoredPrefix) -> None:
        """Keep a state."""


class WritingStore(Protocol):
    """Keeps on disk the states that are dropped from memory; some are not written yet."""

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the states that are not written yet."""

    def find(self, prompt: Tokens, *, rewinds: bool) -> tuple[Path | None, int]:
        """As of `PrefixStore`."""

    def size(self, path: Path) -> int:
        """As of `PrefixStore`."""

    def load(self, path: Path) -> StoredPrefix | None:
        """As of `PrefixStore`."""

    def save(self, entry: StoredPrefix, *, most_bytes: int) -> None:
        """Keep a state; at most `most_bytes` of them wait to be written."""

    def flush(self) -> None:
        """Wait until all states are written."""


class PrefixCache:
    """Stored states, the one used longest ago first."""

    def __init__(
        self, limit_bytes: int, *, rewinds: bool, in_use: Callable[[], Sequence[list[Checkpoint]]]
    ) -> None:
        """Make an empty cache.

        Args:
            limit_bytes: Most bytes of states and checkpoints together.
            rewinds: Whether the model can go back to any place of a state.
            in_use: Lists of checkpoints of the context's sequences, which count as well; the
                sequence that was used longest ago first.
        """
        self.limit_bytes = limit_bytes
        self._rewinds = rewinds
        self._in_use = in_use
        self._entries: list[StoredPrefix] = []
        self._dropped_bytes = 0
        self.files: WritingStore | None = None
        """Where states go that are dropped; None for nowhere."""

    @property
    def bytes(self) -> int:
        """Bytes held, with checkpoints of sequences, and states that are not written yet."""
        return self._held + (self.files.waiting_bytes if self.files is not None else 0)

    @property
    def _writing_bytes(self) -> int:
        """The part of the limit that is for states that are not written yet."""
        return self.limit_bytes // WRITING_PART if self.files is not None else 0

    @property
    def _most(self) -> int:
        """Most bytes of what is not being written."""
        return self.limit_bytes - self._writing_bytes

    @property
    def _held(self) -> int:
        """Bytes of the states that are stored, and the checkpoints of sequences."""
        stored = (checkpoint for entry in self._entries for checkpoint in entry.checkpoints)
        used = (checkpoint for checkpoints in self._in_use() for checkpoint in checkpoints)
        distinct = {id(checkpoint): checkpoint for checkpoint in (*stored, *used)}
        return sum(entry.bytes for entry in self._entries) + sum(
            checkpoint.state.nbytes for checkpoint in distinct.values()
        )

    @property
    def texts(self) -> list[Tokens]:
        """The texts whose states are held."""
        return [entry.tokens for entry in self._entries]

    def has_free(self, size: int) -> bool:
        """Whether `size` bytes fit beside what is held."""
        return self._held + size <= self._most

    def make_room(self, size: int) -> bool:
        """Drop what was used longest ago until `size` bytes fit; return whether they do.

        Nothing is dropped for what is larger than the limit.
        """
        if size > self._most:
            return False
        if not self._drop_to(self._most - size):
            return False
        if self._dropped_bytes >= TRIM_BYTES:
            self._dropped_bytes = 0
            trim_heap()
        return True

    def shrink(self, keep_bytes: int, *, stays: bool = False) -> None:
        """Drop what was used longest ago until at most `keep_bytes` are held; free their pages.

        Where it `stays` so, that is the limit from now on.
        """
        if stays:
            self.limit_bytes = min(self.limit_bytes, keep_bytes)
        self._drop_to(keep_bytes)
        if self._dropped_bytes:
            self._dropped_bytes = 0
            trim_heap()

    def _drop_to(self, most: int) -> bool:
        """Drop what was used longest ago until at most `most` bytes are held; tell if they are."""
        while self._held > most:
            if self._entries:
                self._drop(self._entries.pop(0))
                continue
            oldest = next((found for found in self._in_use() if found), None)
            if oldest is None:
                return False
            self._dropped_bytes += oldest.pop(0).state.nbytes
        return True

    def _drop(self, entry: StoredPrefix) -> None:
        self._dropped_bytes += entry.bytes
        self.write(entry)

    def write(self, entry: StoredPrefix) -> None:
        """Save a state to the files, where there are any.

        Not one with images: their numbers in the text mean something in this process only.
        """
        if self.files is not None and not has_media(entry.tokens):
            self.files.save(entry, most_bytes=self._writing_bytes)

    def save_all(self) -> None:
        """Save all states to the files."""
        for entry in self._entries if self.files is not None else ():
            self._drop(entry)

    def holds(self, tokens: Tokens) -> bool:
        """Whether a text, or one that goes on from it, is stored; it counts as used now."""
        for entry in self._entries:
            if common_length(entry.tokens, tokens) == len(tokens):
                self._use(entry)
                return True
        return False

    def add(self, entry: StoredPrefix) -> None:
        """Store a state, for which there must be room, instead of those of its beginnings."""
        tokens = entry.tokens
        self._entries = [
            other
            for other in self._entries
            if common_length(other.tokens, tokens) < len(other.tokens)
        ]
        self._entries.append(entry)

    def find(self, prompt: Tokens) -> tuple[StoredPrefix | None, int]:
        """The state with the longest beginning of a prompt, and how many tokens that has.

        One that only the files have is read from there.
        """
        own = zip(self._entries, self._entries, strict=True)
        best, most = best_prefix(own, prompt, rewinds=self._rewinds)
        if self.files is None:
            return best, most
        path, length = self.files.find(prompt, rewinds=self._rewinds)
        if path is None or length < most + WORTH or not self.make_room(self.files.size(path)):
            return best, most
        found = self.files.load(path)
        if found is None:
            return best, most
        self.add(found)
        return found, length

    def use(self, entry: StoredPrefix) -> None:
        """Note that a state was used."""
        if entry in self._entries:
            self._use(entry)

    def _use(self, entry: StoredPrefix) -> None:
        self._entries.remove(entry)
        self._entries.append(entry)

    def clear(self) -> None:
        """Drop all states."""
        self._entries.clear()
