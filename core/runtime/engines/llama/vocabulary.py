"""The vocabulary of a GGUF in llguidance's form."""

from __future__ import annotations

import ctypes
from typing import Any

from modeldeck.core.runtime.grammar.matcher import SLICES

PIECE_BYTES = 1 << 16
"""Bytes of the longest token."""
SPECIAL = b"\xff"
"""Begins tokens that stand for no text (`TokTrie::SPECIAL_TOKEN_MARKER` of toktrie)."""


def make_vocabulary(c: Any, vocab: Any, guide: Any) -> Any:
    """Return llguidance's `LLTokenizer` of a vocabulary: 0.6 s for 150,000 tokens, and 55 MiB.

    A token counts as text in a grammar where it has text in an answer. All tokens that end an
    answer are its ends.

    Args:
        c: llama.h, as llama-cpp-python binds it.
        vocab: `llama_vocab *`, which must stay as long as the vocabulary is used.
        guide: The module `llguidance`.
    """
    size = c.llama_vocab_n_tokens(vocab)
    room = ctypes.create_string_buffer(PIECE_BYTES)
    tokens: list[bytes] = []
    ends: list[int] = []
    for token in range(size):
        length = max(0, c.llama_token_to_piece(vocab, token, room, PIECE_BYTES, 0, False))
        name = b"" if length else c.llama_vocab_get_text(vocab, token) or b""
        tokens.append(ctypes.string_at(room, length) if length else SPECIAL + name)
        if c.llama_vocab_is_eog(vocab, token):
            ends.append(token)
    tokenize = ctypes.cast(c._lib.llama_tokenize, ctypes.c_void_p).value
    return guide.LLTokenizer.from_llamacpp(
        tokens=tokens,
        vocab_ptr=vocab,
        tokenize_fptr=tokenize,
        eos_token=ends or [c.llama_vocab_eos(vocab)],
        slices=SLICES,
    )
