"""The tokens in a llama.cpp context: extended, cut, and reused for the next request."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence as Tokens
from typing import Any

from modeldeck.core.errors import Cancelled
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.llama.log import EngineLog, failure

ABORTED = 2
"""What `llama_decode` returns when the abort callback said so (llama.h)."""


class CachedSequence:
    """The tokens whose keys and values a context holds, in order."""

    def __init__(self, c: Any, model: Any, context: Any, *, flag: Flag, log: EngineLog) -> None:
        """Manage the tokens of a context.

        Args:
            c: llama.h, as llama-cpp-python binds it.
            model: `llama_model *`.
            context: `llama_context *`.
            flag: Cancels an evaluation.
            log: The log of llama.cpp.
        """
        self._c = c
        self._context = context
        self._memory = c.llama_get_memory(context)
        self._window = c.llama_model_n_swa(model)
        self._flag = flag
        self._log = log
        self.tokens: list[int] = []
        # The flag stops an evaluation on a CPU; on a GPU it is checked between batches.
        strlen = ctypes.cast(ctypes.CDLL(None).strlen, c.ggml_abort_callback)
        c.llama_set_abort_callback(context, strlen, flag.address)
        self._strlen = strlen  # llama.cpp has a pointer to it

    def read(self, tokens: Tokens[int], known: int = 0) -> None:
        """Bring exactly these tokens into the context, with the logits of the last one.

        A common beginning with the tokens in the context is reused; the first `known` tokens are
        not compared. Raises Cancelled.
        """
        held, common = self.tokens, min(known, len(self.tokens))
        # The last token is always evaluated: sampling needs its logits.
        most = min(len(held), len(tokens) - 1)
        while common < most and held[common] == tokens[common]:
            common += 1
        if not self._cut(min(common, len(tokens) - 1)):
            self.clear()
        size = self._c.llama_n_batch(self._context)
        for start in range(len(self.tokens), len(tokens), size):
            self.add(tokens[start : start + size])

    def cut(self, length: int) -> None:
        """Shorten the context to `length` tokens; the logits of the last are not available.

        Raises Cancelled.
        """
        if not self._cut(length):
            tokens = self.tokens[:length]
            self.clear()
            self.read(tokens)

    def _cut(self, length: int) -> bool:
        """As `cut`; returns False, and changes nothing, where the context cannot be shortened.

        Recurrent layers cannot, and a sliding window only within its cells.
        """
        if length >= len(self.tokens):
            return True
        if self._window:
            first = self._c.llama_memory_seq_pos_min(self._memory, 0)
            if first > max(0, length - self._window):
                return False
        if not self._c.llama_memory_seq_rm(self._memory, 0, length, -1):
            return False
        del self.tokens[length:]
        return True

    def clear(self) -> None:
        """Remove all tokens."""
        self.tokens.clear()
        self._c.llama_memory_clear(self._memory, True)

    def add(self, tokens: Tokens[int], *, every: bool = False) -> None:
        """Evaluate further tokens, for the logits of the last one or of every one.

        Raises Cancelled when the flag is set, and EngineFailed.
        """
        result = ABORTED
        if not self._flag:
            array = (self._c.llama_token * len(tokens))(*tokens)
            batch = self._c.llama_batch_get_one(array, len(tokens))
            if every:
                outputs = (ctypes.c_int8 * len(tokens))(*[1] * len(tokens))
                batch.logits = outputs
            result = self._c.llama_decode(self._context, batch)
            if result == 0:
                self.tokens += tokens
                return
        # Part of the batch may be in the context: clear it, so that the next answer is right.
        self.clear()
        if self._flag:
            raise Cancelled("The request was cancelled.")
        raise failure(f"llama.cpp could not evaluate the text ({result})", self._log)
