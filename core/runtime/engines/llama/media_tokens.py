"""Images and recordings among the tokens of a text, as numbers below zero. Pure.

A text is an array of tokens, and prompts are compared token by token. A piece of an image or of a
recording stands in it as a run of numbers that only this very piece has: so two texts have an image
in common where they have its numbers in common, and nothing else need know about images.

A piece takes as many cells of the KV cache as tokens, but not always as many positions: with M-RoPE
(Qwen-VL) an image of 8 by 6 tokens takes 8. The numbers tell which tokens take a position, so that
the position of each token is known from the text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modeldeck.core.runtime.engines.llama.batch import Tokens

_FIRST, _NEXT, _STILL = 0, 1, 2
"""Kinds of a token of a piece: its first one; one with a position of its own; one without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRun:
    """A piece of an image or of a recording in a text."""

    start: int
    """Its first token's place in the text."""
    tokens: int
    positions: int
    source: int
    """Which of the request's images and recordings it is of."""
    piece: int = 0
    """Which piece of that it is: some projectors cut an image into tiles."""

    @property
    def end(self) -> int:
        """The place of the first token after it."""
        return self.start + self.tokens


def run_of(number: int, tokens: int, positions: int) -> Tokens:
    """The tokens of a piece.

    >>> run_of(0, 4, 2).tolist()
    [-1, -2, -3, -3]

    Args:
        number: A number that no other piece has.
        tokens: Tokens of the piece.
        positions: Positions that it takes, at most as many.
    """
    kinds = np.full(tokens, _STILL, np.int32)
    kinds[:positions] = _NEXT
    kinds[0] = _FIRST
    return ~(np.int32(number << 2) | kinds)


def has_media(tokens: Tokens) -> bool:
    """Whether a text has an image or a recording in it."""
    return bool((tokens < 0).any())


def position(tokens: Tokens) -> int:
    """The position of the token that follows these, which end outside of any piece.

    >>> position(np.array([5, 6, *run_of(0, 4, 2), 7], np.int32))
    5
    """
    still = (tokens < 0) & (~tokens & 3 == _STILL)
    return len(tokens) - int(np.count_nonzero(still))


def boundary(tokens: Tokens, length: int) -> int:
    """The largest length, at most this one, at which a text may be cut: not inside of a piece.

    >>> text = np.array([5, 6, *run_of(0, 4, 2), 7], np.int32)
    >>> [boundary(text, length) for length in (1, 2, 3, 5, 6, 7)]
    [1, 2, 2, 2, 6, 7]
    """
    while 0 < length < len(tokens) and tokens[length] < 0 and ~tokens[length] & 3 != _FIRST:
        length -= 1
    return length


def shown(tokens: Sequence[int] | Tokens) -> list[int]:
    """The tokens as they are told to others: -1 for those of images, as llama.cpp has it."""
    return [max(int(token), -1) for token in tokens]


def text_tokens(tokens: Sequence[int] | Tokens) -> list[int]:
    """The tokens of the text alone."""
    return [int(token) for token in tokens if token >= 0]
