"""Operations and schemas of the documented API, and validation against a schema.

`pieces.json` is the part of an OpenAPI 3.1 document that describes the twelve operations. It is the
only source of their paths, names, types and enum values: routes are made from it, request bodies
and outgoing records are validated against it, and `/openapi.json` includes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from modeldeck.core.errors import InvalidRequest

DOCUMENT: Mapping[str, Any] = msgspec.json.decode(
    Path(__file__).with_name("pieces.json").read_bytes()
)
"""`tags`, `paths` and `components` of the documented API, in OpenAPI 3.1."""

SCHEMAS: Mapping[str, Mapping[str, Any]] = DOCUMENT["components"]["schemas"]

INT64 = range(-(1 << 63), 1 << 63)
"""Values of `format: int64`; C# and Dart cannot read larger ones."""

_KINDS: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def resolve(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema, with a `$ref` followed."""
    reference = schema.get("$ref")
    return SCHEMAS[reference.rsplit("/", 1)[1]] if reference else schema


def check(value: object, name: str, where: str = "") -> None:
    """Validate a value decoded from JSON against the schema of this name.

    Unknown properties are allowed, as in the documented clients. Raises InvalidRequest naming the
    field.
    """
    _check(value, SCHEMAS[name], where)


def problem(value: object, schema: Mapping[str, Any]) -> str | None:
    """The validation error of a value; None if it is valid."""
    try:
        _check(value, schema, "it")
    except InvalidRequest as error:
        return error.message
    return None


def timestamp(text: str) -> datetime:
    """A time as clients write it: ISO 8601, UTC if it has no offset.

    Python's SDK sends a naive `datetime` without an offset. Raises ValueError.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:  # year 1 or 9999, with an offset that leaves the range
        raise ValueError(str(error)) from error


def _check(value: object, schema: Mapping[str, Any], where: str) -> None:
    schema = resolve(schema)
    _check_kind(value, schema, where)
    if value is None:
        return
    if "enum" in schema and value not in schema["enum"]:
        raise _refusal(where, f"cannot be {str(value)[:60]!r}", _some(schema["enum"]))
    if isinstance(value, dict):
        _check_object(value, schema, where)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, schema.get("items", {}), f"{where}[{index}]")
    elif isinstance(value, int | float):
        _check_number(value, schema, where)
    elif schema.get("format") == "date-time" and isinstance(value, str):
        try:
            timestamp(value)
        except ValueError:
            raise _refusal(
                where, "is not a time", "ISO 8601, such as 2026-01-31T12:00:00Z"
            ) from None


def _check_kind(value: object, schema: Mapping[str, Any], where: str) -> None:
    wanted = schema.get("type", list(_KINDS))
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    kinds = {kind for name in names for kind in _KINDS[name]}
    if type(value) not in kinds:
        raise _refusal(where, f"must not be {_kind_of(value)}", " or ".join(names))


def _kind_of(value: object) -> str:
    if isinstance(value, float):
        return "a number with a fraction or an exponent"
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return "null" if value is None else kinds.get(type(value), "a number")


def _check_object(value: dict[Any, Any], schema: Mapping[str, Any], where: str) -> None:
    prefix = f"{where}." if where else ""
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            raise InvalidRequest(f"{prefix}{name} is missing.", "Send every required field.")
    for name, item in value.items():
        if name in properties:
            _check(item, properties[name], f"{prefix}{name}")
        elif "additionalProperties" in schema:
            _check(item, schema["additionalProperties"], f"{prefix}{name}")


def _check_number(value: float, schema: Mapping[str, Any], where: str) -> None:
    low, high = schema.get("minimum"), schema.get("maximum")
    if (low is not None and value < low) or (high is not None and value > high):
        raise _refusal(where, "is out of range", f"between {low} and {high}")
    if schema.get("format") == "int64" and value not in INT64:
        raise _refusal(where, "is out of range", "a number of 64 bits")


def _some(values: Sequence[str]) -> str:
    """The first few of the allowed values."""
    more = f" or {len(values) - 8} more" if len(values) > 8 else ""
    return f"one of {', '.join(values[:8])}{more}"


def _refusal(where: str, what: str, wanted: str) -> InvalidRequest:
    return InvalidRequest(f"{where or 'The body'} {what}; it must be {wanted}.")
