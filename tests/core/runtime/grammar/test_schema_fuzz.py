"""Schemas of all kinds, sound and wrong: each has a grammar or is refused in words, in time."""

import json
import random
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.grammar.answer_grammar import of_schema
from modeldeck.core.runtime.grammar.matcher import Matcher
from modeldeck.core.runtime.text.call_grammar import grammar_for
from modeldeck.core.schema import GenerateRequest, Message, Tool
from tests.support.byte_vocabulary import VOCABULARY, any_answer

SCHEMAS = 20_000
MOST_BYTES = 512 << 20
"""Memory that one schema may take."""
LONGEST_S = 1.0
"""Processor time that one schema may take."""

WORDS = [
    *("type", "const", "enum", "$ref", "anyOf", "oneOf", "allOf", "properties", "required"),
    *("additionalProperties", "items", "prefixItems", "minItems", "maxItems", "minLength"),
    *("maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "not"),
    *("exclusiveMaximum", "title", "$defs", "definitions", "uniqueItems", "additionalItems"),
    *("patternProperties", "minProperties", "maxProperties", "multipleOf"),
]
TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"]
REFERENCES = [
    *("#", "#/", "#/$defs/a", "#/$defs/b", "#/properties/a", "#/allOf/0", "#/anyOf/1"),
    *("#/anyOf/\u00b2", "#/anyOf/" + "9" * 5000, "#/~0~1", "other.json", "#a", ""),
]
PATTERNS = [
    *("^[a-z]+$", "(", "(a|b)*", "[^\\d-]{2,}", "^(a{9}){9}$", "a{9999}", "\\", "((((a*)*)*)*)*"),
    *("[]", "[b-a]", "^$", "(?=a)", "\\u0041", "x" * 1200),
]
NAMES = ["a", "b", "ab", "a b", 'a"', "", "\u00e9", "$ref", "a" * 300]


def read(schema: dict[str, Any]) -> Matcher:
    """What an engine makes of a schema before the first token."""
    return VOCABULARY.matcher(of_schema(schema))


def anything(chance: random.Random) -> Any:
    """A value that a keyword was perhaps not made for."""
    return chance.choice(
        [
            *(None, True, False, 0, 1, -1, 2.0, 1.5, 1e308, -1e308, 10**40, 501, "", "a", [], {}),
            *([[]], [{}], {"a": 1}, {"a": {}}, [None], ["a", "a"], [["a"]], "x" * 3000),
        ]
    )


def number(chance: random.Random) -> Any:
    return chance.choice([0, 1, 2, 7, 99, 255, 500, -3, -1000, 1e15, 123456789, 0.5, 10**15])


def schemas(chance: random.Random, depth: int, most: int = 4) -> list[Any]:
    return [schema(chance, depth + 1) for _ in range(chance.randint(0, most))]


def fitting(word: str, chance: random.Random, depth: int) -> Any:
    """A value as the keyword wants it, mostly."""
    match word:
        case "type":
            return chance.choice([*TYPES, *TYPES, chance.choices(TYPES, k=2), ["null"], "any"])
        case "const" | "enum":
            return [anything(chance) for _ in range(chance.randint(0, 4))]
        case "$ref":
            return chance.choice(REFERENCES)
        case "anyOf" | "oneOf" | "allOf" | "prefixItems":
            return schemas(chance, depth)
        case "properties" | "$defs" | "definitions":
            names = chance.sample(NAMES, chance.randint(0, 4))
            return {name: schema(chance, depth + 1) for name in names}
        case "patternProperties":
            return {chance.choice(PATTERNS): schema(chance, depth + 1)}
        case "required":
            return chance.choices(NAMES, k=chance.randint(0, 3))
        case "additionalProperties" | "items" | "not" | "additionalItems":
            return schema(chance, depth + 1)
        case "pattern":
            return chance.choice(PATTERNS)
        case "format":
            return chance.choice(["date", "time", "date-time", "uuid", "email"])
        case "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties":
            return chance.choice([0, 1, 2, 3, 50, 500])
    return number(chance)


def schema(chance: random.Random, depth: int = 0) -> Any:
    """A schema, sometimes a wrong one."""
    if depth > 5 or chance.random() < 0.05:
        return anything(chance) if chance.random() < 0.3 else {}
    found: dict[str, Any] = {}
    for word in chance.sample(WORDS, chance.choice([1, 1, 1, 2, 2, 3, 5])):
        wrong = chance.random() < 0.05
        found[word] = anything(chance) if wrong else fitting(word, chance, depth)
    return found


def test_any_schema_is_refused_in_words_or_has_a_grammar_within_a_second() -> None:
    """Each schema is one of 20,000 that the same seed gives; a failure shows the schema."""
    chance = random.Random(12)
    sound = 0
    for count in range(SCHEMAS):
        found = schema(chance)
        if not isinstance(found, dict):
            continue
        if count % 3 == 0:  # circles have something to go through
            found["$defs"] = {"a": schema(chance, 3), "b": schema(chance, 3)}
        started, words = time.process_time(), ""
        try:
            read(found)
            sound += 1
        except InvalidRequest as error:
            words = str(error)
        except BaseException:
            print(json.dumps(found)[:20_000])
            raise
        assert len(words) < 1000, json.dumps(found)[:2000]
        assert time.process_time() - started < LONGEST_S, json.dumps(found)[:2000]
    assert sound > SCHEMAS / 50, "the generator makes wrong schemas only"


def memory() -> int:
    """The most bytes that this process has taken so far."""
    unit = 1024 if sys.platform == "linux" else 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def chain(length: int) -> dict[str, Any]:
    """References that lead from one to the next."""
    return {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(length)}


def deep(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


HOSTILE: dict[str, Callable[[], dict[str, Any]]] = {
    "a circle of references in allOf": lambda: {
        "allOf": [{"$ref": "#/$defs/a"}],
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    },
    "allOf of itself": lambda: {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}},
    },
    "anyOf of itself beside keywords": lambda: {
        "$defs": {"a": {"type": "string", "anyOf": [{"$ref": "#/$defs/a"}] * 3}},
        "anyOf": [{"$ref": "#/$defs/a"}] * 3,
    },
    "a long chain of references": lambda: {"$ref": "#/$defs/d0", "$defs": chain(20_000)},
    "a long chain of references in allOf": lambda: {
        "allOf": [{"$ref": "#/$defs/d0"}],
        "$defs": {**chain(20_000), "d20000": {}},
    },
    "alternatives beside many names": lambda: {
        "anyOf": [{"type": "object"}] * 1900,
        "required": [f"n{i}" for i in range(50_000)],
    },
    "alternatives beside many properties": lambda: {
        "anyOf": [{"type": "object"}] * 1900,
        "properties": {f"n{i}": {} for i in range(30_000)},
    },
    "many required among many properties": lambda: {
        "properties": {f"n{i}": True for i in range(30_000)},
        "required": [f"n{i}" for i in range(30_000)],
    },
    "many unknown keywords": lambda: {f"k{i}": i for i in range(50_000)},
    "allOf of very many": lambda: {"allOf": [{"required": [f"n{i}"]} for i in range(30_000)]},
    "allOf of equal large parts": lambda: {
        "allOf": [{"enum": [[i] for i in range(20_000)]} for _ in range(20)],
    },
    "a constant of a megabyte": lambda: {"const": "x" * (1 << 20)},
    "many constants": lambda: {"enum": list(range(200_000))},
    "a long name beside others": lambda: {
        "properties": {"a" * 100_000: {}},
        "additionalProperties": True,
    },
    "many long names beside others": lambda: {
        "properties": {f"{i:03}" + "ab" * 98: {} for i in range(1000)},
        "additionalProperties": True,
    },
    "a constant nested deeply": lambda: {"const": deep(100_000)},
    "a pattern of groups within groups": lambda: {"pattern": "^" + "(" * 400 + ")*" * 400 + "$"},
    "alternatives of alternatives": lambda: {"pattern": "^((a|b)?(c|d)?){90}$"},
    "optional properties, two thousand": lambda: {
        "properties": {f"k{i}": {"type": "string"} for i in range(1900)}
    },
    "objects that begin alike": lambda: {
        "anyOf": [
            {"properties": {"a": {"type": "integer"}, f"k{i}": {}}, "required": ["a", f"k{i}"]}
            for i in range(400)
        ]
    },
    "a pattern with a long memory": lambda: {"pattern": "^[ab]*a[ab]{20}$"},
    "patterns that must all hold": lambda: {
        "allOf": [{"type": "string", "pattern": f"^.*{c}.{{40}}$"} for c in "abcdefgh"]
    },
    "a pattern that may begin anywhere": lambda: {"pattern": "^(.*a){30}$"},
    "multiples of a large prime": lambda: {"type": "integer", "multipleOf": 99991},
    "a range without an end": lambda: {"type": "number", "minimum": 1e-300, "maximum": 1e300},
    "parts of parts of parts": lambda: {
        "$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(12)}
        | {"d12": {"type": "integer"}},
        "$ref": "#/$defs/d0",
    },
    "many patterns of names": lambda: {
        "patternProperties": {f"^{chr(97 + i % 26)}.*{i}$": {} for i in range(200)}
    },
    "arrays of arrays": lambda: {
        "$defs": {"a": {"items": {"$ref": "#/$defs/a"}, "minItems": 500, "maxItems": 500}},
        "items": {"$ref": "#/$defs/a"},
    },
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_schemas_made_to_hold_an_engine_up_do_not(kind: str) -> None:
    found = HOSTILE[kind]()
    before = memory()
    started = time.process_time()
    try:
        grammar = of_schema(found)
        VOCABULARY.matcher(grammar)
        assert time.process_time() - started < LONGEST_S
        started = time.process_time()
        any_answer(grammar, random.Random(3), most=20)
    except InvalidRequest:
        pass
    assert time.process_time() - started < 5 * LONGEST_S
    assert memory() - before < MOST_BYTES


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"type": {}}, "type"),
        ({"type": []}, "type"),
        ({"type": ["string", 3]}, "type"),
        ({"type": "object", "properties": None}, "properties"),
        ({"type": "object", "required": [{}]}, "required"),
        ({"type": "object", "required": "name"}, "required"),
        ({"type": "array", "minItems": None}, "minItems"),
        ({"type": "array", "maxItems": 1e308}, "maxItems"),
        ({"type": "array", "items": 3}, "items"),
        ({"type": "string", "format": {}}, "format"),
        ({"type": "string", "pattern": 5}, "pattern"),
        ({"type": "number", "maximum": [1]}, "maximum"),
        ({"type": "integer", "minimum": float("inf")}, "minimum"),
        ({"type": "integer", "exclusiveMinimum": float("nan")}, "exclusiveMinimum"),
        ({"type": "integer", "exclusiveMaximum": True}, "exclusiveMaximum"),
        ({"type": "object", "additionalProperties": "no"}, "additionalProperties"),
        ({"anyOf": {"type": "string"}}, "anyOf"),
        ({"allOf": [{"$ref": ["#"]}]}, "$ref"),
        ({"allOf": [True, {"properties": {"a": 3}}]}, "properties"),
        ({"$defs": [{}], "$ref": "#/$defs/" + "9" * 5000}, "has nothing at"),
        ({"$defs": [{}], "$ref": "#/$defs/\u00b2"}, "has nothing at"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "property 'a'"),
    ],
)
def test_a_malformed_schema_is_refused_by_its_keyword(schema: dict[str, Any], keyword: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(schema)
    assert keyword in caught.value.message


@pytest.mark.parametrize(
    ("parameters", "keyword"),
    [({"type": {}}, "type"), ({"minLength": -1}, "minLength"), ({"enum": []}, "enum")],
)
def test_malformed_parameters_of_a_tool_are_refused_by_tool_and_keyword(
    parameters: dict[str, Any], keyword: str
) -> None:
    tool = Tool(name="plan", parameters={"type": "object", "properties": {"x": parameters}})
    asked = GenerateRequest(
        messages=(Message(role="user", content="x"),), tools=(tool,), tool_choice="required"
    )
    with pytest.raises(InvalidRequest, match=rf"tool 'plan': .*{keyword} must be"):
        grammar_for(asked, "{{ tools }}")
