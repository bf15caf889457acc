"""A model that thinks, in both engines: thoughts apart, switched, bounded, before a grammar."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.demo.model_writer import expected, write_gguf, write_mlx
from modeldeck.core.demo.vocabulary import THINKING_TEMPLATE, THOUGHT
from modeldeck.core.runtime.text.thought_guide import ENOUGH
from modeldeck.core.schema import Chunk, GenerateRequest, Instance, Message, Tool
from tests.support.bench import Bench

ALL = "".join(THOUGHT)
COUNT = expected("count")
WEATHER = Tool(
    name="weather",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 10}},
        "required": ["city"],
    },
)


def asked(text: str, *more: Message, **options: Any) -> GenerateRequest:
    messages = (Message(role="user", content=text), *more)
    return GenerateRequest(messages=messages, temperature=0, **{"max_tokens": 80} | options)


async def told(
    bench: Bench, instance: Instance, request: GenerateRequest
) -> tuple[str, str, Chunk]:
    chunks = await bench.ask(instance, request)
    assert not any(chunk.thought and chunk.text for chunk in chunks)
    thought = "".join(chunk.thought for chunk in chunks)
    return thought, "".join(chunk.text for chunk in chunks), chunks[-1]


@pytest.fixture(params=["llama.cpp", "mlx"])
async def thinker(request: pytest.FixtureRequest, bench: Bench, tmp_path: Path) -> Instance:
    """A loaded model that thinks."""
    if request.param == "mlx":
        pytest.importorskip("mlx_lm")
        write_mlx(tmp_path / "mlx", chat_template=THINKING_TEMPLATE, thinks=True)
        return await bench.loaded(tmp_path / "mlx")
    (path,) = write_gguf(tmp_path / "t.gguf", chat_template=THINKING_TEMPLATE, thinks=True)
    return await bench.loaded(path)


async def test_a_model_that_thinks(bench: Bench, thinker: Instance) -> None:
    thought, text, last = await told(bench, thinker, asked("count"))
    assert (thought, text, last.finish_reason) == (ALL, COUNT, "stop")
    # The thought and its two markers.
    assert last.thought_tokens == len(THOUGHT) + 2
    assert last.completion_tokens == last.thought_tokens + 11

    thought, text, last = await told(bench, thinker, asked("count", thinking=False))
    assert (thought, text, last.thought_tokens) == ("", COUNT, 0)

    thought, text, _ = await told(bench, thinker, asked("count", thinking_budget=2))
    assert (thought, text) == ("Let me" + ENOUGH.rstrip(), COUNT)
    thought, text, _ = await told(bench, thinker, asked("count", thinking_budget=0))
    assert (thought, text) == ("", COUNT)
    thought, text, _ = await told(bench, thinker, asked("count", thinking_budget=60))
    assert (thought, text) == (ALL, COUNT)

    thought, text, last = await told(bench, thinker, asked("count", max_tokens=4))
    assert (thought, text, last.finish_reason) == ("Let me see", "", "length")
    thought, text, _ = await told(bench, thinker, asked("count", stop=("see", " four")))
    assert (thought, text) == (ALL, "One two three")

    await answers_that_follow_something(bench, thinker)
    await answers_that_go_on(bench, thinker)


async def answers_that_follow_something(bench: Bench, thinker: Instance) -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"enum": ["yes", "no"]}},
        "required": ["answer"],
    }
    thought, text, _ = await told(bench, thinker, asked("json", json_schema=schema))
    assert (thought, json.loads(text)) == (ALL, {"answer": "yes"})
    _, text, _ = await told(bench, thinker, asked("json", json_schema=schema, thinking=False))
    assert json.loads(text) == {"answer": "yes"}
    held = {"thinking_budget": 1, "regex": "(no|yes)+x"}
    thought, text, _ = await told(bench, thinker, asked("json", **held))
    assert thought == "Let" + ENOUGH.rstrip()
    assert text.endswith("x") or text.strip("noyes") == ""

    tools = {"tools": (WEATHER,)}
    thought, text, last = await told(bench, thinker, asked("Will it rain?", **tools))
    assert (thought, text, last.finish_reason) == (ALL, "", "tool_calls")
    (call,) = last.tool_calls
    assert json.loads(call.arguments) == {"city": "Paris"}


async def answers_that_go_on(bench: Bench, thinker: Instance) -> None:
    begun = Message(role="assistant", content="One two three")
    thought, text, _ = await told(bench, thinker, asked("count", begun))
    assert (thought, "One two three" + text) == ("", COUNT)
    mulling = Message(role="assistant", thought="Let me see")
    thought, text, _ = await told(bench, thinker, asked("count", mulling))
    assert text == COUNT
    assert "Let me see" not in thought
