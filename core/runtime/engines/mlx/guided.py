"""A sampler of mlx-lm that ends thoughts at their budget and holds a grammar back until then."""

from __future__ import annotations

from typing import Any

from modeldeck.core.runtime.engines.mlx.grammar import GrammarSampler
from modeldeck.core.runtime.engines.mlx.sampling import Sample
from modeldeck.core.runtime.text.thought_guide import ThoughtGuide


class GuidedSampler:
    """The sampler of one answer that may begin with a thought."""

    def __init__(
        self, mx: Any, guide: ThoughtGuide, sample: Sample, grammar: GrammarSampler | None
    ) -> None:
        """`sample` samples freely, `grammar` by the grammar of the answer, where there is one."""
        self._mx = mx
        self._guide = guide
        self._sample = sample
        self._grammar = grammar

    def __call__(self, likely: Any) -> Any:
        """Sample the next token. Raises InvalidRequest as `GrammarSampler` does."""
        guide, grammar = self._guide, self._grammar
        token, by_grammar = guide.forced(), False
        if token is None and (grammar is None or guide.free):
            token = guide.instead(int(self._sample(likely).item()))
        elif token is None and grammar is not None:
            found = grammar(likely, openings=guide.openings)
            token, by_grammar = int(found.item()), grammar.took
        assert token is not None
        guide.took(token, by_grammar=by_grammar)
        return self._mx.array([token], dtype=self._mx.uint32)
