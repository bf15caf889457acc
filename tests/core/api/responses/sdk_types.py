"""What OpenAI's client declares, read from its types."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, get_args, get_origin

import openai.types.responses as types
from openai.types.responses import response_create_params


def members(union: Any) -> list[Any]:
    """The classes of a union of models."""
    while get_origin(union) is not None and get_args(union):
        arguments = get_args(union)
        if hasattr(arguments[0], "model_fields"):
            return [each for each in arguments if hasattr(each, "model_fields")]
        union = arguments[0]
    return []


def discriminators(name: str) -> set[str]:
    """Values of `type` in a union of the client's types, such as `ResponseInputItem`."""
    found: set[str] = set()
    for model in members(getattr(types, name)):
        for value in _literals(model.model_fields["type"].annotation):
            found.add(value)
    return found


def _literals(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for each in get_args(annotation) for value in _literals(each)]


def create_fields() -> set[str]:
    """Fields that the client sends when it asks for an answer."""
    base = response_create_params.ResponseCreateParamsBase
    streaming = response_create_params.ResponseCreateParamsStreaming
    return set(base.__annotations__) | set(streaming.__annotations__)


@cache
def _event_types() -> dict[str, Any]:
    """The client's event classes by their `type`."""
    return {
        value: model
        for model in members(types.ResponseStreamEvent)
        for value in _literals(model.model_fields["type"].annotation)
    }


def checked_event(event: dict[str, Any]) -> Any:
    """An event as the client's own type, validated. Raises pydantic.ValidationError."""
    return _event_types()[event["type"]].model_validate(event)


def checked_answer(data: bytes) -> Any:
    """An answer as the client's own type, validated."""
    return types.Response.model_validate_json(data)
