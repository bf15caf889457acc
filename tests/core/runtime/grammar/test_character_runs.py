"""Characters that are read at once: where that changes nothing, and nowhere else."""

from __future__ import annotations

import doctest
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

import modeldeck.core.runtime.grammar.character_runs
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.grammar import lark
from modeldeck.core.runtime.grammar.answer_grammar import AnswerGrammar, of_gbnf
from tests.support.byte_vocabulary import VOCABULARY

ITEMS = st.sampled_from(
    [
        *('"a"', '"b"', '"è"', '"ab"', '""', "[ab]", "[^a]", "[bè]", "x", "y", "root", "[z-a]"),
        *("[a]*", "[b]+", "[ab]*", "[è]+", '"è"*', "[^ab]+", "[b]{1,}", "[è]{0,2}", "[b]{2}"),
        *("[ab]{2,3}", '"é"', "[éa]+", "[^é]", "[éè]*"),
    ]
)
RULE = st.recursive(
    ITEMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(" ".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({' | '.join(parts)})"),
        st.tuples(inner, st.sampled_from("*+?")).map(lambda found: f"({found[0]}){found[1]}"),
    ),
    max_leaves=7,
)
TEXTS = ["".join(letters) for length in range(5) for letters in product("abéè", repeat=length)]


def test_the_example_in_the_docstring_holds() -> None:
    result = doctest.testmod(modeldeck.core.runtime.grammar.character_runs)
    assert (result.attempted, result.failed) == (3, 0)


def form(grammar: str, *, apart: bool = False) -> str:
    """The grammar by characters, with those apart that could be read at once."""
    with pytest.MonkeyPatch.context() as patch:
        if apart:
            patch.setattr(lark, "find_runs", lambda _: {})
        return of_gbnf(grammar).forms[-1]


def runs(grammar: str) -> int:
    """How many classes of characters are read at once."""
    return form(grammar).count("]+/\n")


def admitted(form: str) -> list[str] | None:
    """Those of `TEXTS` that a grammar admits; None where it is refused."""
    try:
        matcher = VOCABULARY.matcher(AnswerGrammar((form,), "grammar"))._matcher
    except InvalidRequest:
        return None
    found = []
    for text in TEXTS:
        inner = matcher.deep_copy()
        tokens = list(text.encode())
        if inner.try_consume_tokens(tokens) == len(tokens) and inner.is_accepting():
            found.append(text)
    return found


@given(RULE, RULE, RULE)
def test_the_same_texts_are_admitted(root: str, x: str, y: str) -> None:
    grammar = f"root ::= {root}\nx ::= {x}\ny ::= {y}"
    try:
        joined = form(grammar)
    except InvalidRequest:  # a rule that begins with itself, or repeats what may be empty
        return
    apart = form(grammar, apart=True)
    if joined != apart:
        assert admitted(joined) == admitted(apart)


@pytest.mark.parametrize(
    ("grammar", "expected"),
    [
        # The text of strings, in each way to write them, and what cannot be mistaken for it.
        ('root ::= "\\"" ([^"\\\\] | "\\\\" .)* "\\""', 1),
        ('root ::= "\\"" char* "\\""\nchar ::= [^"\\\\] | "\\\\" ["\\\\]', 1),
        ('root ::= "\\"" ([^"\\\\] | "\\\\" (["nt] | "u" [0-9a-f]{4}))* "\\"" ("," root)?', 1),
        ('root ::= "\\"" ([^"\\\\] | "\\\\u" [0-9a-f]{2,3})* "\\"" ("," root)?', 0),
        ('root ::= "- " [^\\n]+ "\\n" root?', 1),
        ('root ::= "[" ([0-9]+ ("," root)*)? "]"', 1),
        ('root ::= [0-9]+ [a-z]+ ("," root)?', 2),
        # The same characters may follow: as another part, in another turn, in the same rule again.
        ('root ::= [a-z]+ "x"', 0),
        ('root ::= ([a-z]+ ","?)*', 0),
        ("root ::= name name\nname ::= [a-z]+", 0),
        ('root ::= "a"+ root?', 0),
        # A text may be read in two ways, one of which goes on by a character of the other.
        ('root ::= [ab]* "." | [c]+ | [ab]* [ab] [b]+', 1),  # that of "c"
        # They do not come alone, or not without end.
        ('root ::= ([a-z] "," | ";" ".")*', 0),
        ('root ::= "<" char{1,3} char* ">"\nchar ::= [a-z]', 0),
        ('root ::= "<" [a-z]{2,} ">" root?', 0),
        # As many times as they like, with any mark.
        ('root ::= "<" [a-z]{1,} ">" root?', 1),
        ('root ::= "<" [a-z]{00,} ">" root?', 1),
        # The lexer decides by bytes: both begin with the same one.
        ('root ::= "," [éa]+ "è" root?', 0),
        ('root ::= "," [é]* [^é] root?', 0),
        ('root ::= [が-ん]+ "ガ" ("," root)?', 0),
        ('root ::= [éa]+ "b" ("," root)?', 1),
        ('root ::= "," [一-龥]+ "!" root?', 1),
        # Nothing can end it.
        ('root ::= "," [a]+ [z-a] root? | "b"', 0),
        ('root ::= "<" [a-z]? ">"', 0),
    ],
)
def test_characters_are_read_at_once_where_nothing_else_can_be_meant(
    grammar: str, expected: int
) -> None:
    assert runs(grammar) == expected
    assert admitted(form(grammar)) == admitted(form(grammar, apart=True))


def chain(rules: int) -> str:
    """Rules each of which is the one before it; what that is, is found a rule a time."""
    return "\n".join(['r0 ::= "b"', *(f"r{n} ::= r{n - 1}" for n in range(1, rules + 1))])


TEXT = 'root ::= "q" [^q]* "q" (";" root)? | '
"""A grammar with characters that are read at once; more may follow."""


@pytest.mark.parametrize(
    ("most", "more"),
    [
        (' "b"' * 400, ' "b"' * 600),  # positions
        ('"b"\nx ::= ' + "root " * 1000, '"b"\nx ::= ' + "root " * 3000),  # items
        (f"r90\n{chain(90)}", f"r900\n{chain(900)}"),  # passes
        ("[r-z]* " * 20, "[r-z]* " * 450),  # steps
    ],
    ids=["positions", "items", "passes", "steps"],
)
def test_in_large_grammars_they_stay_apart_as_others_wait_meanwhile(most: str, more: str) -> None:
    assert runs(TEXT + most) == 1
    assert runs(TEXT + more) == 0
