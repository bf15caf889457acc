"""Grammars as llguidance takes them: it admits what llama.cpp admits. Without an engine."""

import doctest
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

import modeldeck.core.runtime.grammar.lark
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.grammar.answer_grammar import AnswerGrammar, of_gbnf
from modeldeck.core.runtime.grammar.lark import EXPRESSION_DEPTH, EXPRESSION_LENGTH
from tests.support.byte_vocabulary import follows


def test_the_examples_in_docstrings_hold() -> None:
    result = doctest.testmod(modeldeck.core.runtime.grammar.lark)
    assert (result.attempted, result.failed) == (2, 0)


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
        ('root ::= [a]* "b"{00,02} "a" ("," root)?', ["aa", "bba,a"], ["bbba"]),
        ('root ::= "x"{01}? "y" "z"{1,01}?', ["y", "xyz"], ["xxy", "yzz"]),
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


REGULAR = st.recursive(
    st.sampled_from(['"a"', '"b"', '"ab"', "[ab]", "[^a]", '""', '"c"']),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(" ".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({' | '.join(parts)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,1}"])).map(
            lambda found: f"({found[0]}){found[1]}"
        ),
    ),
    max_leaves=8,
)
"""Right sides of rules of "a", "b" and "c"."""
TEXTS = ["".join(letters) for length in range(5) for letters in product("ab", repeat=length)]


def chain(rules: int, of_next: str) -> str:
    """Rules each of which has the next one in it."""
    lines = [f"r{n} ::= {of_next.format(n + 1)}" for n in range(rules)]
    return "\n".join(["root ::= r0", *lines, f'r{rules} ::= "a"'])


def admits(grammar: AnswerGrammar) -> list[str] | None:
    """Which of `TEXTS` it admits; None where it admits no answer at all."""
    try:
        return [text for text in TEXTS if follows(grammar, text)]
    except InvalidRequest as error:
        return None if "admits no answer" in str(error) else [str(error)]


@given(REGULAR, REGULAR)
def test_one_expression_admits_what_the_characters_admit(one: str, two: str) -> None:
    try:
        forms = of_gbnf(f"root ::= {one} | x {two}\nx ::= {two}").forms
    except InvalidRequest:  # it repeats what may be empty, as llama.cpp cannot have it
        return
    whole, characters = (AnswerGrammar((form,), "grammar") for form in forms)
    assert admits(whole) == admits(characters)


@pytest.mark.parametrize(
    ("grammar", "forms"),
    [
        ('root ::= "a" x\nx ::= "b"*', 2),
        ('root ::= "a" root?', 1),
        ('root ::= "a" x\nx ::= "b" y\ny ::= "c" x | "d"', 1),
        # Too long, and so long that it must not be written out.
        ("root ::= " + '"a" ' * (EXPRESSION_LENGTH // 7), 1),
        (chain(60, "r{0} r{0}"), 1),
        # Rules within rules.
        (chain(EXPRESSION_DEPTH - 2, "r{0}"), 2),
        (chain(EXPRESSION_DEPTH, "r{0}"), 1),
    ],
)
def test_it_is_one_expression_where_no_rule_is_within_itself(grammar: str, forms: int) -> None:
    assert len(of_gbnf(grammar).forms) == forms
