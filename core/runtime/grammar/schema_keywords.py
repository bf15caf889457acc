"""The supported keywords of JSON Schema, and the shapes of their values. Pure.

Every schema is checked here before it is translated, so that the translation may rely on the types
of values. Keywords: JSON Schema 2020-12, and `definitions` of older drafts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from modeldeck.core.errors import InvalidRequest

ANNOTATIONS = frozenset(
    [
        "$schema",
        "$id",
        "$comment",
        "$anchor",
        "$defs",
        "definitions",
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "contentEncoding",
        "contentMediaType",
        "strict",
    ]
)
"""Keywords that only describe."""
FOR_TYPE: Mapping[str, frozenset[str]] = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "format"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "format"}),
    "boolean": frozenset(),
    "null": frozenset(),
}
"""Types, and the keywords that have a meaning for each."""

FORMATS = {
    "date": '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])',
    "time": '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})?'
    ' ("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])',
    "uuid": '[0-9a-f]{8} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{12}',
}
FORMATS["date-time"] = f'{FORMATS["date"]} "T" {FORMATS["time"]}'
"""Grammars of the formats of strings that are followed; others only describe."""


def _is_schema(value: Any) -> bool:
    return isinstance(value, (Mapping, bool))


def _is_list_of_schemas(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_schema, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_Shape = tuple[str, Callable[[Any], bool]]
_SCHEMAS: _Shape = ("a list of schemas", _is_list_of_schemas)
_NUMBER: _Shape = ("a number", _is_number)
_COUNT: _Shape = ("a whole number that is not negative", _is_count)
_SHAPES: Mapping[str, _Shape] = {
    "type": (
        "the name of a type or a list of names",
        lambda v: _is_text(v) or (_is_list_of_texts(v) and bool(v)),
    ),
    "const": ("a value", lambda v: True),
    "enum": ("a list of values", lambda v: isinstance(v, list) and bool(v)),
    "$ref": ("a reference", _is_text),
    "anyOf": _SCHEMAS,
    "oneOf": _SCHEMAS,
    "allOf": _SCHEMAS,
    "properties": (
        "an object of schemas",
        lambda v: isinstance(v, Mapping) and all(map(_is_schema, v.values())),
    ),
    "required": ("a list of names", _is_list_of_texts),
    "additionalProperties": ("a schema", _is_schema),
    "items": ("a schema", lambda v: _is_schema(v) or _is_list_of_schemas(v)),
    "prefixItems": _SCHEMAS,
    "minItems": _COUNT,
    "maxItems": _COUNT,
    "minLength": _COUNT,
    "maxLength": _COUNT,
    "pattern": ("a regular expression", _is_text),
    "format": ("the name of a format", _is_text),
    "minimum": _NUMBER,
    "maximum": _NUMBER,
    "exclusiveMinimum": _NUMBER,
    "exclusiveMaximum": _NUMBER,
}
"""Keywords with a grammar, and the shapes of their values."""


def check_keywords(schema: Mapping[str, Any]) -> int:
    """Check the keywords of one schema, not those of the schemas within it.

    Returns the number of entries. Raises InvalidRequest, naming the keyword, for a value of the
    wrong shape and for a keyword that narrows the answer and has no grammar.
    """
    entries = len(schema)
    if unknown := sorted(schema.keys() - _SHAPES.keys() - ANNOTATIONS):
        raise cannot(unknown[0])
    for key, value in schema.items():
        if key in ANNOTATIONS:
            continue
        words, holds = _SHAPES[key]
        if not holds(value):
            raise InvalidRequest(f"The JSON schema's {key} must be {words}, not {short(value)}.")
        if isinstance(value, (Mapping, list)):
            entries += len(value)
    return entries


def types_of(schema: Mapping[str, Any]) -> list[str]:
    """The names in a schema's `type`; none without it. Raises InvalidRequest for an unknown one."""
    kind = schema.get("type", [])
    kinds = kind if isinstance(kind, list) else [kind]
    for name in kinds:
        if name not in FOR_TYPE:
            raise InvalidRequest(f"The JSON schema has a type {short(name)}.")
    return kinds


def fixed_values(schema: Mapping[str, Any]) -> list[Any]:
    """The values that a schema with `const` or `enum` admits, in their order.

    Beside them only `type` is followed, and formats that only describe are passed over. Raises
    InvalidRequest for any other keyword, which would be ignored, and where no value is left.
    """
    word = "const" if "const" in schema else "enum"
    others = schema.keys() - ANNOTATIONS - {"const", "enum", "type"}
    if schema.get("format") not in FORMATS:
        others -= {"format"}
    if others:
        raise cannot(f"{min(others)} beside {word}")
    kinds = types_of(schema)
    values = [schema["const"]] if "const" in schema else schema["enum"]
    if word == "const" and "enum" in schema:
        values = [v for v in values if any(same(v, other) for other in schema["enum"])]
    if kinds:
        values = [value for value in values if any(_is_of_type(value, kind) for kind in kinds)]
    if not values:
        raise InvalidRequest(f"The JSON schema's {word} leaves no value that fits its other parts.")
    return values


def _is_of_type(value: Any, kind: str) -> bool:
    """Whether a JSON value is of a type (JSON Schema validation, section 6.1.1)."""
    match value:
        case None | bool():
            return kind == ("null" if value is None else "boolean")
        case int() | float():
            return kind == "number" or (kind == "integer" and value == value // 1)
        case str():
            return kind == "string"
        case list():
            return kind == "array"
    return kind == "object"


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal (JSON Schema core, section 4.2.2): 1 is 1.0 and not true.

    Raises RecursionError for equal values that are nested deeply.
    """
    if one is other or isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


_MAPS_OF_SCHEMAS = frozenset({"properties", "$defs", "definitions"})
_VALUES = frozenset({"const", "enum", "default", "examples"})


def rebase(schema: Any, place: str) -> Any:
    """Return a schema whose references still hold where it stands within another.

    Values of `const`, `enum`, `default` and `examples` are data and stay as they are.

    Args:
        schema: A schema, or a list of schemas.
        place: Where it stands in the whole, as a JSON pointer in a URI fragment: `#/anyOf/0`.

    Raises RecursionError for one that is nested deeply.

    >>> rebase({"items": {"$ref": "#/$defs/a"}, "const": {"$ref": "#/b"}}, "#/anyOf/0")
    {'items': {'$ref': '#/anyOf/0/$defs/a'}, 'const': {'$ref': '#/b'}}
    """
    if isinstance(schema, list):
        return [rebase(part, place) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    moved: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _VALUES:
            moved[key] = value
        elif key in _MAPS_OF_SCHEMAS and isinstance(value, Mapping):
            moved[key] = {name: rebase(part, place) for name, part in value.items()}
        elif key == "$ref" and isinstance(value, str) and value.startswith("#"):
            moved[key] = place + value[1:]
        else:
            moved[key] = rebase(value, place)
    return moved


_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
"""An index of an array in a JSON pointer (RFC 6901, section 4)."""


def resolve(whole: Mapping[str, Any], reference: Any) -> Any:
    """Return the target of a reference within the schema (RFC 6901); others are refused."""
    if not isinstance(reference, str) or not re.match(r"#(/|$)", reference):
        raise InvalidRequest(
            f"The JSON schema refers to {short(reference)}.",
            "Only references within it are taken.",
        )
    target: Any = whole
    for part in reference.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(target, Mapping) and key in target:
            target = target[key]
        elif isinstance(target, list) and _INDEX.fullmatch(key) and int(key) < len(target):
            target = target[int(key)]
        else:
            raise InvalidRequest(f"The JSON schema has nothing at {short(reference)}.")
    return target


def short(value: Any) -> str:
    """A value of a schema as an error shows it."""
    if isinstance(value, (Mapping, list)) and len(value) > 20:
        return f"a list of {len(value)}" if isinstance(value, list) else "a large object"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return repr(text[:60])


def cannot(what: str) -> InvalidRequest:
    """The error for a part of a schema that has no grammar."""
    return InvalidRequest(
        f"No answer can be held to this part of the JSON schema: {what[:80]}.", "Leave it out."
    )
