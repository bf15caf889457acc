"""What holding an answer to a grammar takes for each token, with a vocabulary of 150,000 words.

    python -m tests.benchmarks.grammars [--words 150000] [--rounds 5]

The vocabulary is the 256 bytes and the most frequent words and marks of Python's standard library.
The answers of a JSON schema, of any JSON object, of a regular expression and of two GBNFs, with and
without rules within themselves, are gone through token by token, as the engines do it, in two ways:
each first choice is admitted, which is mostly so, or none is, and the words that are must be found
among all (`mask`). Prints processor time a token.

Wanted: under 0.5 ms on average where none is.
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import statistics
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

from llguidance import LLTokenizer
from llguidance._tokenizer import TokenizerWrapper

from modeldeck.core.runtime.grammar.answer_grammar import (
    AnswerGrammar,
    of_expression,
    of_gbnf,
    of_schema,
)
from modeldeck.core.runtime.grammar.matcher import SLICES, GrammarVocabulary, Matcher

_WORD = re.compile(r" ?[A-Za-z]+|\d{1,3}| ?[^\sA-Za-z\d]{1,4}|\s{1,8}")

_PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 60},
        "born": {"type": "string", "format": "date"},
        "roles": {"type": "array", "items": {"enum": ["reader", "writer", "owner"]}},
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "number": {"type": "integer"}},
            "required": ["street", "number"],
        },
    },
    "required": ["name", "born", "roles", "address"],
    "additionalProperties": False,
}
_ADA = {
    "name": "Ada Lovelace, Countess",
    "born": "1815-12-10",
    "roles": ["reader", "writer"],
    "address": {"street": "Saint James's Square in London", "number": 12},
}
_JSON = r"""
root ::= object
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" (string ": " value (", " string ": " value)*)? "}"
array ::= "[" (value (", " value)*)? "]"
string ::= "\"" ([^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-f]{4}))* "\""
number ::= "-"? [0-9]+
"""
ANSWERS: dict[str, tuple[Callable[[], AnswerGrammar], str]] = {
    "JSON schema": (lambda: of_schema(_PERSON), json.dumps(_ADA)),
    "any JSON object": (lambda: of_schema({"type": "object"}), json.dumps(_ADA)),
    "expression": (
        lambda: of_expression(r"[A-Z][a-z]+( [a-z]+){3,30}\. \d{4}-\d{2}-\d{2}"),
        "Several words stand in one line here with a date behind them. 2026-01-31",
    ),
    "JSON in GBNF": (lambda: of_gbnf(_JSON), json.dumps(_ADA)),
    "GBNF": (
        lambda: of_gbnf('root ::= ("- " line "\\n")+\nline ::= [^\\n]+'),
        "- buy bread and butter\n- write to the council about trees\n- sleep\n",
    ),
}
"""By name: how the grammar is made, and an answer that follows it."""


class Words:
    """A tokenizer of words by the longest match, as llguidance asks one of Python for."""

    bos_token_id = None

    def __init__(self, words: int) -> None:
        found: collections.Counter[str] = collections.Counter()
        for file in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
            found.update(_WORD.findall(file.read_text("utf-8", "replace")))
        bytes_ = [bytes([byte]) for byte in range(256)]
        texts = [word.encode() for word, _ in found.most_common() if len(word.encode()) > 1]
        assert len(texts) + 258 >= words, "the standard library has fewer words"
        self.tokens = [*bytes_, *texts[: words - 258], b"\xff<|end|>", b"\xff<|sign|>"]
        self.eos_token_id, self.sign = words - 2, words - 1
        self.special_token_ids = (words - 2, words - 1)
        self._numbers = {token: number for number, token in enumerate(self.tokens)}
        self._longest = max(map(len, self.tokens))

    def __call__(self, text: bytes | str) -> list[int]:
        """The tokens of a text."""
        rest, tokens = text.encode() if isinstance(text, str) else text, []
        while rest:
            lengths = range(min(len(rest), self._longest), 0, -1)
            length = next(n for n in lengths if rest[:n] in self._numbers)
            tokens.append(self._numbers[rest[:length]])
            rest = rest[length:]
        return tokens


def seconds_a_token(matcher: Matcher, answer: list[int], first: int | None) -> list[float]:
    """Processor seconds of each token of an answer.

    `first` is what the free choice gives each time; None for the token itself.
    """
    taken = []
    for token in answer:

        def held(mask: bytes, token: int = token) -> int:
            assert mask[token >> 3] >> (token & 7) & 1, "the answer does not follow its grammar"
            return token

        def free(token: int = token) -> int:
            return token if first is None else first

        began = time.thread_time()
        assert matcher.choose(free, held) == token
        taken.append(time.thread_time() - began)
    return taken


def main() -> None:
    """Print what a token takes, by grammar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--words", type=int, default=150_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    words = Words(asked.words)
    wrapped = LLTokenizer(TokenizerWrapper(words), slices=SLICES)
    vocabulary = GrammarVocabulary(lambda _guide: wrapped)
    for name, (make, text) in ANSWERS.items():
        answer = words(text)
        for way, first in (("admitted", None), ("mask", words.sign)):
            taken = [
                seconds * 1000
                for _ in range(asked.rounds)
                for seconds in seconds_a_token(vocabulary.matcher(make()), answer, first)
            ]
            print(
                f"{name:<16} {way:<9} {len(answer):3} tokens   median "
                f"{statistics.median(taken):.3f}   mean {statistics.mean(taken):.3f}   "
                f"worst {max(taken):.3f} ms"
            )


if __name__ == "__main__":
    main()
