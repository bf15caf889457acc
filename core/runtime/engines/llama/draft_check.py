"""Whether a model can be a draft for another: the rules of llama.cpp's own programs."""

from __future__ import annotations

from typing import Any

from modeldeck.core.errors import EngineFailed

TOKENS = 8
"""Tokens guessed at a time by default."""
SIZE_DIFFERENCE = 128
"""Largest difference in size of two vocabularies: some are padded (as in llama.cpp)."""
FIRST_COMPARED = 5
"""Earlier tokens may differ in models that otherwise agree (as in llama.cpp)."""


def check_draft(c: Any, model: Any, draft: Any) -> None:
    """Raise EngineFailed where `draft` cannot be a draft model for `model`.

    The rules are those of llama.cpp's own programs (common/speculative.cpp).
    """
    if c.llama_model_is_recurrent(model) or c.llama_model_is_hybrid(model):
        raise EngineFailed(
            "This model cannot take a draft model: it has recurrent layers, which cannot go back.",
            "Load it without draft_model.",
        )
    if c.llama_model_is_recurrent(draft) or c.llama_model_is_hybrid(draft):
        raise EngineFailed(
            "The draft model has recurrent layers, which cannot go back.", "Take another draft."
        )
    own, other = c.llama_model_get_vocab(model), c.llama_model_get_vocab(draft)
    if why := _difference(c, own, other):
        raise EngineFailed(
            f"The draft model has another vocabulary: {why}.",
            "Take a small model of the same family as draft_model.",
        )


def _difference(c: Any, own: Any, other: Any) -> str:
    """The first difference of two vocabularies; empty when they agree."""
    if c.llama_vocab_type(own) != c.llama_vocab_type(other):
        return "it cuts text in another way"
    for name, adds in (("bos", c.llama_vocab_get_add_bos), ("eos", c.llama_vocab_get_add_eos)):
        token = getattr(c, f"llama_vocab_{name}")
        if adds(own) != adds(other) or (adds(own) and token(own) != token(other)):
            return f"its {name} token is another"
    sizes = c.llama_vocab_n_tokens(own), c.llama_vocab_n_tokens(other)
    if abs(sizes[0] - sizes[1]) > SIZE_DIFFERENCE:
        return f"it has {sizes[1]} tokens, the model {sizes[0]}"
    for token in range(FIRST_COMPARED, min(sizes)):
        if c.llama_vocab_get_text(own, token) != c.llama_vocab_get_text(other, token):
            return f"its token {token} is another"
    return ""
