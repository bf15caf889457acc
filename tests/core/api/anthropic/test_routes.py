"""Anthropic's Messages API, driven by Anthropic's own client against a real core and llama.cpp."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import AsyncAnthropic

from modeldeck.core.demo.model_writer import TOPICS, expected
from modeldeck.core.demo.vocabulary import THOUGHT
from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
THINKING = "deck/tiny-think-GGUF:F16"
PATIENCE_S = 60
WEATHER: Any = {
    "name": "weather",
    "description": "Weather of a city",
    "input_schema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Oslo", "Bergen"]}},
        "required": ["city"],
    },
}
RECORDED = json.loads((Path(__file__).parent / "requests.json").read_text())


@pytest.fixture(scope="module")
def stocked(shared_core: CoreProcess) -> str:
    """The address of a core that has the tiny model's files."""
    with httpx.Client(base_url=f"{shared_core.url}/api", timeout=PATIENCE_S) as http:
        for name in (TINY, THINKING):
            answer = http.post("/pull", json={"model": name, "stream": False})
            assert answer.json() == {"status": "success"}
    return shared_core.url


@pytest.fixture
async def client(stocked: str) -> AsyncIterator[AsyncAnthropic]:
    """Anthropic's client."""
    async with AsyncAnthropic(base_url=stocked, api_key="none", max_retries=0) as client:
        yield client


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def asked(text: str, **more: Any) -> dict[str, Any]:
    """A request whose answer is the likeliest one."""
    request: dict[str, Any] = {"model": TINY, "max_tokens": 200, "messages": said(text)}
    return {**request, "extra_body": {"temperature": 0}, **more}


async def test_answers_whole_and_streamed(client: AsyncAnthropic) -> None:
    topic = TOPICS[0]
    whole = await client.messages.create(**asked(topic))
    assert [block.type for block in whole.content] == ["text"]
    assert whole.content[0].text == expected(topic)
    assert (whole.stop_reason, whole.stop_sequence, whole.role) == ("end_turn", None, "assistant")
    assert whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0) > 0
    assert whole.usage.output_tokens > 0
    assert whole._request_id

    async with client.messages.stream(**asked(topic)) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert text == final.content[0].text == expected(topic)
    assert (final.stop_reason, final.model) == ("end_turn", whole.model)
    assert final.usage.output_tokens == whole.usage.output_tokens

    events = [
        event.type async for event in await client.messages.create(**asked(topic), stream=True)
    ]
    assert events[0] == "message_start"
    assert events[-3:] == ["content_block_stop", "message_delta", "message_stop"]


async def test_why_an_answer_ended(client: AsyncAnthropic) -> None:
    cut = await client.messages.create(**asked("count", max_tokens=2))
    assert (cut.stop_reason, cut.content[0].text) == ("max_tokens", "One two")
    stops = [" five", " four"]
    stopped = await client.messages.create(**asked("count", stop_sequences=stops))
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", " four")
    assert stopped.content[0].text == "One two three"
    read = await client.messages.create(**asked("count", max_tokens=0))
    assert (read.content, read.stop_reason) == ([], "max_tokens")
    full = await client.messages.create(**asked("bla " * 1010 + "loop", max_tokens=20_000))
    assert full.stop_reason == "model_context_window_exceeded"


async def test_tools_are_called_and_their_results_read(client: AsyncAnthropic) -> None:
    request = asked(
        "rain",
        max_tokens=600,
        tools=[WEATHER, {"type": "web_search_20250305", "name": "web_search"}],
    )
    forced = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    for choice in ({"type": "any"}, forced):
        whole = await client.messages.create(**request, tool_choice=choice)
        (call,) = [block for block in whole.content if block.type == "tool_use"]
        assert (whole.stop_reason, call.name) == ("tool_use", "weather")
        assert call.input["city"] in ("Oslo", "Bergen")
        async with client.messages.stream(**request, tool_choice=choice) as stream:
            final = await stream.get_final_message()
        (again,) = [block for block in final.content if block.type == "tool_use"]
        assert again.input == call.input
    result = {"type": "tool_result", "tool_use_id": call.id}
    for content in ({"content": "count"}, {"content": [{"type": "text", "text": "count"}]}, {}):
        turns = [
            *said("rain"),
            {"role": "assistant", "content": whole.content},
            {"role": "user", "content": [{**result, **content}, {"type": "text", "text": "count"}]},
        ]
        told = await client.messages.create(**{**request, "messages": turns})
        assert told.content[0].text == expected("count")
    none = await client.messages.create(**request, tool_choice={"type": "none"})
    assert none.stop_reason != "tool_use"
    with pytest.raises(anthropic.BadRequestError, match="own servers"):
        await client.messages.create(**request, tool_choice={"type": "tool", "name": "web_search"})


async def test_a_thought_comes_apart_and_goes_back(client: AsyncAnthropic) -> None:
    thought, text = "".join(THOUGHT), expected("count")
    enabled: Any = {"type": "enabled", "budget_tokens": 1024}
    whole = await client.messages.create(**asked("count", model=THINKING, thinking=enabled))
    assert [block.type for block in whole.content] == ["thinking", "text"]
    assert (whole.content[0].thinking, whole.content[1].text) == (thought, text)
    assert whole.usage.output_tokens_details is not None
    assert whole.usage.output_tokens_details.thinking_tokens > 0
    async with client.messages.stream(**asked("count", model=THINKING, thinking=enabled)) as stream:
        final = await stream.get_final_message()
    assert (final.content[0].thinking, final.content[1].text) == (thought, text)
    assert final.content[0].signature == whole.content[0].signature
    turns = [*said("count"), {"role": "assistant", "content": whole.content}, *said("json")]
    again = await client.messages.create(**asked("", model=THINKING, messages=turns))
    assert again.content[-1].text == expected("json")

    disabled: Any = {"type": "disabled"}
    plain = await client.messages.create(**asked("count", model=THINKING, thinking=disabled))
    assert [(block.type, block.text) for block in plain.content] == [("text", text)]
    cut = await client.messages.create(**asked("count", model=THINKING, max_tokens=3))
    assert ([block.type for block in cut.content], cut.stop_reason) == (["thinking"], "max_tokens")
    hidden: Any = {"type": "adaptive", "display": "omitted"}
    kept = await client.messages.create(**asked("count", model=THINKING, thinking=hidden))
    assert (kept.content[0].thinking, kept.content[1].text) == ("", text)


async def test_an_answer_follows_a_schema(client: AsyncAnthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string", "enum": ["x", "y"]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    config: Any = {"format": {"type": "json_schema", "schema": schema}, "effort": "low"}
    whole = await client.messages.create(**asked("json", output_config=config))
    assert json.loads(whole.content[0].text)["a"] in ("x", "y")


async def test_tokens_are_counted(client: AsyncAnthropic) -> None:
    plain = await client.messages.count_tokens(model=TINY, messages=said("count"))
    answer = await client.messages.create(**asked("count", max_tokens=1))
    usage = answer.usage
    assert plain.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    more = await client.messages.count_tokens(
        model=TINY, messages=said("count"), system="Be brief.", tools=[WEATHER]
    )
    assert more.input_tokens > plain.input_tokens


async def test_models_have_anthropic_s_form_for_its_clients(
    client: AsyncAnthropic, stocked: str
) -> None:
    listed = [model async for model in client.models.list(limit=1000)]
    assert {(model.id, model.type) for model in listed} == {(TINY, "model"), (THINKING, "model")}
    assert listed[0].created_at.year >= 1970
    for name in (TINY, f"hf.co/{TINY}", "tiny-GGUF:Q8_0", "tiny-gguf:q8_0:latest"):
        assert (await client.models.retrieve(name)).id == TINY
    async with httpx.AsyncClient(base_url=stocked) as http:
        assert (await http.get("/v1/models")).json()["object"] == "list"


async def test_errors_have_anthropic_s_form(client: AsyncAnthropic, stocked: str) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        await client.messages.create(**asked("count", model="claude-none"))
    assert missing.value.type == "not_found_error"
    assert missing.value.request_id
    with pytest.raises(anthropic.BadRequestError) as long:
        await client.messages.create(**asked("count " * 9000))
    assert long.value.type == "invalid_request_error"
    assert "prompt is too long: " in str(long.value)
    assert "this model's maximum context length is" in str(long.value)
    image = {"type": "image", "source": {"type": "url", "url": "http://x/y.png"}}
    with pytest.raises(anthropic.BadRequestError, match="cannot see images"):
        await client.messages.create(**asked("", messages=[{"role": "user", "content": [image]}]))
    # A status where it is told within a second, else an event of the stream.
    with pytest.raises(anthropic.APIStatusError, match="too long"):
        async with client.messages.stream(**asked("count " * 9000)) as stream:
            await stream.get_final_message()
    async with httpx.AsyncClient(base_url=stocked) as http:
        for method, path, status, kind in (
            ("GET", "/v1/messages", 405, "invalid_request_error"),
            ("POST", "/v1/messages/batches", 404, "not_found_error"),
            ("GET", "/v1/messages/batches/b", 404, "not_found_error"),
            ("POST", "/v1/messages", 400, "invalid_request_error"),
        ):
            answer = await http.request(method, path, json={} if method == "POST" else None)
            body = answer.json()
            assert (answer.status_code, body["error"]["type"]) == (status, kind)
            assert body["type"] == "error"
            assert body["request_id"] == answer.headers["request-id"]
        files = await http.get("/v1/files", headers={"anthropic-version": "2023-06-01"})
        assert files.json()["type"] == "error"


@pytest.mark.parametrize("recorded", RECORDED, ids=range(len(RECORDED)))
async def test_recorded_requests_are_answered(recorded: dict[str, Any], stocked: str) -> None:
    body = {**recorded["body"], "model": TINY}
    async with httpx.AsyncClient(base_url=stocked, timeout=PATIENCE_S) as http:
        if "max_tokens" in body:
            body["max_tokens"] = min(body["max_tokens"], 60)
        answer = await http.post(recorded["path"], json=body, headers=recorded["headers"])
    if '"type": "image"' in json.dumps(body["messages"][-1]["content"]):
        assert "cannot see images" in answer.json()["error"]["message"]
        return
    assert answer.status_code == 200, answer.text
    if body.get("stream"):
        assert answer.text.rstrip().endswith('data: {"type":"message_stop"}')
