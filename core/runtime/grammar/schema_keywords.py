"""The keywords of JSON Schema that answers can be held to, and the shapes of their values. Pure.

Keywords: JSON Schema 2020-12, with `definitions` and `additionalItems` of older drafts. What
llguidance enforces: docs/json_schema.md of github.com/guidance-ai/llguidance.
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
        *("$schema", "$id", "$comment", "$anchor", "$defs", "definitions", "id"),
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
        *("contentEncoding", "contentMediaType", "strict"),
        "discriminator",  # OpenAPI's, beside oneOf: it says which alternative it is, once more
    ]
)
"""Keywords that only describe, or only hold what references lead to."""
APPLICATORS = ("$ref", "anyOf", "oneOf", "allOf")
"""Keywords whose schemas apply to the same value as the schema that they stand in."""
FOR_TYPE: Mapping[str, frozenset[str]] = {
    "object": frozenset(
        {"properties", "required", "additionalProperties", "patternProperties"}
        | {"minProperties", "maxProperties"}
    ),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "number": frozenset(
        {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    ),
    "integer": frozenset(),
    "boolean": frozenset(),
    "null": frozenset(),
}
"""Types, and the keywords that have a meaning for each; those of an integer are a number's."""
FORMATS = frozenset(
    [
        *("date", "time", "date-time", "duration", "uuid"),
        *("email", "hostname", "ipv4", "ipv6", "uri"),
    ]
)
"""Formats of strings that are enforced; others only describe."""
LEAST = ("minItems", "minLength", "minProperties")
"""Keywords that demand a size."""
MOST = ("maxItems", "maxLength", "maxProperties")
"""Keywords that bound a size."""


def _is_schema(value: Any) -> bool:
    return isinstance(value, (Mapping, bool))


def _is_list_of_schemas(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_schema, value))


def _is_map_of_schemas(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_schema, value.values()))


def _is_number(value: Any) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_Shape = tuple[str, Callable[[Any], bool]]
_SCHEMAS: _Shape = ("a list of schemas", _is_list_of_schemas)
_SCHEMA_MAP: _Shape = ("an object of schemas", _is_map_of_schemas)
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
    "properties": _SCHEMA_MAP,
    "patternProperties": _SCHEMA_MAP,
    "required": ("a list of names", _is_list_of_texts),
    "additionalProperties": ("a schema", _is_schema),
    "items": (
        "a schema",
        lambda v: _is_schema(v) or (isinstance(v, list) and all(map(_is_schema, v))),
    ),
    "additionalItems": ("a schema", _is_schema),
    "prefixItems": _SCHEMAS,
    "pattern": ("a regular expression", _is_text),
    "format": ("the name of a format", _is_text),
    "minimum": _NUMBER,
    "maximum": _NUMBER,
    "exclusiveMinimum": _NUMBER,
    "exclusiveMaximum": _NUMBER,
    "multipleOf": ("a number above 0", lambda v: _is_number(v) and v > 0),
    **dict.fromkeys((*LEAST, *MOST), _COUNT),
}
"""Keywords that are enforced, and the shapes of their values."""
ENFORCED = frozenset(_SHAPES)


def check_shape(key: str, value: Any) -> None:
    """Raise InvalidRequest, naming the keyword, for a value of the wrong shape."""
    words, holds = _SHAPES[key]
    if not holds(value):
        raise InvalidRequest(f"The JSON schema's {key} must be {words}, not {short(value)}.")
    if key == "type":
        for name in value if isinstance(value, list) else [value]:
            if name not in FOR_TYPE:
                raise InvalidRequest(f"The JSON schema has a type {short(name)}.")


_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
"""An index of an array in a JSON pointer (RFC 6901, section 4)."""


def resolve(whole: Mapping[str, Any], reference: str) -> Any:
    """Return the target of a reference within the schema (RFC 6901).

    Raises InvalidRequest for one that leads nowhere, or out of the schema.
    """
    if not re.match(r"#(/|$)", reference):
        raise InvalidRequest(
            f"The JSON schema's $ref refers to {short(reference)}.",
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
            raise InvalidRequest(f"The JSON schema's $ref has nothing at {short(reference)}.")
    if not _is_schema(target):
        raise InvalidRequest(f"The JSON schema's $ref finds no schema at {short(reference)}.")
    return target


def short(value: Any) -> str:
    """A value of a schema as an error shows it."""
    if isinstance(value, (Mapping, list)) and len(value) > 20:
        return f"a list of {len(value)}" if isinstance(value, list) else "a large object"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return repr(text[:60])


def cannot(what: str) -> InvalidRequest:
    """The error for a part of a schema that no answer can be held to."""
    return InvalidRequest(
        f"No answer can be held to this part of the JSON schema: {what[:80]}.", "Leave it out."
    )
