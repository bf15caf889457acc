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
FEW = 4
"""Fewer rows than this are written one by one."""
ROW_STEP = 32
"""A batch whose rows are a multiple of it takes up to 5 % less time a row on a CPU (measured with
269 to 512 rows of a prompt; ggml splits products into tiles)."""


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
        # The same memory twice: writing one item is faster through ctypes, many through numpy.
        self._columns = (
            (ctypes.c_int32 * size)(),
            (ctypes.c_int32 * size)(),
            (ctypes.c_uint64 * size)(),
            (ctypes.c_int8 * size)(),
        )
        token, position, sequence, output = self._columns
        self._tokens = np.frombuffer(token, np.int32)
        self._positions = np.frombuffer(position, np.int32)
        self._sequences = np.frombuffer(sequence, np.uint64)
        self._outputs = np.frombuffer(output, np.int8)
        self._counts = (ctypes.c_int32 * size)(*[1] * size)
        self._ids = (ctypes.c_int32 * sequences)(*range(sequences))
        self._addresses = [ctypes.addressof(self._ids) + 4 * i for i in range(sequences)]
        columns = {
            "token": token,
            "pos": position,
            "n_seq_id": self._counts,
            "seq_id": sequence,
            "logits": output,
        }
        kinds = dict(c.llama_batch._fields_)
        pointers = {name: ctypes.cast(array, kinds[name]) for name, array in columns.items()}
        self._batch = c.llama_batch(n_tokens=0, **pointers)
        self._rows = 0
        self.outputs = 0
        """Rows with logits."""
        self._seen: tuple[tuple[int, int], Logits] | None = None
        """The last view of the logits, with their address and number."""

    def clear(self) -> None:
        """Remove all rows."""
        self._rows = self.outputs = 0

    def add(self, sequence: int, tokens: Tokens, position: int, outputs: int) -> int:
        """Add tokens of a sequence that begin at a position; the last `outputs` have logits.

        Returns the place of the first row with logits; the others follow it.
        """
        start = self._rows
        end = start + len(tokens)
        for i in range(start, end) if end - start < FEW else ():
            self._put(i, int(tokens[i - start]), position + i - start, sequence)
        if end - start >= FEW:
            self._tokens[start:end] = tokens
            self._positions[start:end] = np.arange(position, position + end - start)
            self._sequences[start:end] = self._addresses[sequence]
            self._outputs[start:end] = 0
        for i in range(end - outputs, end):
            self._columns[3][i] = 1
        self._rows = end
        self.outputs += outputs
        return end - outputs

    def _put(self, row: int, token: int, position: int, sequence: int) -> None:
        tokens, positions, sequences, outputs = self._columns
        tokens[row], positions[row] = token, position
        sequences[row], outputs[row] = self._addresses[sequence], 0

    def evaluate(self, *, encode: bool = False) -> int:
        """Evaluate the rows; returns what `llama_decode`, or `llama_encode`, does.

        The last row has logits also where none is asked for, in the middle of a prompt: Chameleon
        aborts without any, and llama.cpp keeps a further graph for batches without.
        """
        if not self.outputs:
            self._outputs[self._rows - 1] = 1
        self._batch.n_tokens = self._rows
        run = self._c.llama_encode if encode else self._c.llama_decode
        return int(run(self._context, self._batch))

    def wait(self) -> None:
        """Wait until the rows are evaluated: a GPU goes on after `evaluate` has returned."""
        self._c.llama_synchronize(self._context)

    def logits(self) -> Logits:
        """Logits of the rows that have them, in order; valid until the next evaluation."""
        address = ctypes.addressof(self._c.llama_get_logits(self._context).contents)
        if self._seen is None or self._seen[0] != (address, self.outputs):
            floats: Any = (ctypes.c_float * (self.outputs * self._vocabulary)).from_address(address)
            rows: Logits = np.frombuffer(floats, np.float32)
            self._seen = (address, self.outputs), rows.reshape(self.outputs, self._vocabulary)
        return self._seen[1]


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
