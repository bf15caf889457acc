"""Speculative decoding: a small model guesses ahead, and the large one checks many guesses at once.

The large model samples every token itself, from the logits it would have had anyway, so a guess
changes nothing but the speed (Leviathan et al. 2023, arXiv:2211.17192, with guesses that are always
the likeliest token).
"""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from typing import Any

from modeldeck.core.errors import EngineFailed
from modeldeck.core.runtime.engines.llama.sequence import CachedSequence

TOKENS = 8
"""Tokens guessed at a time, unless the options say."""
SIZE_DIFFERENCE = 128
"""How many tokens two vocabularies may differ by in size: some are padded (as in llama.cpp)."""
FIRST_COMPARED = 5
"""The first tokens may bear other names in models that otherwise agree (as in llama.cpp)."""


def check_draft(c: Any, model: Any, draft: Any) -> None:
    """Raise EngineFailed where a model cannot guess for another.

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
    mine, other = c.llama_model_get_vocab(model), c.llama_model_get_vocab(draft)
    if why := _difference(c, mine, other):
        raise EngineFailed(
            f"The draft model has another vocabulary: {why}.",
            "Take a small model of the same family as draft_model.",
        )


def _difference(c: Any, mine: Any, other: Any) -> str:
    """In what two vocabularies differ; empty when they agree."""
    if c.llama_vocab_type(mine) != c.llama_vocab_type(other):
        return "it cuts text in another way"
    for name, adds in (("bos", c.llama_vocab_get_add_bos), ("eos", c.llama_vocab_get_add_eos)):
        token = getattr(c, f"llama_vocab_{name}")
        if adds(mine) != adds(other) or (adds(mine) and token(mine) != token(other)):
            return f"its {name} token is another"
    sizes = c.llama_vocab_n_tokens(mine), c.llama_vocab_n_tokens(other)
    if abs(sizes[0] - sizes[1]) > SIZE_DIFFERENCE:
        return f"it has {sizes[1]} tokens, the model {sizes[0]}"
    for token in range(FIRST_COMPARED, min(sizes)):
        if c.llama_vocab_get_text(mine, token) != c.llama_vocab_get_text(other, token):
            return f"its token {token} is another"
    return ""


class DraftModel:
    """A small model and its context, which guess. Whoever made them frees them."""

    def __init__(
        self, c: Any, model: Any, sequence: CachedSequence, context: Any, tokens: int
    ) -> None:
        """Take over a model and its context; `tokens` are guessed at a time."""
        self._c = c
        self._vocab = c.llama_model_get_vocab(model)
        self._context = context
        self._sequence = sequence
        self._tokens = tokens
        self._known = 0
        """Tokens at the beginning of the text that the context holds for certain."""
        self._greedy = c.llama_sampler_init_greedy()

    def close(self) -> None:
        """Free what it made itself."""
        self._c.llama_sampler_free(self._greedy)

    def begin(self) -> None:
        """Another text comes now: what is held of the last one is compared with it anew."""
        self._known = 0

    def guess(self, text: Tokens[int], most: int) -> list[int]:
        """What may come after a text, up to so many tokens. Raises Cancelled.

        Since `begin`, every text must be the one before and more.
        """
        count = min(self._tokens, most)
        guesses: list[int] = []
        if count <= 0:
            return guesses
        self._sequence.read(text, known=self._known)
        self._known = len(text)
        while True:
            token = int(self._c.llama_sampler_sample(self._greedy, self._context, -1))
            if self._c.llama_vocab_is_eog(self._vocab, token):
                return guesses
            guesses.append(token)
            if len(guesses) == count:
                return guesses
            self._sequence.add([token])
