"""How many tokens of which requests a turn evaluates. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from modeldeck.core.runtime.engines.llama.answer import SlotAnswer
from modeldeck.core.runtime.engines.llama.slots import Slot

LEAST_ROWS = 64
"""Tokens of prompts that a turn has room for at least, however slow the model reads: fewer at once
would cost much more time each."""

ROW_STEP = 32
"""A batch with a multiple of so many rows takes up to 5 % less time a row on a CPU (measured with
269 to 512 rows of a prompt; ggml splits products into tiles)."""


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


def rows_of_text(wanted: int, left: int, room: int, rows: int) -> int:
    """How many tokens of a prompt a turn takes: all up to its end, or as many as there is room for.

    Where the turn is half full and the prompt does not fit, it takes no more than make the rows a
    multiple of `ROW_STEP`: the answers whose prompts end in this turn begin sooner, and the prompt
    comes first in a next turn.

    Args:
        wanted: Tokens of the prompt up to its end, or to its next mark.
        left: Rows that the turn still has for prompts.
        room: Rows that it had for them in all.
        rows: Rows that it has by now, those of answers included.

    >>> rows_of_text(270, 242, 512, 270), rows_of_text(270, 412, 512, 100)
    (18, 270)
    """
    if wanted > left and 2 * left <= room:
        return min(left, -rows % ROW_STEP)
    return min(wanted, left)
