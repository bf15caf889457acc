"""The keywords of JSON Schema: which are known, and what their values must look like. Pure.

Every schema is checked here before it is made into a grammar, so that what makes the grammar may
trust the types of what it reads. Keywords: JSON Schema 2020-12, and `definitions` of older drafts.
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
"""Keywords that a grammar can follow, and what their values must be."""


def check_keywords(schema: Mapping[str, Any]) -> int:
    """Check the keywords of one schema, not those of the schemas within it.

    Returns how many entries were looked at. Raises InvalidRequest, naming the keyword, for a value
    of the wrong shape and for a keyword that narrows the answer and has no grammar.
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


_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
"""An index of an array in a JSON pointer (RFC 6901, section 4)."""


def resolve(whole: Mapping[str, Any], reference: Any) -> Any:
    """What a reference within the schema points to (RFC 6901). Others are never followed."""
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
