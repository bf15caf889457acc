"""Finds answers that repeat themselves without end. Pure.

A small or badly quantized model may fall into a loop, and would go on until the context is full.
Text that is asked for repeats too, in tables or lists, but hardly token for token for so long.
"""

from __future__ import annotations

from collections.abc import Sequence

WINDOW = 1024
"""Tokens that must consist of one run, again and again."""
LONGEST_RUN = 128
"""Tokens of the longest run that is looked for: it came eight times then."""
EVERY = 64
"""Tokens between two looks."""


def repeated_run(tokens: Sequence[int]) -> int:
    """Length of the run that the last `WINDOW` tokens repeat; 0 where they repeat none.

    >>> repeated_run([7, 8, 9] * 400), repeated_run([1] * 2000), repeated_run(range(2000))
    (3, 1, 0)
    """
    if len(tokens) < WINDOW:
        return 0
    window = list(tokens[-WINDOW:])
    last = window[-1]
    for length in range(1, LONGEST_RUN + 1):
        if window[-1 - length] == last and window[length:] == window[:-length]:
            return length
    return 0


def is_due(count: int) -> bool:
    """Whether an answer of `count` tokens is checked: every `EVERY` tokens, as it takes time."""
    return count >= WINDOW and count % EVERY == 0
