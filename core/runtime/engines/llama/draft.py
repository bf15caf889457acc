"""Speculative decoding: a draft model guesses tokens, which the model verifies in one batch.

The model samples every token itself, from the same logits as without a draft, so guesses change
only the speed (Leviathan et al. 2023, arXiv:2211.17192, with the likeliest token as the guess).
"""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from typing import Any

from modeldeck.core.errors import EngineFailed
from modeldeck.core.runtime.engines.llama.sequence import CachedSequence

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


class DraftModel:
    """A draft model and its context, which the caller frees."""

    def __init__(
        self, c: Any, model: Any, sequence: CachedSequence, context: Any, tokens: int
    ) -> None:
        """`tokens` is how many are guessed at a time."""
        self._c = c
        self._vocab = c.llama_model_get_vocab(model)
        self._context = context
        self._sequence = sequence
        self._tokens = tokens
        self._known = 0
        """Tokens at the beginning of the text that need no comparison with the context."""
        self._greedy = c.llama_sampler_init_greedy()

    def close(self) -> None:
        """Free the sampler."""
        self._c.llama_sampler_free(self._greedy)

    def begin(self) -> None:
        """Begin a new text, to be compared with the tokens in the context."""
        self._known = 0

    def guess(self, text: Tokens[int], most: int) -> list[int]:
        """Guess the next tokens after a text, at most `most`. Raises Cancelled.

        Since `begin`, every text must continue the one before.
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
