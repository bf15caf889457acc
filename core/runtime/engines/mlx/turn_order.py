"""Decides when an answer that waits may begin, and which one has to wait again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

HEADROOM = 32
"""Tokens that an answer must have room for when it begins, so that it does not wait again soon."""
LEAST_READ = 32
"""Tokens of a prompt that are read in a turn at least."""

READING = "the prompt of another request is being read"
CROWDED = "the other answers take all cells of the KV cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class InWork:
    """What is being written."""

    lengths: tuple[int, ...] = ()
    """Tokens of each answer in the batch, in the order in which they came."""
    held: int = 0
    """Tokens in caches that are held for answers out of the batch."""
    reading: bool = False
    """Whether a prompt is being read."""
    alone: str | None = None
    """Why an answer is written alone; None where none is."""
    crowded: bool = False
    """Whether an answer had to wait again, and none has ended since."""

    @property
    def cells(self) -> int:
        """Tokens that memory is taken for: a batch is as long as its longest text."""
        return len(self.lengths) * max(self.lengths, default=0) + self.held


def why_wait(length: int, alone: str | None, work: InWork, parallel: int, cells: int) -> str | None:
    """Why the first answer that waits cannot begin; None if it can.

    Args:
        length: Tokens of its text.
        alone: Why it has to be written alone; None if it need not.
        work: What is being written.
        parallel: Answers at once.
        cells: Tokens that all of them may hold.
    """
    if work.alone is not None:
        return work.alone
    if not work.lengths:
        return None
    if alone is not None:
        return alone
    if work.reading or len(work.lengths) >= parallel:
        return READING
    # After one had to wait again, none begins until one has ended: it would fill the cache at once.
    longest = max(length, *work.lengths) + HEADROOM
    if work.crowded or (len(work.lengths) + 1) * longest + work.held > cells:
        return CROWDED
    return None


def must_leave(work: InWork, cells: int) -> bool:
    """Whether the youngest answer of a batch has to wait, so that the others have room."""
    return len(work.lengths) > 1 and work.cells + len(work.lengths) > cells


def read_at_once(step: int, turn_s: float, token_s: float | None, writers: int) -> int:
    """Tokens of a prompt to read in one turn.

    Args:
        step: Most tokens.
        turn_s: Seconds that writers may wait for their next token.
        token_s: Seconds that a token took to read; None when not known.
        writers: Answers that wait meanwhile.

    >>> read_at_once(512, 0.5, 0.01, 3), read_at_once(512, 0.5, 0.01, 0)
    (50, 512)
    """
    if not writers or not token_s:
        return step
    return min(step, max(LEAST_READ, int(turn_s / token_s)))
