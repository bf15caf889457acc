"""Grammars as llguidance takes them: it admits what llama.cpp admits. Without an engine."""

import doctest
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer
from llguidance._tokenizer import TokenizerWrapper

import modeldeck.core.runtime.grammar.lark
from modeldeck.core.runtime.grammar.gbnf import check_grammar
from modeldeck.core.runtime.grammar.json_schema import grammar_of
from modeldeck.core.runtime.grammar.lark import lark_of


class Bytes:
    """A vocabulary of the 256 bytes, and an end."""

    eos_token_id = 256
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(256)), b"<|end|>")
    special_token_ids = (256,)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


BYTES = LLTokenizer(TokenizerWrapper(Bytes()), slices=[])


def follows(grammar: str, text: str) -> bool:
    """Whether a text is an answer of a grammar."""
    check_grammar(grammar)
    matcher = LLMatcher(BYTES, LLMatcher.grammar_from_lark(lark_of(grammar)), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    data = list(text.encode())
    return matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()


def test_the_examples_in_docstrings_hold() -> None:
    result = doctest.testmod(modeldeck.core.runtime.grammar.lark)
    assert (result.attempted, result.failed) == (1, 0)


@pytest.mark.parametrize(
    ("grammar", "answers", "others"),
    [
        # Where a longest lexeme would leave nothing for what follows it.
        ('root ::= [a-z]+ "x"', ["ax", "axx"], ["a", "x", "ax1"]),
        ('root ::= ("a" | "ab") "bd"', ["abd", "abbd"], ["abb"]),
        ('root ::= "if" | [a-z]{2,3} "f"', ["if", "iff", "ifff"], ["i", "ff1"]),
        # Sequences that hold nothing.
        ("root ::=", [""], ["a"]),
        ('root ::= "" | "a" ""', ["", "a"], ["aa"]),
        ('root ::= ("a" | "b" |) "c"\r\nx ::= root', ["c", "ac"], ["", "cc"]),
        ('root ::= (|"a")', ["", "a"], ["aa"]),
        # Characters, in every way to write them.
        ('root ::= "\\u00e9" "\\U0001F999" "é" [\u4e00-\u9fff]', ["é🦙é中"], ["é🦙é", "é🦙éx"]),
        ('root ::= "\\x41\\n\\t\\r\\"\\\\/"', ['A\n\t\r"\\/'], ["A"]),
        ('root ::= "a\nb" [\n]', ["a\nb\n"], ["a b "]),
        ("root ::= .", ["\n", "é", "🦙"], ["", "\0", "ab"]),
        # Classes.
        ("root ::= [a-c-e]+", ["abc-e"], ["d"]),
        ("root ::= [a-] [\\]\\-\\[/^] [^^]", ["-/x", "a]/", "a^]"], ["b/x", "a^^"]),
        ("root ::= [\\--/]", ["-", ".", "/"], ["+", "0"]),
        ("root ::= [^\\]\\\\]*", ["a[/"], ["]", "\\"]),
        ('root ::= [z-a] | "b"', ["b"], ["a", "z", "m"]),
        ("root ::= [^z-a]", ["b", "é"], ["", "\0"]),
        ('root ::= [^\\uD800-\\uDFFF"]', ["é", "🦙"], ['"']),
        ('root ::= "\\uD800" | "a"', ["a"], [""]),
        ("root ::= [\\uD000-\\UFFFFFFFF]", ["\ud7a3", "🦙"], ["a"]),
        # How often.
        ('root ::= "abc"* "ab"{2,3}', ["abab", "abcababab"], ["ab", "abababab"]),
        ('root ::= ("x"{1}){1}* "y"{1}+', ["y", "xxyy"], ["x"]),
        ('root ::= [ab]{2} "c"{ 1 , } "d"{0,2}', ["abc", "bbccdd"], ["ac", "abcddd"]),
        # Names, comments and lines.
        (
            '# all\nroot ::= start-1 | # more\n  R1 (r1\n "!")? # end\n\nR1 ::= "A"\nr1 ::= "a"\n'
            'start-1 ::= "old"\nstart-1 ::= "new" # "no"',
            ["new", "A", "Aa!"],
            ["old", "a", "AA!"],
        ),
        ('root ::= "[" (root ("," root)*)? "]"', ["[[],[[]]]"], ["[[,[]]", "[]]"]),
        ("root ::= " + "(" * 64 + '"a"' + ")" * 64, ["a"], [""]),
    ],
)
def test_a_grammar_admits_the_same_answers(
    grammar: str, answers: list[str], others: list[str]
) -> None:
    assert [follows(grammar, text) for text in answers] == [True] * len(answers)
    assert [follows(grammar, text) for text in others] == [False] * len(others)


@given(st.recursive(st.integers(-99, 99) | st.booleans() | st.text() | st.none(), st.lists))
def test_any_json_follows_the_grammar_of_any_json(value: object) -> None:
    text = json.dumps({"x": value}).replace("\\u007f", "")
    assert follows(grammar_of({}), text)
    assert not follows(grammar_of({}), text[:-1])
