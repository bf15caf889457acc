"""The OpenAI API, driven by OpenAI's own client against a real core and real engines."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from modeldeck.core.demo.model_writer import TOPICS, expected
from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
EMBED = "deck/tiny-embed-GGUF:F16"
PATIENCE_S = 60


@pytest.fixture(scope="module")
def stocked(shared_core: CoreProcess) -> str:
    """The address of a core that has the tiny models' files."""
    with httpx.Client(base_url=f"{shared_core.url}/api", timeout=PATIENCE_S) as http:
        for name in (TINY, EMBED):
            answer = http.post("/pull", json={"model": name, "stream": False})
            assert answer.json() == {"status": "success"}
    return shared_core.url


@pytest.fixture
async def client(stocked: str) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's client."""
    async with AsyncOpenAI(base_url=f"{stocked}/v1", api_key="none", max_retries=0) as client:
        yield client


async def instances(http: httpx.AsyncClient) -> list[dict[str, Any]]:
    """The instances, as the core tells them."""
    return list((await http.get("/deck/state")).json()["instances"])


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def test_models_and_chats_whole_and_streamed(client: AsyncOpenAI) -> None:
    listed = [model async for model in client.models.list()]
    assert {model.id for model in listed} == {TINY, EMBED}
    assert (await client.models.retrieve(TINY)).owned_by == "deck"
    plain = await client.get(f"/models/{TINY}", cast_to=httpx.Response)
    assert plain.json()["id"] == TINY
    assert "parallel" not in plain.json()["meta"], "it is not loaded"

    topic = TOPICS[0]
    whole = await client.chat.completions.create(
        model=TINY, messages=said(topic), temperature=0, max_tokens=200
    )
    answer = whole.choices[0]
    assert (answer.message.content, answer.finish_reason) == (expected(topic), "stop")
    loaded = (await client.get(f"/models/{TINY}", cast_to=httpx.Response)).json()
    held = {"context_length": 4096, "parallel": 4, "cache_tokens": 4096}
    assert held.items() <= loaded["meta"].items()
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens

    pieces = [
        piece
        async for piece in await client.chat.completions.create(
            model="tiny-GGUF:Q8_0",
            messages=said(topic),
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    assert pieces[0].choices[0].delta.role == "assistant"
    text = [piece.choices[0].delta.content or "" for piece in pieces[:-1]]
    assert "".join(text) == expected(topic)
    assert pieces[-2].choices[0].finish_reason == "stop"
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.total_tokens == whole.usage.total_tokens
    assert pieces[-1].usage.prompt_tokens_details.cached_tokens > 0  # the second time

    short = await client.chat.completions.create(
        model=TINY, messages=said(topic), temperature=0, max_completion_tokens=2
    )
    assert short.choices[0].finish_reason == "length"
    cut = await client.chat.completions.create(
        model=TINY, messages=said("count"), temperature=0, stop=[" three", " four"]
    )
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("One two", "stop")


async def test_several_answers_come_at_once_and_end_with_their_client(
    client: AsyncOpenAI, stocked: str
) -> None:
    async with httpx.AsyncClient(base_url=stocked, timeout=PATIENCE_S) as http:
        whole = await client.chat.completions.create(
            model=TINY, messages=said("count"), temperature=0, n=6
        )
        assert [(c.index, c.message.content) for c in whole.choices] == [
            (index, expected("count")) for index in range(6)
        ]
        stream = await client.chat.completions.create(
            model=TINY, messages=said("loop"), temperature=0, n=6, stream=True
        )
        seen: set[int] = set()
        async for piece in stream:
            seen |= {choice.index for choice in piece.choices if choice.delta.content}
            if len(seen) == 4:  # as many as it has slots; none of them ends by itself
                break
        await stream.close()
        assert seen == {0, 1, 2, 3}
        async with asyncio.timeout(PATIENCE_S):
            while any(each["requests"] for each in await instances(http)):
                pass


async def test_completions_go_on_from_prompts(client: AsyncOpenAI) -> None:
    one = await client.completions.create(model=TINY, prompt="count", temperature=0, max_tokens=3)
    begun = one.choices[0].text
    assert one.choices[0].finish_reason == "length"
    both = await client.completions.create(
        model=TINY, prompt=["count", "count"], temperature=0, max_tokens=3, echo=True
    )
    assert [choice.index for choice in both.choices] == [0, 1]
    assert [choice.text for choice in both.choices] == [f"count{begun}"] * 2
    assert one.usage is not None
    assert both.usage is not None
    assert both.usage.prompt_tokens == 2 * one.usage.prompt_tokens
    pieces = [
        piece
        async for piece in await client.completions.create(
            model=TINY,
            prompt=["count", "count"],
            temperature=0,
            max_tokens=3,
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    texts = ["", ""]
    for piece in pieces[:-1]:
        texts[piece.choices[0].index] += piece.choices[0].text
    assert texts == [begun, begun]
    assert pieces[-1].usage == both.usage


async def test_embeddings_as_numbers_and_bytes(client: AsyncOpenAI) -> None:
    texts = ["count one", "zzz"]
    # The client asks for base64 where nothing is said, and decodes it.
    packed = await client.embeddings.create(model=EMBED, input=texts)
    plain = await client.embeddings.create(model=EMBED, input=texts, encoding_format="float")
    assert [entry.index for entry in plain.data] == [0, 1]
    assert plain.data[0].embedding == pytest.approx(packed.data[0].embedding, abs=1e-6)
    assert math.hypot(*plain.data[0].embedding) == pytest.approx(1, abs=1e-6)
    assert (plain.usage.prompt_tokens, plain.usage.total_tokens) == (8, 8)
    short = await client.embeddings.create(model=EMBED, input="count one", dimensions=256)
    assert len(short.data[0].embedding) == 256
    assert math.hypot(*short.data[0].embedding) == pytest.approx(1, abs=1e-5)
    for wrong, words in (
        ({"model": EMBED, "input": "x", "dimensions": 60000}, "dimensions"),
        ({"model": TINY, "input": "x"}, "loaded for text"),
        ({"model": EMBED, "input": ""}, "empty"),
    ):
        with pytest.raises(openai.BadRequestError, match=words):
            await client.embeddings.create(**wrong)


REFUSED: list[tuple[dict[str, Any], type[openai.APIStatusError], str]] = [
    ({"model": "none"}, openai.NotFoundError, "none"),
    ({"model": "Qwen3 0.6B Q4_K_M"}, openai.NotFoundError, "not downloaded"),
    ({"n": 17}, openai.BadRequestError, "n"),
    ({"extra_body": {"min_tokens": 5}}, openai.BadRequestError, "min_tokens is not supported"),
    ({"extra_body": {"audio": {"voice": "x"}}}, openai.BadRequestError, "audio"),
    ({"temperature": 9}, openai.BadRequestError, "temperature"),
    ({"messages": []}, openai.BadRequestError, "messages"),
    ({"model": EMBED}, openai.BadRequestError, "embeddings"),
]


async def refusal(client: AsyncOpenAI, **request: Any) -> openai.APIError:
    """Why there is no answer: a status, or an event of a stream that has begun after a second."""
    try:
        answer = await client.chat.completions.create(**request)
        pieces = [piece async for piece in answer] if request["stream"] else [answer]
    except openai.APIError as error:
        return error
    raise AssertionError(pieces)


async def test_refusals_are_openai_s_errors(client: AsyncOpenAI) -> None:
    for asked, error, words in REFUSED:
        request: dict[str, Any] = {"model": TINY, "messages": said("a"), **asked}
        for stream in (False, True):
            found = await refusal(client, **request, stream=stream)
            assert stream or isinstance(found, error)
            body: Any = found.body
            assert body["type"] == "invalid_request_error"
            assert words in body["message"]
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("Qwen3 0.6B Q4_K_M")
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model=TINY, messages=said("count " * 9000))
    assert caught.value.code == "context_length_exceeded"


async def test_keep_alive_unloads_after_the_answer(client: AsyncOpenAI, stocked: str) -> None:
    request: dict[str, Any] = {"model": TINY, "messages": said("count"), "temperature": 0}
    await client.chat.completions.create(**request, extra_body={"keep_alive": "10m"})
    async with httpx.AsyncClient(base_url=stocked, timeout=PATIENCE_S) as http:

        async def instances() -> list[dict[str, Any]]:
            listed = (await http.get("/deck/state")).json()["instances"]
            return [one for one in listed if one["unique"] == TINY]

        assert (await instances())[0]["options"]["idle_ttl_s"] == 600
        await client.chat.completions.create(**request, extra_body={"keep_alive": 0})
        async with asyncio.timeout(PATIENCE_S):
            while await instances():  # noqa: ASYNC110  # a core of its own has no event here
                await asyncio.sleep(0.02)


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "What the weather is like in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 10}},
            "required": ["city"],
        },
    },
}


async def test_a_function_is_called_and_its_answer_taken(client: AsyncOpenAI) -> None:
    turns = said("Will it rain?")
    request: dict[str, Any] = {"model": TINY, "messages": turns, "temperature": 0}
    request["tools"] = [WEATHER]
    whole = await client.chat.completions.create(**request)
    message = whole.choices[0].message
    (call,) = message.tool_calls or []
    assert (whole.choices[0].finish_reason, message.content) == ("tool_calls", None)
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == (
        "weather",
        {"city": "Paris"},
    )
    pieces = [p async for p in await client.chat.completions.create(**request, stream=True)]
    deltas = [d for p in pieces for d in p.choices[0].delta.tool_calls or ()]
    assert [delta.function and delta.function.name for delta in deltas] == ["weather"]
    assert pieces[-1].choices[0].finish_reason == "tool_calls"

    told = {"role": "tool", "tool_call_id": call.id, "content": "count the clouds"}
    after = await client.chat.completions.create(
        **{**request, "messages": [*turns, message.model_dump(exclude_none=True), told]}
    )
    assert after.choices[0].message.content == expected("count")

    forced = await client.chat.completions.create(
        **{**request, "messages": said("count"), "tool_choice": "required"}
    )
    (call,) = forced.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert isinstance(json.loads(call.function.arguments)["city"], str)


async def test_tokens_are_told_with_their_probabilities(client: AsyncOpenAI) -> None:
    request: dict[str, Any] = {"model": TINY, "temperature": 0}
    told = await client.chat.completions.create(
        **request, messages=said("count"), logprobs=True, top_logprobs=2
    )
    logprobs = told.choices[0].logprobs
    assert logprobs is not None
    assert "".join(token.token for token in logprobs.content or ()) == expected("count")
    assert all(len(token.top_logprobs) == 2 for token in logprobs.content or ())
    text = await client.completions.create(**request, prompt="count", logprobs=1, max_tokens=3)
    found = text.choices[0].logprobs
    assert found is not None
    assert "".join(found.tokens or ()) == text.choices[0].text


async def test_answers_follow_a_schema(client: AsyncOpenAI) -> None:
    schema: Any = {
        "type": "object",
        "properties": {"yes": {"type": "boolean"}},
        "required": ["yes"],
        "additionalProperties": False,
    }
    answer = await client.chat.completions.create(
        model=TINY,
        messages=said("count"),
        temperature=0,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema},
        },
    )
    assert isinstance(json.loads(answer.choices[0].message.content or "")["yes"], bool)
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(
            model=TINY, messages=said("x"), extra_body={"grammar": "root ::= ("}
        )
