"""Grammars and JSON schemas, judged and made without an engine."""

import doctest
import json
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import modeldeck.core.runtime.engines.answer_writer
import modeldeck.core.runtime.engines.chat
import modeldeck.core.runtime.engines.text
import modeldeck.core.runtime.grammar.gbnf
import modeldeck.core.runtime.grammar.json_schema
import modeldeck.core.runtime.grammar.number_ranges
import modeldeck.core.runtime.grammar.regex
import modeldeck.core.runtime.grammar.schema_keywords
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.grammar.gbnf import check_grammar
from modeldeck.core.runtime.grammar.json_schema import grammar_of, literal
from modeldeck.core.runtime.grammar.number_ranges import integer_between, number_between
from modeldeck.core.runtime.grammar.regex import pattern_rule


@pytest.mark.parametrize(
    "module",
    [
        modeldeck.core.runtime.engines.chat,
        modeldeck.core.runtime.engines.text,
        modeldeck.core.runtime.engines.answer_writer,
        modeldeck.core.runtime.grammar.gbnf,
        modeldeck.core.runtime.grammar.json_schema,
        modeldeck.core.runtime.grammar.number_ranges,
        modeldeck.core.runtime.grammar.regex,
        modeldeck.core.runtime.grammar.schema_keywords,
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


# Schemas


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "colour"}, "a type 'colour'"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"not": {}}, "not"),
        ({"frobnicate": 1}, "frobnicate"),
        ({"type": "string", "minimum": 1}, "minimum"),
        ({"type": "string", "maxLength": 100_000}, "the most is 500"),
        ({"type": "string", "maxLength": 1, "minLength": 2}, "below its minLength"),
        ({"type": "string", "minLength": -1}, "whole number"),
        ({"type": "string", "minLength": True}, "whole number"),
        ({"type": "string", "pattern": "("}, "not closed"),
        ({"type": "string", "pattern": "a" * 2000}, "longer than"),
        ({"type": "string", "pattern": "^a|b$"}, "anchor"),
        ({"type": "string", "format": "date", "maxLength": 3}, "format together"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "admits no number"),
        ({"type": "integer", "minimum": "3"}, "must be a number"),
        ({"type": "integer", "maximum": 10**30}, "digits"),
        ({"type": "number", "minimum": 0.5}, "not whole"),
        ({"type": "number", "exclusiveMinimum": 0}, "exclusiveMinimum"),
        ({"enum": []}, "list of values"),
        ({"enum": ["a", "bc"], "maxLength": 1}, "maxLength beside enum"),
        ({"const": 5, "minimum": 6}, "minimum beside const"),
        ({"const": {}, "required": ["a"]}, "required beside const"),
        ({"enum": ["today"], "format": "date"}, "format beside enum"),
        ({"type": "string", "enum": [1, None]}, "leaves no value"),
        ({"const": 1, "enum": [True]}, "leaves no value"),
        ({"enum": ["a"], "type": "word"}, "has a type"),
        ({"allOf": [{"const": 1}, {"const": True}]}, "two different values of const"),
        ({"enum": [1], "anyOf": [{"type": "string"}, {"type": "null"}]}, "leaves no value"),
        ({"anyOf": []}, "list of schemas"),
        ({"anyOf": [3]}, "anyOf must be a list of schemas"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "two different values of type"),
        ({"$ref": "#/nowhere"}, "nothing at"),
        ({"$ref": "https://example.org"}, "refers to"),
        ({"$ref": 3}, "$ref must be a reference"),
        ({"$ref": "#"}, "begins with itself"),
        ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "begins with itself"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "does not admit"),
        ({"type": "object", "properties": []}, "properties must be an object of schemas"),
        ({"type": "object", "properties": {"a": 7}}, "an object of schemas"),
        ({"type": "array", "prefixItems": {}}, "prefixItems"),
    ],
)
def test_what_cannot_be_held_is_refused_by_name(schema: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        grammar_of(schema)
    assert why in caught.value.message


@pytest.mark.parametrize(
    ("schema", "admitted"),
    [
        ({"type": "string", "enum": ["a", 1, None, "b"]}, ["a", "b"]),
        ({"type": ["integer", "null"], "enum": [1, 1.5, True, None, 2.0]}, [1, None, 2.0]),
        ({"type": "number", "enum": [1, 1.5, True]}, [1, 1.5]),
        ({"type": "object", "enum": [[], {"a": 1}]}, [{"a": 1}]),
        ({"type": "array", "enum": [[], {"a": 1}]}, [[]]),
        ({"const": "a", "enum": ["b", "a"], "type": "string"}, ["a"]),
        ({"enum": ["a", "b"], "format": "color", "title": "Colour"}, ["a", "b"]),
        ({"allOf": [{"enum": ["a", None]}, {"type": "string"}]}, ["a"]),
        ({"enum": ["a", 1], "anyOf": [{"type": "string"}]}, ["a"]),
    ],
)
def test_fixed_values_follow_the_keywords_beside_them(
    schema: dict[str, Any], admitted: list[Any]
) -> None:
    rule = next(rule for rule in grammar_of(schema).splitlines() if rule.startswith("r0 ::= "))
    assert rule == "r0 ::= " + " | ".join(literal(json.dumps(value)) for value in admitted)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        nested(500),
        {"type": "object", "properties": {f"p{i}": {"type": "object"} for i in range(3000)}},
        {"enum": ["x" * 100_000] * 3},
        {"type": "array", "items": {"type": "string", "maxLength": 500}, "maxItems": 501},
    ],
)
def test_what_is_too_large_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        grammar_of(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"title": "anything", "description": "..."},
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(300)}},
        {
            "type": "object",
            "properties": {"a-b": {}, "a": True},
            "additionalProperties": {"type": "null"},
        },
        {"type": "object", "required": ["x"], "additionalProperties": {"type": "integer"}},
        {
            "type": "array",
            "prefixItems": [{"type": "null"}, {}],
            "items": {"type": "integer"},
            "maxItems": 5,
        },
        {"type": "array", "items": [{"type": "null"}]},
        {"type": "array", "items": False},
        {"type": "array", "maxItems": 0},
        {
            "allOf": [{"$ref": "#/$defs/a"}],
            "$defs": {"a": {"type": "object", "properties": {"x": {}}}},
        },
        {"type": ["string", "null"], "maxLength": 500},
        {"oneOf": [{"const": 1}, {"const": 'a\n"\\'}]},
        {"format": "date-time", "type": "string"},
        {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10},
        {"type": "array", "items": nested(20), "maxItems": 400},
    ],
)
def test_schemas_of_all_kinds_have_sound_grammars(schema: dict[str, Any]) -> None:
    check_grammar(grammar_of(schema))


def as_expression(rule: str) -> str:
    """A rule without names as a regular expression of Python."""
    found = ""
    for text, charset, rest in re.findall(r'"((?:\\.|[^"\\])*)"|(\[(?:\\.|[^\]\\])*\])|(\S)', rule):
        found += re.escape(re.sub(r"\\(.)", r"\1", text)) if text else charset or rest
    return found


BOUND = st.none() | st.integers(-3000, 3000)


@given(BOUND, BOUND, st.lists(st.integers(-4000, 4000), max_size=30))
def test_ranges_of_whole_numbers_are_exact(
    low: int | None, high: int | None, numbers: list[int]
) -> None:
    if low is not None and high is not None and low > high:
        low, high = high, low
    expression = as_expression(integer_between(low, high))
    near = [b + d for b in (low, high) if b is not None for d in (-1, 0, 1)]
    for number in [*numbers, *near, 0, 1, -1, 10**15]:
        inside = (low is None or low <= number) and (high is None or number <= high)
        assert bool(re.fullmatch(expression, str(number))) is inside, number


@given(BOUND, BOUND, st.lists(st.decimals(-4000, 4000, places=2), max_size=30))
def test_ranges_of_numbers_hold_and_have_their_bounds(
    low: int | None, high: int | None, numbers: list[Any]
) -> None:
    if low is not None and high is not None and low > high:
        low, high = high, low
    expression = as_expression(number_between(low, high))
    near = [b + d for b in (low, high) if b is not None for d in (-1, 0, 1)]
    for number in [*numbers, *near, 0, "0.5", "-0.5", "-1"]:
        value = float(number)
        inside = (low is None or low <= value) and (high is None or value <= high)
        assert bool(re.fullmatch(expression, str(number))) is inside, number


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        ("^[A-Z]{2}-\\d{3}$", ["AB-123"], ["AB-12", "ab-123", "xAB-123"]),
        ("^(cat|dog)s?$", ["cat", "dogs"], ["cats!", "catdog"]),
        ("^(?:a+?|[^b-d]*)$", ["aaa", "xyz", ""], ["b", 'a"']),
        ("^\\(\\.\\+\\)$", ["(.+)"], ["(x+)"]),
        ("^[\\w.-]+@\\w+$", ["a.b-c@d"], ["a b@c"]),
        ("^a-b$", ["a-b"], ["ab"]),
    ],
)
def test_patterns_match_the_same(pattern: str, right: list[str], wrong: list[str]) -> None:
    expression = as_expression(pattern_rule(pattern).replace("char", "."))
    for text in right:
        assert re.fullmatch(pattern, text)
        assert re.fullmatch(expression, text), text
    for text in wrong:
        assert not re.fullmatch(expression, text), text


@given(st.text(alphabet='ab^$.()[]|*+?{}12,\\dws-"', max_size=30))
def test_any_pattern_is_refused_or_has_a_sound_grammar(pattern: str) -> None:
    try:
        text = grammar_of({"type": "string", "pattern": pattern})
    except InvalidRequest:
        return
    check_grammar(text)
