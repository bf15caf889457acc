"""The text of tokens, by mlx-lm's tokenizers."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from modeldeck.core.runtime.engines.text import bytes_of


def token_bytes(tokenizer: Any, token: int) -> bytes:
    """The bytes of one token: a tokenizer's own text shows a part of a character as U+FFFD."""
    words: Any = importlib.import_module("mlx_lm.tokenizer_utils")
    if isinstance(tokenizer.detokenizer, words.BPEStreamingDetokenizer):
        return bytes_of(tokenizer.convert_ids_to_tokens(token))
    return str(tokenizer.decode([token])).encode()


class Detokenizer:
    """Text of tokens by mlx-lm's detokenizer, less the tokens that stand for no text."""

    def __init__(self, detokenizer: Any, silent: frozenset[int], before: Sequence[int]) -> None:
        """Begin an answer.

        Args:
            detokenizer: mlx-lm's, new.
            silent: Tokens that stand for no text.
            before: The text that the answer goes on; none where the answer has a beginning of its
                own, whose first space is dropped.
        """
        self._detokenizer = detokenizer
        self._silent = silent
        for token in before[-1:]:
            # Else it takes the answer for the beginning of a text, and drops its first space.
            detokenizer.add_token(token)
            _ = detokenizer.last_segment

    def add(self, token: int) -> bytes:
        """Take a token and give the text that is complete with it, as UTF-8."""
        if token not in self._silent:
            self._detokenizer.add_token(token)
        return self._segment()

    def finish(self) -> bytes:
        """Give what was held back."""
        self._detokenizer.finalize()
        return self._segment()

    def _segment(self) -> bytes:
        return str(self._detokenizer.last_segment).encode("utf-8", "replace")
