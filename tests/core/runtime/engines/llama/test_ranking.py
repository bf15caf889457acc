"""How a query and a text become one prompt, with and without a template of the model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from modeldeck.core.runtime.engines.llama.ranking import pair_tokens, probability

BEGIN, SEPARATOR, END = 1, 2, 3


def vocabulary(template: bytes | None = None, eos: int = END, **adds: bool) -> Any:
    """The functions of llama.h that name the tokens around texts."""
    return SimpleNamespace(
        llama_model_chat_template=lambda model, name: template,
        llama_model_get_vocab=lambda model: None,
        llama_vocab_bos=lambda vocab: BEGIN,
        llama_vocab_sep=lambda vocab: SEPARATOR,
        llama_vocab_eos=lambda vocab: eos,
        llama_vocab_get_add_bos=lambda vocab: adds.get("begin", False),
        llama_vocab_get_add_sep=lambda vocab: adds.get("separator", False),
        llama_vocab_get_add_eos=lambda vocab: adds.get("end", False),
    )


def tokens_of(text: str) -> list[int]:
    return [ord(character) for character in text]


@pytest.mark.parametrize(
    ("c", "tokens"),
    [
        (vocabulary(begin=True, end=True), [BEGIN, 113, END, 116, END]),
        (vocabulary(begin=True, separator=True), [BEGIN, 113, SEPARATOR, 116]),
        (vocabulary(begin=True, eos=-1), [BEGIN, 113, 116]),
        (vocabulary(eos=-1, end=True), [113, SEPARATOR, 116, SEPARATOR]),
        (vocabulary(b"<{query}|{document}>"), tokens_of("<q|t>")),
        (vocabulary(b"{document} for {query}?"), tokens_of("t for q?")),
    ],
)
def test_pairs(c: Any, tokens: list[int]) -> None:
    assert pair_tokens(c, None, tokens_of, "q", "t") == tokens


def test_a_query_cannot_take_the_place_of_the_text() -> None:
    c = vocabulary(b"{query}|{document}")
    assert pair_tokens(c, None, tokens_of, "{document}", "t") == tokens_of("{document}|t")


@pytest.mark.parametrize(
    ("score", "classes", "expected"),
    [(0.0, 1, 0.5), (-1e9, 1, 0.0), (1e9, 1, 1.0), (0.3, 2, 0.3), (5.0, 3, 0.9933)],
)
def test_probabilities(score: float, classes: int, expected: float) -> None:
    assert probability(score, classes) == pytest.approx(expected, abs=1e-4)
