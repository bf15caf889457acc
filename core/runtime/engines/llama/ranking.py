"""Rerankers of llama.cpp: how a query and a text become one prompt, and what its score means.

Source: format_prompt_rerank of tools/server/server-common.cpp and build_pooling of llama-graph.cpp,
github.com/ggml-org/llama.cpp.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

TEMPLATE = b"rerank"
"""Name of the template that a reranker made of a decoder brings."""
_PLACES = re.compile(r"\{query\}|\{document\}")


def pair_tokens(
    c: Any, model: Any, tokens_of: Callable[[str], list[int]], query: str, text: str
) -> list[int]:
    """The tokens of a query and a text, as a reranker reads them.

    A model with a template for it gets that; else the two stand apart by the tokens that the
    vocabulary names for it.
    """
    template = c.llama_model_chat_template(model, TEMPLATE)
    if template:
        given = {"{query}": query, "{document}": text}
        whole = template.decode("utf-8", "replace")
        # In one pass: a query that holds the other's name is a text like any other.
        return tokens_of(_PLACES.sub(lambda found: given[found[0]], whole))
    vocabulary = c.llama_model_get_vocab(model)
    separator = c.llama_vocab_sep(vocabulary)
    end = c.llama_vocab_eos(vocabulary)
    end = separator if end < 0 else end
    ends = [end] if c.llama_vocab_get_add_eos(vocabulary) else []
    separators = [separator] if c.llama_vocab_get_add_sep(vocabulary) else []
    begin = [c.llama_vocab_bos(vocabulary)] if c.llama_vocab_get_add_bos(vocabulary) else []
    return [*begin, *tokens_of(query), *ends, *separators, *tokens_of(text), *ends]


def probability(score: float, classes: int) -> float:
    """A score from 0 to 1.

    Of several classes llama.cpp gives the share of the first, which is that already; of one the
    logit.

    >>> probability(0.0, 1), probability(0.25, 2), probability(-800.0, 1)
    (0.5, 0.25, 0.0)
    """
    if classes > 1 and 0 <= score <= 1:
        return score
    return 1 / (1 + math.exp(-score)) if score > -700 else 0.0
