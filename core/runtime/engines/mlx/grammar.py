"""Holds answers of mlx-lm to a grammar: a sampler over mlx's arrays, and the vocabulary for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modeldeck.core.errors import EngineFailed, InvalidRequest
from modeldeck.core.runtime.engines.bounds import Bounds
from modeldeck.core.runtime.engines.mlx.sampling import Sample
from modeldeck.core.runtime.grammar.matcher import GRAMMAR_S, SLICES, Matcher

REMEDY = "Take the GGUF version of the model, or ask for JSON in the prompt."


class GrammarSampler:
    """The sampler of one answer, with its position in the grammar."""

    def __init__(
        self, mx: Any, matcher: Matcher, sample: Sample, end: int, *, bounds: Bounds, number: int
    ) -> None:
        """Sample among what a grammar admits.

        Args:
            mx: `mlx.core`.
            matcher: The position in the grammar.
            sample: Samples by log probabilities.
            end: A token that ends an answer.
            bounds: Following the grammar is watched there: nothing interrupts it.
            number: The number of the request.
        """
        self._mx = mx
        self._bounds = bounds
        self._number = number
        self._matcher = matcher
        self._sample = sample
        self._end = end

    @property
    def took(self) -> bool:
        """Whether the last token was one that the grammar took."""
        return self._matcher.took

    def __call__(self, likely: Any, *, openings: frozenset[int] = frozenset()) -> Any:
        """Sample the next token; one that ends the answer where no token can follow.

        `openings` are tokens that may come although the grammar does not admit them. Raises
        InvalidRequest where the grammar takes too much time or memory.
        """
        # mlx-lm samples one token ahead, also after the last one.
        self._bounds.number = self._number
        token = self._bounds.watch(
            "The grammar",
            lambda: self._matcher.choose(
                lambda: int(self._sample(likely).item()),
                lambda mask: self._held(likely, mask),
                besides=openings,
            ),
            cpu_s=GRAMMAR_S,
        )
        return self._mx.array([self._end if token is None else token], dtype=self._mx.uint32)

    def _held(self, likely: Any, mask: bytes) -> int:
        """Sample among the tokens whose bits are set; there may be more logits than tokens."""
        mx, width = self._mx, likely.shape[-1]
        numbers = mx.arange(width)
        words = mx.array(memoryview(mask.ljust(width // 8 + 1, b"\0")))
        admitted = (words[numbers // 8] >> (numbers % 8).astype(mx.uint8)) & 1
        likely = mx.where(admitted != 0, likely.astype(mx.float32), -mx.inf)
        total = mx.logsumexp(likely)
        if total.item() == -mx.inf:
            return self._end
        # Samplers that add up probabilities (top_p) need them normalized.
        return int(self._sample(likely - total).item())


def make_vocabulary(tokenizer: Any, ends: Sequence[int], guide: Any) -> Any:
    """Return llguidance's `LLTokenizer` of mlx-lm's: 150,000 tokens take a second, and 90 MiB.

    `ends` are the tokens that end an answer. Raises InvalidRequest where the model's tokenizer does
    not let its answers be held to a grammar, and EngineFailed where llguidance does not take it.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not ends:
        raise InvalidRequest(
            "This model's tokenizer does not support a grammar or JSON schema: it has no "
            + ("tokenizer.json." if backend is None else "token that ends an answer."),
            REMEDY,
        )
    try:
        return guide.LLTokenizer(backend.to_str(), eos_token=list(ends), slices=SLICES)
    except (ValueError, RuntimeError) as error:
        raise EngineFailed(
            f"llguidance does not take this model's tokenizer: {error}.", REMEDY
        ) from error
