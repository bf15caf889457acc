"""The words of the tiny models."""

from __future__ import annotations

import doctest
import subprocess
import sys
from itertools import chain

import pytest

import modeldeck.core.demo.answers
import modeldeck.core.demo.model_writer
import modeldeck.core.demo.repository
import modeldeck.core.demo.vocabulary
import tests.support.architectures
from modeldeck.core.demo.vocabulary import (
    CHAINS,
    SPECIALS,
    TOPICS,
    Vocabulary,
    expected,
    forms,
)
from modeldeck.core.runtime.text.text_streams import byte_characters


@pytest.mark.parametrize(
    "module",
    [
        modeldeck.core.demo.answers,
        tests.support.architectures,
        modeldeck.core.demo.model_writer,
        modeldeck.core.demo.repository,
        modeldeck.core.demo.vocabulary,
    ],
    ids=lambda module: str(module.__name__),
)
def test_the_examples_in_docstrings_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]  # parametrize gives objects
    assert result.attempted > 0
    assert result.failed == 0


def test_no_piece_of_an_answer_occurs_twice() -> None:
    # A bigram table has one successor per token.
    vocabulary = Vocabulary()
    tokens = [t for c in CHAINS.values() for piece in c.pieces for t in vocabulary.ids(piece)]
    assert len(tokens) == len(set(tokens))


def test_every_byte_has_a_character_of_its_own() -> None:
    characters = byte_characters()
    assert len(set(characters)) == 256
    assert not any(character.isspace() for character in characters)
    assert characters[ord(" ")] == "\u0120"
    assert characters[ord("\n")] == "\u010a"


def test_ascii_pieces_are_one_token_and_others_one_per_byte() -> None:
    vocabulary = Vocabulary()
    assert len(vocabulary.ids(" two")) == 1
    assert len(vocabulary.ids("\U0001f999")) == 4
    assert vocabulary.ids("<|end|>") == [vocabulary.index["<|end|>"]]
    keywords = chain.from_iterable(c.keywords for c in CHAINS.values())
    assert all(len(vocabulary.ids(form)) == 1 for word in keywords for form in forms(word))


def test_fillers_stand_between_words_and_specials() -> None:
    plain, larger = Vocabulary(), Vocabulary(extra_tokens=1000)
    assert len(larger.tokens) == len(plain.tokens) + 1000
    assert larger.words == plain.words
    assert larger.tokens[-len(SPECIALS) :] == list(SPECIALS)
    assert larger.merges == plain.merges


def test_the_long_answer_is_long_and_the_loop_has_no_end() -> None:
    assert len(Vocabulary().ids("Long")) == 1
    assert len(CHAINS["long"].pieces) == 157
    assert [topic for topic in TOPICS if not CHAINS[topic].ends] == ["loop"]
    assert expected("json") == '{"answer": "yes"}'


def test_the_words_need_neither_numpy_nor_gguf() -> None:
    # The command line names topics without them.
    code = (
        "import sys, modeldeck.core.demo.model_writer, modeldeck.core.demo.hub;"
        "print(sorted({'numpy', 'gguf', 'llama_cpp', 'mlx'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
