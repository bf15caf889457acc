"""Grammars in GBNF, judged without an engine."""

import doctest
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import modeldeck.core.runtime.grammar.answer_grammar
import modeldeck.core.runtime.grammar.gbnf
import modeldeck.core.runtime.grammar.schema_guard
import modeldeck.core.runtime.text.answer_writer
import modeldeck.core.runtime.text.chat_prompt
import modeldeck.core.runtime.text.text_streams
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.grammar.gbnf import check_grammar


@pytest.mark.parametrize(
    "module",
    [
        modeldeck.core.runtime.text.chat_prompt,
        modeldeck.core.runtime.text.text_streams,
        modeldeck.core.runtime.text.answer_writer,
        modeldeck.core.runtime.grammar.gbnf,
        modeldeck.core.runtime.grammar.answer_grammar,
        modeldeck.core.runtime.grammar.schema_guard,
    ],
    ids=lambda module: str(module.__name__),
)
def test_the_examples_in_docstrings_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]  # parametrize gives objects
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    "text",
    [
        'root ::= "a"',
        '# a comment\nroot ::= a-1 | # another\n  b\n\na-1 ::= "x"+ b? (b "y"){2,3} .\n'
        'b ::= [^a-z"\\]\\x41]*',
        'root ::= "\\u00e9" "\\U0001F999" "é" [\u4e00-\u9fff]',
        'root ::= ("a" | "b" |) "c"\r\nx ::= root',
        'root ::= (("a"{100}){100}){100}',
        'root ::= list\nlist ::= "[" (list ("," list)*)? "]"',
        'root ::= "a" ""',
        "root ::=",
    ],
)
def test_sound_grammars_pass(text: str) -> None:
    check_grammar(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no rule named root"),
        ('x ::= "a"', "no rule named root"),
        ("root ::= x", "no rule named x"),
        ('root = "a"', "expected ::="),
        ('root ::= "a', "ends in the middle"),
        ('root ::= "a\\', "ends in the middle"),
        ("root ::= [a-", "ends in the middle"),
        ("root ::= []", "class is empty"),
        ('root ::= ("a"', "closing bracket"),
        ('root ::= "a")', "end of the line"),
        ('root ::= * "a"', "end of the line"),
        ('root ::= ""*', "something to repeat"),
        ('root ::= "a"**', "something to repeat"),
        ('root ::= "\\q"', "no escape"),
        ('root ::= "\\x1"', "2 hexadecimal digits"),
        ('root ::= "a"{2,', "expected {2}"),
        ('root ::= "a"{3,2}', "less than the least"),
        ('root ::= "a"{0}', "less than the least"),
        ('root ::= "a"{2001}', "more than 2000"),
        ('root ::= "a"{0,99999999999}', "expected {2}"),
        ('root ::= ("a" ("b" ("c")?)?){900}', "more than 2000"),
        ("root ::= " + "(" * 100_000, "within each other"),
        ('root ::= "' + "a" * 2000 + '"{2000}', "elements once written out"),
        ("root ::= <[7]>", "single tokens"),
        ("root ::= \0", "null character"),
        ("x" * 300 + " ::= y", "at most 200"),
        ("#" * (1 << 19), "characters; the most"),
        ("root ::= root", "root begins with itself"),
        ('root ::= a\na ::= "x"? b\nb ::= "y"? a', "begins with itself"),
        ('root ::= e e root "x"\ne ::= f\nf ::= ""', "root begins with itself"),
        ('root ::= ("a"?)*', "may be empty"),
        ('root ::= e+\ne ::= "a"*', "may be empty"),
        (
            f"root ::= (({'|'.join(f'{chr(34)}{c}{chr(34)}' for c in 'abcdefghijkl')})?){{450}}",
            "can begin in",
        ),
        (
            "root ::= r0\n"
            + "".join(f"r{i} ::= r{i + 1} | r{i + 1}\n" for i in range(40))
            + 'r40 ::= "x"',
            "can begin in",
        ),
    ],
)
def test_others_are_refused_with_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_grammar(text)
    assert why in caught.value.message
    assert len(caught.value.message) < 300


def test_the_line_of_a_mistake_is_told() -> None:
    with pytest.raises(InvalidRequest, match="line 3 at '! nonsense'"):
        check_grammar('root ::= x\n\nx ::= "a" ! nonsense')


def test_the_longest_chain_of_rules_is_judged_in_one_go() -> None:
    rules = "".join(f"r{i} ::= r{i + 1}\n" for i in range(12_000))
    before = time.process_time()
    check_grammar(f'root ::= r0\n{rules}r12000 ::= "x"')
    assert time.process_time() - before < 30  # not minutes: it is linear


def test_rules_that_become_empty_one_after_the_other_are_judged_in_one_go() -> None:
    names = [f"a{i}" for i in range(11_000)]
    before = time.thread_time()
    with pytest.raises(InvalidRequest, match="can begin in"):
        check_grammar(
            f'root ::= "x" | {" ".join(reversed(names))}\n'
            + "".join(f'{name} ::= ""\n' for name in names)
        )
    assert time.thread_time() - before < 5  # a look at all rules for each of them took 18 s


@given(st.text(alphabet='rot:= \n"[]()|*+?{}0,a-\\x', max_size=60))
def test_any_text_is_judged(text: str) -> None:
    try:
        check_grammar("root ::= " + text)
    except InvalidRequest:
        pass
