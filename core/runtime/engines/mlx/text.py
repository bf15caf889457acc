"""Text of tokens, by mlx-lm's tokenizers."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from modeldeck.core.runtime.text.text_streams import bytes_of


def token_bytes(tokenizer: Any, token: int) -> bytes:
    """The bytes of one token: a tokenizer's own text shows a part of a character as U+FFFD."""
    words: Any = importlib.import_module("mlx_lm.tokenizer_utils")
    if isinstance(tokenizer.detokenizer, words.BPEStreamingDetokenizer):
        return bytes_of(tokenizer.convert_ids_to_tokens(token))
    return str(tokenizer.decode([token])).encode()


class Detokenizer:
    """mlx-lm's detokenizer, which leaves out tokens without text."""

    def __init__(self, detokenizer: Any, silent: frozenset[int], before: Sequence[int]) -> None:
        """Begin an answer.

        Args:
            detokenizer: mlx-lm's, new.
            silent: Tokens without text.
            before: Tokens of the text that the answer continues; empty for an answer that is its
                own text, whose first space is dropped.
        """
        self._detokenizer = detokenizer
        self._silent = silent
        for token in before[-1:]:
            # Otherwise it takes the answer for a new text, and drops its first space.
            detokenizer.add_token(token)
            _ = detokenizer.last_segment

    def add(self, token: int) -> bytes:
        """Take a token and return the text that it completes, as UTF-8."""
        if token not in self._silent:
            self._detokenizer.add_token(token)
        return self._segment()

    def finish(self) -> bytes:
        """Return the text that was held back."""
        self._detokenizer.finalize()
        return self._segment()

    def _segment(self) -> bytes:
        return str(self._detokenizer.last_segment).encode("utf-8", "replace")
