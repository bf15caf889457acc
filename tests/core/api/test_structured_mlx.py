"""Answers of MLX with a form, asked for by the clients of OpenAI and Ollama against a real core."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]  # it has no types
import ollama
import openai
import pytest
from openai import AsyncOpenAI

from tests.support.process import CoreProcess

TINY = "deck/tiny-mlx"
PATIENCE_S = 60
COUNT: Any = [{"role": "user", "content": "count"}]
CITY: Any = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 2, "maxLength": 8},
        "large": {"type": "boolean"},
        "rank": {"type": "integer", "minimum": 1, "maximum": 40},
    },
    "required": ["city", "large", "rank"],
    "additionalProperties": False,
}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {**CITY, "required": ["city"]}},
}


@pytest.fixture(scope="module")
def stocked(shared_core: CoreProcess) -> str:
    """The address of a core that has the model's files."""
    with httpx.Client(base_url=f"{shared_core.url}/api", timeout=PATIENCE_S) as http:
        answer = http.post("/pull", json={"model": TINY, "stream": False})
        assert answer.json() == {"status": "success"}
    return shared_core.url


@pytest.fixture
async def client(stocked: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{stocked}/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_openai_s_response_formats(client: AsyncOpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    whole = await client.chat.completions.create(
        model=TINY, messages=COUNT, temperature=1, seed=1, response_format=form, logprobs=True
    )
    (choice,) = whole.choices
    assert choice.finish_reason == "stop"
    jsonschema.validate(json.loads(choice.message.content or ""), CITY)
    assert choice.logprobs is not None
    told = choice.logprobs.content or []
    assert "".join(token.token for token in told) == choice.message.content
    pieces = [
        piece.choices[0].delta.content or ""
        async for piece in await client.chat.completions.create(
            model=TINY, messages=COUNT, temperature=1, seed=1, response_format=form, stream=True
        )
    ]
    assert "".join(pieces) == choice.message.content
    any_object = await client.chat.completions.create(
        model=TINY,
        messages=[{"role": "user", "content": "json"}],
        temperature=0,
        response_format={"type": "json_object"},
    )
    assert isinstance(json.loads(any_object.choices[0].message.content or ""), dict)


async def test_calls_of_tools_that_openai_s_client_requires(client: AsyncOpenAI) -> None:
    choices: list[Any] = ["required", {"type": "function", "function": {"name": "weather"}}]
    for choice in choices:
        answer = await client.chat.completions.create(
            model=TINY, messages=COUNT, tools=[WEATHER], tool_choice=choice, seed=1
        )
        assert answer.choices[0].finish_reason == "tool_calls"
        (call,) = answer.choices[0].message.tool_calls or []
        assert call.type == "function"
        assert call.function.name == "weather"
        jsonschema.validate(json.loads(call.function.arguments), WEATHER["function"]["parameters"])


async def test_grammars_right_and_wrong(client: AsyncOpenAI) -> None:
    held = await client.chat.completions.create(
        model=TINY, messages=COUNT, temperature=0, extra_body={"grammar": 'root ::= "yes" | "no"'}
    )
    assert held.choices[0].message.content in ("yes", "no")
    for body, words in (
        ({"grammar": "root ::= ("}, "grammar is wrong in line 1"),
        ({"grammar": 'root ::= root "a"'}, "begins with itself"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"not": {}}},
                }
            },
            "not",
        ),
    ):
        with pytest.raises(openai.BadRequestError, match=words):
            await client.chat.completions.create(model=TINY, messages=COUNT, extra_body=body)


async def test_ollama_s_format(stocked: str) -> None:
    async with ollama.AsyncClient(host=stocked, timeout=PATIENCE_S) as client:
        answer = await client.chat(model=TINY, messages=COUNT, format=CITY, options={"seed": 1})
        jsonschema.validate(json.loads(answer.message.content or ""), CITY)
        text = await client.generate(model=TINY, prompt="json", format="json", options={"seed": 1})
        assert isinstance(json.loads(text.response or ""), dict)
