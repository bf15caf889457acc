"""The arguments of calls in the dialects that have them as objects."""

from __future__ import annotations

from typing import Any

import pytest

from modeldeck.core.api.anthropic.answer import AnswerRules, ToolUsePart
from modeldeck.core.api.call_input import input_of
from modeldeck.core.api.ollama.schema import calls_of
from modeldeck.core.schema import Chunk, ToolCall

DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        ("[1]", {}),
        ('{"a": "half', {}),
        (DEEP, {}),
    ],
)
def test_the_input_of_a_call_is_an_object(arguments: str, found: dict[str, Any]) -> None:
    call = ToolCall(id="a", name="f", arguments=arguments)
    assert input_of(call) == found
    told = calls_of((call,)) or []
    assert [one.function.arguments for one in told] == ([found] if call.complete else [])
    [part] = AnswerRules(max_tokens=9).parts(Chunk(tool_calls=(call,)))
    assert isinstance(part, ToolUsePart)
    assert part.input == found
