"""Grammars as llguidance takes them: it admits what llama.cpp admits. Without an engine."""

import doctest

import pytest

import modeldeck.core.runtime.grammar.lark
from modeldeck.core.runtime.grammar.answer_grammar import of_gbnf
from tests.support.byte_vocabulary import follows


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
    assert [follows(of_gbnf(grammar), text) for text in answers] == [True] * len(answers)
    assert [follows(of_gbnf(grammar), text) for text in others] == [False] * len(others)
