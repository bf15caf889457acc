"""How the demo's model that sees counts the coloured squares of a picture, and names their colour.

Hand-made weights, as those of `modeldeck.core.demo.weights`. A picture becomes a few tokens, one
for each cell of a grid (`modeldeck.core.demo.projector`), and each of them is one of four
directions: red, green, blue, or nothing of these.

- A second head of block 0 looks from the tokens of the answer at all cells of all pictures equally,
  and at the token itself: of its attention, each colour gets a share for each cell of that colour,
  and the token itself a share for one.
- So with n cells of a colour and one own share, both times the same unknown factor, the digit k
  gets a logit of `k n - k * k / 2`, which is largest for k = n. No number of pictures, cells or
  words changes that.
- The digit looks again and picks the colour that has most; the colour looks for one or more.

A token finds itself by its position: six of RoPE's fast pairs are all in step only at a distance of
0. Pictures are found by the slowest pairs, which with `ROPE_BASE` do not notice the distance.

Needs numpy. Everything is a function of the arguments: the same bytes on every run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from modeldeck.core.demo.vocabulary import COLOURS, END, MOST_SQUARES, SQUARE, SQUARES, Vocabulary

Array = npt.NDArray[Any]

ROPE_BASE = 1e8
"""The slowest pair turns by less than a thousandth of a radian in 4096 tokens."""
KINDS = (*COLOURS, "nothing")
"""What a cell of a picture may be, in the order of its dimensions."""
DIMENSIONS = 2 * len(KINDS) + 1
"""Dimensions of the hidden state besides those of words and topics."""

_ITSELF, _PICTURE, _CONSTANT = range(6), 29, 30
"""Pairs of RoPE: those that tell a token from its neighbours, and two slow ones."""
_LOOK = 16.0
"""Score of a cell, and of the token itself; all else has about none."""
_STEEP = 120.0
"""How the score falls with the distance from itself: by 14 at the first token, and always more."""
_FIRST_VALUE = 16
"""First dimension of the head's values that is free: topics have those before."""

_LOW, _SEEN, _CLEAR = -30.0, 300.0, 2000.0
"""Logits: never, of digits where there is a picture, and the weight of what was counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """The weights that make a model see, in the layout of `modeldeck.core.demo.weights`."""

    vocabulary: Vocabulary
    dimension: Callable[[int], int]
    """The hidden dimension of a token."""
    asked: int
    """The dimension of the token after which an answer begins."""
    words: int
    """How many dimensions words have; all of them come first."""
    start: int
    """The first dimension of its own."""

    def cell(self, kind: str) -> int:
        """The dimension of a cell of a picture."""
        return self.start + KINDS.index(kind)

    def share(self, kind: str) -> int:
        """The dimension of the share of attention that cells of a kind get."""
        return self.start + len(KINDS) + KINDS.index(kind)

    @property
    def own_share(self) -> int:
        """The dimension of the share of attention that the token itself gets."""
        return self.start + 2 * len(KINDS)

    def look(self, query: Array, key: Array, value: Array, result: Array, head_size: int) -> None:
        """Add the head. The arguments are block 0's matrices of attention, whose keys are shared.

        Inputs are sqrt(hidden) times a one-hot vector; scores are divided by sqrt(head size).
        """
        root, half = math.sqrt(query.shape[1]), head_size // 2
        second = head_size  # the rows of head 1
        match = math.sqrt(_LOOK * math.sqrt(head_size)) / root
        itself = math.sqrt(_STEEP / len(_ITSELF) * math.sqrt(head_size)) / root
        constant = math.sqrt((_STEEP - _LOOK) * math.sqrt(head_size)) / root
        for pair in _ITSELF:
            query[second + pair, : self.words] = key[pair, : self.words] = itself
        query[second + _CONSTANT, : self.words] = -constant
        key[_CONSTANT, : self.words] = constant
        for number, kind in enumerate(KINDS):
            key[_PICTURE, self.cell(kind)] = match
            value[_FIRST_VALUE + number, self.cell(kind)] = 1 / root
            result[self.share(kind), second + _FIRST_VALUE + number] = 1
        own = _FIRST_VALUE + len(KINDS)
        result[self.own_share, second + own] = 1
        for token in (self.asked, *self._digits(), *map(self._word, COLOURS)):
            query[second + _PICTURE, token] = match
            value[own, token] = 1 / root
        assert half > _CONSTANT

    def answer(self, logit: Array) -> None:
        """Add what follows from what was seen; rows are the next token, columns what is there."""
        shares = [self.share(colour) for colour in COLOURS]
        default_row = logit[:, self.asked].argmax()
        for count, digit in enumerate(self._digits()):
            row = self._row(str(count))
            logit[row, self.asked] = _LOW
            logit[row, shares] = _SEEN + _CLEAR * count
            logit[row, self.share("nothing")] = _SEEN
            logit[row, self.own_share] = -_CLEAR * count * count / 2
            logit[default_row, digit] = _LOW
        for colour in COLOURS:
            logit[default_row, self._word(colour)] = _LOW
        self._continue(logit, default_row)

    def _continue(self, logit: Array, default_row: Any) -> None:
        """Digit, colour, squares, end: each is chosen only after the one before."""
        never = 4 * _CLEAR * MOST_SQUARES**2
        one, more = self._row(SQUARE), self._row(SQUARES)
        digits, end = self._digits(), self.vocabulary.index[END]
        rows = [self._row(str(count)) for count in range(MOST_SQUARES + 1)]
        after = [*digits, *map(self._word, COLOURS), self._word(SQUARE), self._word(SQUARES)]
        for row in rows:
            logit[row, after] = -never
        for colour in COLOURS:
            row = self._row(colour)
            logit[row, : self.words] = -never
            logit[row, digits[1:]] = 0
            logit[row, self.share(colour)] = _CLEAR
        for row in (one, more):
            logit[row, : self.words] = -never
            logit[row, [self._word(colour) for colour in COLOURS]] = 0
        logit[more, digits[0]] = 0
        logit[more, [self.share(colour) for colour in COLOURS]] = _CLEAR
        logit[one, self.own_share] = 1.5 * _CLEAR
        logit[one, digits[0]] = -never
        for word in (SQUARE, SQUARES):
            logit[default_row, self._word(word)] = _LOW
            logit[end, self._word(word)] = 0

    def _row(self, word: str) -> int:
        return self.vocabulary.ids(word if word.isdigit() else f" {word}")[0]

    def _word(self, word: str) -> int:
        return self.dimension(self._row(word))

    def _digits(self) -> list[int]:
        return [self._word(str(count)) for count in range(MOST_SQUARES + 1)]
