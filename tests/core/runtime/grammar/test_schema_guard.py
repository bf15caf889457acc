"""JSON schemas as answers are held to them: what is admitted, refused by name, or left out."""

import json
import random
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.grammar.answer_grammar import of_schema
from modeldeck.core.runtime.grammar.schema_guard import DIFFICULT, prepare
from tests.support.byte_vocabulary import VOCABULARY, any_answer, follows


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        # Keywords without an effect here.
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "object", "propertyNames": {"pattern": "^a"}}, "propertyNames"),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, "dependentRequired"),
        ({"not": {}}, "not"),
        ({"if": {}, "then": {}}, "if"),
        ({"type": "array", "contains": {}}, "contains"),
        ({"type": "object", "unevaluatedProperties": False}, "unevaluatedProperties"),
        ({"frobnicate": 1}, "frobnicate"),
        ({"x-guidance": {"lenient": True}, "type": "object"}, "x-guidance"),
        # Values that are wrong.
        ({"type": "colour"}, "a type 'colour'"),
        ({"enum": ["a"], "type": "word"}, "a type 'word'"),
        ({"type": "string", "minLength": -1}, "minLength must be a whole number"),
        ({"type": "string", "minLength": True}, "minLength must be a whole number"),
        ({"type": "integer", "minimum": "3"}, "minimum must be a number"),
        ({"type": "integer", "minimum": 10**400}, "minimum must be a number"),
        ({"type": "integer", "multipleOf": 0}, "multipleOf must be a number above 0"),
        ({"enum": []}, "enum must be a list of values"),
        ({"anyOf": []}, "anyOf must be a list of schemas"),
        ({"anyOf": [3]}, "anyOf must be a list of schemas"),
        ({"$ref": 3}, "$ref must be a reference"),
        ({"type": "object", "properties": []}, "properties must be an object of schemas"),
        ({"type": "object", "properties": {"a": 7}}, "properties must be an object of schemas"),
        ({"type": "array", "prefixItems": {}}, "prefixItems must be a list of schemas"),
        # References.
        ({"$ref": "#/nowhere"}, "nothing at"),
        ({"$ref": "#/enum", "enum": [1]}, "no schema at"),
        ({"$ref": "https://example.org"}, "refers to"),
        ({"$ref": "#"}, "$ref '#' leads back to itself"),
        ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "leads back to itself"),
        (
            {
                "properties": {"a": {"$ref": "#/$defs/b"}},
                "$defs": {"b": {"allOf": [{"$ref": "#/$defs/c"}]}, "c": {"$ref": "#/$defs/b"}},
            },
            "leads back to itself",
        ),
        # Demands that no answer meets.
        ({"type": "string", "minLength": 100_000}, "minLength is 100000; the most is 500"),
        ({"type": "array", "minItems": 10**9}, "minItems is 1000000000"),
        ({"type": "string", "maxLength": 1, "minLength": 2}, "minLength (2) is greater"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "minItems (3) is greater"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "minimum (3) is greater"),
        ({"type": "string", "enum": [1, None]}, "Unsatisfiable"),
        ({"const": 1, "enum": [True]}, "Unsatisfiable"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "Unsatisfiable"),
        ({"enum": ["abc"], "maxLength": 1}, "Unsatisfiable"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "property 'a'"),
        # Patterns.
        ({"type": "string", "pattern": "("}, "a pattern is wrong: unclosed group"),
        ({"type": "string", "pattern": "^(?=a)a$"}, "a pattern is wrong: look-around"),
        ({"type": "string", "pattern": "^(a)\\1$"}, "a pattern is wrong: backreferences"),
        ({"patternProperties": {"^a": {}, "b$": {"type": "null"}}}, "not disjoint"),
        # Sizes.
        ({"enum": ["x" * 100_000] * 3}, "characters; the most are"),
        ({"properties": {f"p{i}": {"type": "object"} for i in range(3000)}}, "parts"),
    ],
)
def test_what_cannot_be_held_is_refused_by_name(schema: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        VOCABULARY.matcher(of_schema(schema))
    assert why in caught.value.message
    assert len(caught.value.message) < 400


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


NODE = {
    "$defs": {
        "node": {
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["next"],
        }
    },
    "$ref": "#/$defs/node",
}


@pytest.mark.parametrize(
    ("schema", "answers", "others"),
    [
        ({}, ['{"a": [1, {}]}', "{}"], ["[]", "1"]),
        ({"title": "any", "description": "..."}, ["{}"], ["1"]),
        # Closed where a schema leaves it open.
        ({"properties": {"a": {}}}, ["{}", '{"a": 1}'], ['{"b": 1}', "1"]),
        ({"type": "object", "required": ["x"]}, ['{"x": 1, "y": 2}'], ["{}"]),
        ({"properties": {"a": {}}, "required": ["b"]}, ['{"b": 1}', '{"a": 1, "b": 2}'], ["{}"]),
        (
            {"properties": {"a": True}, "additionalProperties": {"type": "null"}},
            ['{"a": 1, "b": null}'],
            ['{"b": 1}'],
        ),
        ({"type": "array", "items": [{"type": "null"}, {}]}, ["[null, 1]"], ["[null, 1, 2]"]),
        ({"prefixItems": [{"type": "null"}]}, ["[null]"], ["[null, 1]", "[]"]),
        ({"prefixItems": [{}], "items": {"type": "null"}}, ["[1, null]"], ["[1, 2]"]),
        ({"type": "array", "items": False}, ["[]"], ["[1]"]),
        ({"type": "array", "maxItems": 0}, ["[]"], ["[1]"]),
        # Whitespace, on one line or many, and bounded.
        (
            {"properties": {"a": {}}, "required": ["a"]},
            ['{"a":1}', '{ "a" : 1 }', '{\n  "a": 1\n}', "{\n" + " " * 20 + '"a": 1}'],
            ['{  "a": 1}', '{\n\n"a": 1}', "{\n" + " " * 21 + '"a": 1}', ' {"a": 1}', '{"a": 1} '],
        ),
        # Fixed values follow the keywords beside them.
        ({"type": "string", "enum": ["a", 1, None]}, ['"a"'], ["1", "null"]),
        ({"type": ["integer", "null"], "enum": [1, 1.5, True, None]}, ["1", "null"], ["1.5"]),
        ({"const": "a", "enum": ["b", "a"]}, ['"a"'], ['"b"']),
        ({"enum": ["a", "b"], "format": "color"}, ['"b"'], ['"c"']),
        ({"enum": ["a", 1], "anyOf": [{"type": "string"}]}, ['"a"'], ["1"]),
        ({"oneOf": [{"const": 1}, {"const": 'a\n"\\'}]}, ["1", '"a\\n\\"\\\\"'], ['"a"']),
        # Keywords beside references and alternatives, and parts that must all hold.
        (
            {"$defs": {"s": {"type": "string"}}, "$ref": "#/$defs/s", "maxLength": 2},
            ['"ab"'],
            ['"abc"'],
        ),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}}, ["null"], ["1"]),
        ({"allOf": [True, {"type": "null"}]}, ["null"], ["1"]),
        (
            {
                "allOf": [{"$ref": "#/$defs/a"}, {"properties": {"y": {}}, "required": ["y"]}],
                "$defs": {"a": {"properties": {"x": {"type": "null"}}, "required": ["x"]}},
            },
            ['{"x": null, "y": 1}'],
            ['{"x": null}', '{"x": null, "y": 1, "z": 2}'],
        ),
        (
            {"properties": {"a": {}, "b": {}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
            ['{"a": 1}', '{"b": 1}'],
            ["{}", '{"a": 1, "c": 1}'],
        ),
        # Overlapping alternatives of oneOf are not told apart.
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, ["1", "1.5"], ['"a"']),
        (NODE, ['{"next": {"next": null}}'], ['{"next": 1}', "{}"]),
        # Names, numbers, strings.
        ({"patternProperties": {"^x": {"type": "null"}}}, ['{"xa": null}'], ['{"xa": 1}']),
        ({"minProperties": 2}, ['{"a": 1, "b": 2}'], ['{"a": 1}']),
        (
            {"properties": {"a": {}, "b": {}}, "minProperties": 1},
            ['{"a": 1}', '{"b": 2}'],
            ["{}", '{"c": 1}'],
        ),
        ({"type": "integer", "multipleOf": 5}, ["10", "-5"], ["11"]),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, ["0.1", "0.5"], ["0", "0.0"]),
        ({"type": "number", "exclusiveMaximum": 2, "minimum": 1.5}, ["1.5", "1.9"], ["2", "1"]),
        ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10}, ["1", "9"], ["0"]),
        ({"type": "integer", "minimum": -3, "maximum": 1000}, ["-3", "1000"], ["-4", "1001"]),
        ({"type": "string", "minimum": 3}, ['"a"'], ["4"]),
        ({"type": ["string", "null"], "maxLength": 10**6}, ['"a"', "null"], ["1"]),
        ({"type": "string", "maxLength": 3, "pattern": "^a+$"}, ['"aaa"'], ['"aaaa"', '"b"']),
        ({"pattern": "b+"}, ['"abba"'], ['"aca"', "1"]),
        ({"type": "string", "pattern": "^a|b$"}, ['"ax"', '"xb"'], ['"xa"']),
        ({"format": "date"}, ['"2026-01-31"'], ['"2026-13-31"', '"today"']),
        ({"type": "string", "format": "email"}, ['"a@b.de"'], ['"nobody"']),
        ({"type": "string", "format": "date", "maxLength": 10}, ['"2026-01-31"'], ['"2026"']),
        ({"type": "string", "format": "zork"}, ['"x"'], ["1"]),
        ({"type": "integer", "format": "int32"}, ["7"], ['"7"']),
        ({"type": "array", "items": nested(20), "maxItems": 400}, ["[]"], ["[1]"]),
    ],
)
def test_a_schema_admits_what_fits_it(
    schema: dict[str, Any], answers: list[str], others: list[str]
) -> None:
    grammar = of_schema(schema)
    assert [text for text in answers if not follows(grammar, text)] == []
    assert [text for text in others if follows(grammar, text)] == []


@pytest.mark.parametrize(
    ("schema", "answers"),
    [
        ({"type": "array", "items": {"type": "null"}, "uniqueItems": True}, ["[null, null]"]),
        ({"type": "string", "minLength": 10**9}, ['""']),
        ({"not": {"type": "string"}}, ['{"a": 1}']),
        ({"$ref": "https://example.org/schema"}, ["1"]),
        ({"type": "string", "pattern": "^(?=a).*$"}, ['"b"']),
        ({"properties": {"a": {}, "b": {}}, "minProperties": 2}, ["{}", '{"a": 1}']),
    ],
)
def test_a_schema_that_is_not_strict_is_held_as_far_as_it_can_be(
    schema: dict[str, Any], answers: list[str]
) -> None:
    grammar = of_schema(schema, strict=False)
    assert [text for text in answers if not follows(grammar, text)] == []
    with pytest.raises(InvalidRequest):
        VOCABULARY.matcher(of_schema(schema))


def test_the_schema_stays_as_it_is_but_for_what_is_known() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Plan",
        "type": "object",
        "properties": {"enum": {"$ref": "#/$defs/day"}, "one": {"const": {"$ref": "#/$defs/day"}}},
        "examples": [{}],
        "$defs": {"day": {"enum": ["mon", "tue"]}, "unused": {"type": {}}},
    }
    assert prepare(schema) == {
        "type": "object",
        "properties": {"enum": {"$ref": "#/$defs/d0"}, "one": {"const": {"$ref": "#/$defs/day"}}},
        "additionalProperties": False,
        "$defs": {"d0": {"enum": ["mon", "tue"]}},
    }
    loose = prepare({"type": "string", "pattern": "a", "zork": 1}, left_out=DIFFICULT)
    assert loose == {"type": "string"}


@given(st.recursive(st.integers(-99, 99) | st.booleans() | st.text() | st.none(), st.lists))
def test_any_json_follows_the_grammar_of_any_json(value: object) -> None:
    text = json.dumps({"x": value}, ensure_ascii=False).replace("\x7f", "")
    assert follows(of_schema({}), text)
    assert not follows(of_schema({}), text[:-1])


def some_schema(chance: random.Random, depth: int = 0) -> Any:
    """A sound schema of keywords that are enforced, with references to the others in `$defs`."""
    kind = chance.choice(["object", "object", "array", "string", "number", "parts", "ref"])
    if depth > 3:
        return chance.choice([{"type": "string"}, {"type": "null"}, True, {"enum": ["a", 1]}])
    found: dict[str, Any] = {}
    if kind == "object":
        names = chance.sample(["a", "b", "ab", 'q"', "é"], chance.randint(0, 3))
        found = {"type": "object", "properties": {n: some_schema(chance, depth + 1) for n in names}}
        if chance.random() < 0.5:
            found["required"] = chance.sample(["a", "b", "z"], chance.randint(0, 2))
        if chance.random() < 0.3:
            found["additionalProperties"] = chance.choice([True, False, {"type": "integer"}])
    elif kind == "array":
        found = {"type": "array", "items": some_schema(chance, depth + 1)}
        if chance.random() < 0.3:
            found["prefixItems"] = [some_schema(chance, depth + 1)]
        found |= {"minItems": chance.randint(0, 2)} if chance.random() < 0.3 else {}
        found |= {"maxItems": chance.randint(0, 4)} if chance.random() < 0.3 else {}
    elif kind == "string":
        found = {"type": "string", "maxLength": chance.randint(1, 9)}
        if chance.random() < 0.5:
            found["pattern"] = chance.choice(["^[a-z]+$", "a|b", "^(a|b)c?$", "b+", "^\\d{2,3}$"])
    elif kind == "number":
        found = {"type": chance.choice(["number", "integer", ["integer", "null"]])}
        for word in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if chance.random() < 0.3:
                found[word] = chance.choice([0, 1, -1, 5, 10, -7.5, 0.1, 99, 1.25, -1e-3])
    elif kind == "parts":
        word = chance.choice(["anyOf", "oneOf", "allOf"])
        found = {word: [some_schema(chance, depth + 1) for _ in range(chance.randint(1, 3))]}
        beside = some_schema(chance, depth + 1) if chance.random() < 0.4 else {}
        found |= beside if isinstance(beside, dict) else {}
    else:
        found = {"$ref": chance.choice(["#/$defs/a", "#/$defs/b"])}
    return found


def test_every_answer_fits_its_schema() -> None:
    chance = random.Random(5)
    told = 0
    for _ in range(300):
        schema = some_schema(chance)
        if not isinstance(schema, dict):
            continue
        schema["$defs"] = {"a": some_schema(chance, 1), "b": some_schema(chance, 2)}
        try:
            answer = any_answer(of_schema(schema), chance)
        except InvalidRequest:
            continue  # nothing fits it, or it refers to itself
        if answer is not None:
            told += 1
            # Alternatives of oneOf may overlap.
            whole = json.loads(json.dumps(schema).replace('"oneOf"', '"anyOf"'))
            jsonschema.validate(json.loads(answer), whole)
    assert told > 100
