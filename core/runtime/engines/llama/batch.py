"""One evaluation by llama.cpp: rows of tokens of several sequences, in arrays that are reused."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from modeldeck.core.runtime.engines.base import Flag

Tokens = npt.NDArray[np.int32]
Logits = npt.NDArray[np.float32]

DONE, NO_ROOM, ABORTED = 0, 1, 2
"""What `llama_decode` returns (llama.h): evaluated, no cells are free, the abort callback said so.
Other values are errors."""


class TokenBatch:
    """A `llama_batch`: rows are added, evaluated together, and then replaced by others."""

    def __init__(self, c: Any, context: Any, sequences: int, vocabulary: int) -> None:
        """Make room for the rows of a batch.

        Args:
            c: llama.h, as llama-cpp-python binds it.
            context: `llama_context *`.
            sequences: Sequences of the context.
            vocabulary: Tokens of the vocabulary.
        """
        self._c = c
        self._context = context
        self._vocabulary = vocabulary
        self.size: int = c.llama_n_batch(context)
        """The most rows."""
        size = self.size
        self._token, self._pos = np.zeros(size, np.int32), np.zeros(size, np.int32)
        self._output = np.zeros(size, np.int8)
        self._sequence = np.zeros(size, np.uint64)
        """Addresses of sequence ids."""
        self._counts = np.ones(size, np.int32)
        self._ids = np.arange(sequences, dtype=np.int32)
        self._addresses = self._ids.ctypes.data + 4 * np.arange(sequences, dtype=np.uint64)
        columns = {
            "token": self._token,
            "pos": self._pos,
            "n_seq_id": self._counts,
            "seq_id": self._sequence,
            "logits": self._output,
        }
        kinds = dict(c.llama_batch._fields_)
        pointers = {name: array.ctypes.data_as(kinds[name]) for name, array in columns.items()}
        self._batch = c.llama_batch(n_tokens=0, **pointers)
        self._rows = 0
        self.outputs = 0
        """Rows with logits."""

    def clear(self) -> None:
        """Remove all rows."""
        self._rows = self.outputs = 0

    def add(self, sequence: int, tokens: Tokens, position: int, outputs: int) -> int:
        """Add tokens of a sequence that begin at a position; the last `outputs` have logits.

        Returns the place of the first row with logits; the others follow it.
        """
        start = self._rows
        end = start + len(tokens)
        self._token[start:end] = tokens
        if end - start == 1:
            self._pos[start] = position
        else:
            self._pos[start:end] = np.arange(position, position + end - start, dtype=np.int32)
        self._sequence[start:end] = self._addresses[sequence]
        self._output[start : end - outputs] = 0
        self._output[end - outputs : end] = 1
        self._rows = end
        self.outputs += outputs
        return end - outputs

    def evaluate(self) -> int:
        """Evaluate the rows; returns what `llama_decode` does."""
        self._batch.n_tokens = self._rows
        return int(self._c.llama_decode(self._context, self._batch))

    def logits(self) -> Logits:
        """Logits of the rows that have them, in order; valid until the next evaluation."""
        count = self.outputs * self._vocabulary
        address = ctypes.cast(self._c.llama_get_logits(self._context), ctypes.c_void_p).value
        floats: Any = (ctypes.c_float * count).from_address(address or 0)
        rows: Logits = np.frombuffer(floats, np.float32).reshape(self.outputs, self._vocabulary)
        return rows


def set_abort_callback(c: Any, context: Any, flag: Flag) -> object:
    """Have the flag stop an evaluation on a CPU; on a GPU it is checked between batches.

    Returns what must live as long as the context: llama.cpp has a pointer to it.
    """
    strlen = ctypes.cast(ctypes.CDLL(None).strlen, c.ggml_abort_callback)
    c.llama_set_abort_callback(context, strlen, flag.address)
    return strlen


def common_length(a: Tokens, b: Tokens) -> int:
    """How many tokens two texts have in common at their beginning.

    >>> common_length(np.array([1, 2, 3], np.int32), np.array([1, 2, 4, 5], np.int32))
    2
    """
    count = min(len(a), len(b))
    differ = np.flatnonzero(a[:count] != b[:count])
    return int(differ[0]) if differ.size else count
