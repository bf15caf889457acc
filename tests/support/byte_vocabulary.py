"""A vocabulary of the 256 bytes for llguidance, and texts that follow a grammar or do not."""

from __future__ import annotations

import random

from llguidance import LLTokenizer
from llguidance._tokenizer import TokenizerWrapper

from modeldeck.core.runtime.grammar.answer_grammar import AnswerGrammar
from modeldeck.core.runtime.grammar.matcher import SLICES, GrammarVocabulary

END = 256
SIGN = 257
"""A token that stands for a sign and has no text."""


class Bytes:
    """What llguidance asks a tokenizer of Python for."""

    eos_token_id = END
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(256)), b"\xff<|end|>", b"\xff<|sign|>")
    special_token_ids = (END, SIGN)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


BYTES = LLTokenizer(TokenizerWrapper(Bytes()), slices=SLICES)
VOCABULARY = GrammarVocabulary(lambda _guide: BYTES)


def follows(grammar: AnswerGrammar, answer: str | list[int]) -> bool:
    """Whether an answer, as text or as tokens, is one of a grammar's."""
    inner = VOCABULARY.matcher(grammar)._matcher
    tokens = list(answer.encode()) if isinstance(answer, str) else answer
    return bool(inner.try_consume_tokens(tokens) == len(tokens) and inner.is_accepting())


_BITS = {
    (bits, i): [i * 8 + n for n in range(8) if bits >> n & 1]
    for bits in range(256)
    for i in range(40)
}
"""The numbers of the bits that are set in a byte, by its value and place."""


def any_answer(grammar: AnswerGrammar, chance: random.Random, most: int = 300) -> str | None:
    """An answer of a grammar by chance; None where it does not come to an end in `most` bytes."""
    matcher = VOCABULARY.matcher(grammar)
    told = bytearray()

    def held(mask: bytes) -> int:
        admitted = [n for i, bits in enumerate(mask) if bits for n in _BITS[bits, i] if n <= END]
        closing = [n for n in admitted if n == END or chr(n) in '"}]']
        plain = [n for n in admitted if n < 128] or admitted
        return chance.choice(closing if closing and chance.random() < 0.5 else plain)

    while len(told) < most:
        token = matcher.choose(lambda: SIGN, held)  # which none of these grammars admits
        if token in (None, END):
            return told.decode()
        told.append(token)
    return None
