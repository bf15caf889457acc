"""Sampling settings of a conversation: the fields, and how their texts are read. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.remote.printable import clean


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSampling:
    """How tokens are chosen. None, or an empty value, is the model's default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema_file: str = ""
    """Path of a file with a JSON Schema that answers must follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingField:
    """A field of the sampling settings."""

    name: str
    """Attribute of `ChatSampling`."""
    label: str
    hint: str
    """Range and meaning, in a few words."""
    read: Callable[[str], Any]
    """Reads its text; raises InvalidRequest with the reason."""


def _number(low: float, high: float, *, whole: bool = False) -> Callable[[str], Any]:
    """Reader of a number between two bounds; an empty text is None."""

    def read(text: str) -> float | int | None:
        if not text:
            return None
        kind = "a whole number" if whole else "a number"
        asked = f"must be {kind}, {low:,} to {high:,}"
        try:
            value = int(text.replace(",", "")) if whole else float(text.replace(",", "."))
        except ValueError:
            raise InvalidRequest(asked) from None
        if not low <= value <= high:
            raise InvalidRequest(asked)
        return value

    return read


def _stops(text: str) -> tuple[str, ...]:
    """Stop strings, separated by commas; a new line is written as in Python."""
    found = tuple(part.strip().replace("\\n", "\n") for part in text.split(",") if part.strip())
    if len(found) > 16:
        raise InvalidRequest("at most 16 texts")
    return found


MOST_TOKENS = 1 << 24
"""Tokens; no model has a longer context."""

FIELDS: tuple[SamplingField, ...] = (
    SamplingField(
        name="temperature",
        label="temperature",
        hint="0 to 2; 0 gives the same answer every time",
        read=_number(0, 2),
    ),
    SamplingField(
        name="top_p", label="top_p", hint="0 to 1; the likeliest tokens", read=_number(0, 1)
    ),
    SamplingField(
        name="top_k",
        label="top_k",
        hint="number of tokens to choose from; 0 for all",
        read=_number(0, 1_000_000, whole=True),
    ),
    SamplingField(
        name="min_p", label="min_p", hint="0 to 1; share of the likeliest", read=_number(0, 1)
    ),
    SamplingField(
        name="max_tokens",
        label="max tokens",
        hint="longest answer",
        read=_number(1, MOST_TOKENS, whole=True),
    ),
    SamplingField(
        name="seed",
        label="seed",
        hint="the same seed gives the same answer",
        read=_number(0, 2**32 - 1, whole=True),
    ),
    SamplingField(
        name="stop", label="stop", hint="texts that end an answer: END, \\n\\n", read=_stops
    ),
    SamplingField(
        name="schema_file",
        label="JSON schema",
        hint="path of a file; answers follow it",
        read=lambda text: text,
    ),
)


def written(sampling: ChatSampling, name: str) -> str:
    """The text of a field, as the form shows it."""
    value = getattr(sampling, name)
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ", ".join(part.replace("\n", "\\n") for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def with_field(sampling: ChatSampling, name: str, text: str) -> ChatSampling:
    """The settings with one field read from its text. Raises InvalidRequest with the reason."""
    field = next((field for field in FIELDS if field.name == name), None)
    if field is None:
        known = ", ".join(field.name for field in FIELDS)
        raise InvalidRequest(f"There is no setting {clean(name)!r}.", f"There are: {known}.")
    return replace(sampling, **{name: field.read(text.strip())})


def from_texts(texts: Mapping[str, str]) -> tuple[ChatSampling, dict[str, str]]:
    """Settings read from all texts, and the errors by field; a field with an error is unset."""
    sampling, errors = ChatSampling(), {}
    for name, text in texts.items():
        try:
            sampling = with_field(sampling, name, text)
        except InvalidRequest as error:
            errors[name] = str(error)
    return sampling, errors


def described(sampling: ChatSampling) -> str:
    """The settings that differ from the model's own, in a few words."""
    parts = [
        f"{'temp' if field.name == 'temperature' else field.label} {written(sampling, field.name)}"
        for field in FIELDS
        if getattr(sampling, field.name) not in (None, (), "")
    ]
    return ", ".join(parts) or "temp default"


def schema_of(text: str) -> dict[str, Any]:
    """A JSON Schema from the text of its file. Raises InvalidRequest."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the file is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the file has no JSON object, which a schema is")
    return value


def request_fields(sampling: ChatSampling) -> dict[str, Any]:
    """The settings as fields of a `GenerateRequest`; the schema's file is read by the caller."""
    names = [field.name for field in fields(sampling) if field.name != "schema_file"]
    return {name: getattr(sampling, name) for name in names}
