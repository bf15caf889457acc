"""How many tokens of which requests a turn evaluates. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from modeldeck.core.runtime.engines.llama.answer import SlotAnswer
from modeldeck.core.runtime.engines.llama.slots import Slot

LEAST_ROWS = 64
"""Tokens of prompts that a turn has room for at least, however slow the model reads: fewer at once
would cost much more time each."""

WORTH_S = 0.02
"""Seconds that an answer must begin sooner for a turn to be left half full: a fast processor or a
GPU needs full turns more."""


class TurnRows(NamedTuple):
    """What a slot has in a turn: tokens of its text, and guesses of the draft model after them."""

    slot: Slot
    answer: SlotAnswer
    size: int = 1
    """Tokens of the text."""
    guesses: Sequence[int] = ()
    reading: bool = False
    """Whether it reads its prompt."""


def prompt_rows(
    batch: int, writing: int, *, shared: bool, turn_s: float, row_s: float | None
) -> int:
    """Tokens of prompts that a turn has room for.

    Args:
        batch: Rows of a batch.
        writing: Rows of answers that are being written.
        shared: Whether more than one request is in work: then none may wait too long for a turn.
        turn_s: Seconds that a turn should take at most.
        row_s: Seconds that a row takes, as far as known.

    >>> prompt_rows(512, 3, shared=True, turn_s=0.5, row_s=0.002)
    250
    >>> prompt_rows(512, 0, shared=False, turn_s=0.5, row_s=0.002)
    512
    """
    room = batch - writing
    if shared:
        room = min(room, max(LEAST_ROWS, int(turn_s / row_s) if row_s else 0))
    return room


def chunk_length(held: int, length: int, marks: Sequence[int], room: int) -> int:
    """How many tokens of a text are read in a turn: they end at marks, which get a checkpoint.

    `length` is where the text ends, or an image begins.

    >>> chunk_length(10, 500, [200, 300], 512), chunk_length(200, 500, [200, 300], 50)
    (190, 50)
    """
    stop = next((mark for mark in marks if mark > held), length)
    return min(room, min(stop, length) - held)


def is_half_full(left: int, room: int, *, row_s: float | None) -> bool:
    """Whether a turn, in which a prompt ends, is better evaluated than filled with the next one.

    The answer whose prompt ends begins sooner then. That is worth it where what is left of the turn
    would take longer than `WORTH_S`; a turn has at least `LEAST_ROWS`.

    Args:
        left: Rows that the turn still has for prompts.
        room: Rows that it had for them in all.
        row_s: Seconds that a row takes, as far as known.

    >>> is_half_full(242, 512, row_s=0.001), is_half_full(242, 512, row_s=0.00002)
    (True, False)
    """
    taken = room - left
    return taken >= max(left, LEAST_ROWS) and row_s is not None and left * row_s >= WORTH_S


def rows_to_step(rows: int, left: int, *, step: int) -> int:
    """Rows that make those of a batch a multiple of `step`, as far as there is room.

    >>> rows_to_step(270, 242, step=32), rows_to_step(510, 1, step=32), rows_to_step(64, 9, step=32)
    (18, 1, 0)
    """
    return min(left, -rows % step)
