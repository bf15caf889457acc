"""How answers end, by the client or by a failure, told by a service that does as it is told."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from modeldeck.core.errors import Busy, DeckError, EngineFailed
from modeldeck.core.schema import Chunk, Model, ToolCall
from tests.core.api.openai.test_routes import said
from tests.core.api.told_service import ToldService

Serve = Callable[..., Any]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "b", "messages": said("a")},
    "/v1/completions": {"model": "b", "prompt": "a"},
    "/api/chat": {"model": "b", "messages": said("a")},
    "/api/generate": {"model": "b", "prompt": "a"},
}
"""Every way to ask for text."""
EVERY_WAY = pytest.mark.parametrize("path", list(BODIES))


def asked(path: str, *, stream: bool) -> bytes:
    body = json.dumps({**BODIES[path], "stream": stream}).encode()
    return (
        b"POST %b HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (path.encode(), len(body), body)
    )


@EVERY_WAY
async def test_a_client_that_leaves_ends_its_answer(serve: Serve, until: Until, path: str) -> None:
    cases: list[tuple[list[Chunk | None], bool]] = [
        ([Chunk(text="a"), None], True),
        ([None], True),
        ([Chunk(text="a"), None], False),
    ]
    for pieces, stream in cases:
        engine = ToldService(*pieces)
        client = await (await serve(deck=engine)).connect()
        await client.send(asked(path, stream=stream))
        if stream and pieces[0]:
            await client.head()
        await client.close()
        await until(lambda engine=engine: engine.left == ["1"])  # type: ignore[misc]  # bound now


HI = [{"role": "user", "content": "hi"}]


class Thinker(ToldService):
    """A deck whose model cannot be told not to think."""

    def model(self, ref: str) -> Model:
        return replace(super().model(ref), capabilities=("thinking", "always_thinking"))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": HI, "reasoning_effort": "none"}),
        ("/v1/messages", {"messages": HI, "thinking": {"type": "disabled"}}),
        ("/v1/responses", {"input": HI, "reasoning": {"effort": "none"}, "store": False}),
        ("/api/chat", {"messages": HI, "think": False}),
    ],
)
async def test_a_model_that_thinks_anyway_says_so(
    serve: Serve, path: str, fields: dict[str, Any], stream: bool
) -> None:
    given = {"model": "b", **fields, "stream": stream}
    body = json.dumps(given).encode()
    for engine, told in ((Thinker, True), (ToldService, False)):
        served = await serve(deck=engine(Chunk(text="a"), Chunk(finish_reason="stop")))
        answer = await served.ask(
            b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)
        )
        assert answer.status == 200
        assert ("cannot be told" in answer.headers.get("x-model-notice", "")) is told


@EVERY_WAY
async def test_what_fails_before_the_first_word_fails_with_its_status(
    serve: Serve, path: str
) -> None:
    for stream in (True, False):
        served = await serve(deck=ToldService(Busy("Full.")))
        answer = await served.ask(asked(path, stream=stream))
        assert answer.status == 503
        assert b"Full." in answer.body


@EVERY_WAY
@pytest.mark.parametrize(
    ("end", "words"),
    [
        (EngineFailed("It died."), b"It died."),
        (Chunk(finish_reason="cancelled"), b"unloaded"),
        (Chunk(text="b"), b"mid-answer"),
    ],
)
async def test_what_fails_later_is_told_in_the_stream_or_by_a_status(
    serve: Serve, path: str, end: Chunk | DeckError, words: bytes
) -> None:
    served = await serve(deck=ToldService(Chunk(text="a"), end))
    answer = await served.ask(asked(path, stream=True))
    assert answer.status == 200
    assert b'"a"' in answer.body
    assert words in answer.body.strip().split(b"\n")[-1]
    assert b"[DONE]" not in answer.body
    answer = await served.ask(asked(path, stream=False))
    assert answer.status >= 499
    assert words in answer.body


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("looped", [True, False])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_was_cut_as_it_repeats_itself_says_so(
    serve: Serve, path: str, looped: bool, stream: bool
) -> None:
    last = Chunk(finish_reason="length", looped=looped, prompt_tokens=1, completion_tokens=2)
    served = await serve(deck=ToldService(Chunk(text="a"), last))
    answer = await served.ask(asked(path, stream=stream))
    assert b'"finish_reason":"length"' in answer.body
    assert (b'"stop_reason":"repetition"' in answer.body) == looped
    assert (b"stop_reason" in answer.body) == looped


HALF = '{"city": "Par'
"""The arguments of a call in which an answer ended at its limit."""
FUNCTION = {"name": "weather", "parameters": {"type": "object"}}


async def half_a_call(serve: Serve, path: str, **fields: Any) -> Any:
    """What is told of an answer that ends within a call; a stream as its events."""
    call = ToolCall(id="c1", name="weather", arguments=HALF)
    last = Chunk(finish_reason="length", tool_calls=(call,), completion_tokens=9)
    served = await serve(deck=ToldService(last))
    body = json.dumps({"model": "b", **fields}).encode()
    answer = await served.ask(
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)
    )
    assert answer.status == 200, answer.body
    if fields.get("stream") is not True:
        return json.loads(answer.body)
    lines = answer.body.decode().splitlines()
    events = [line.removeprefix("data: ") for line in lines if line.startswith(("data: ", "{"))]
    return [json.loads(event) for event in events if event != "[DONE]"]


async def test_half_a_call_is_told_by_chat_with_its_reason(serve: Serve) -> None:
    asked = {"messages": HI, "tools": [{"type": "function", "function": FUNCTION}]}
    whole = await half_a_call(serve, "/v1/chat/completions", **asked)
    (choice,) = whole["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == HALF
    events = await half_a_call(serve, "/v1/chat/completions", **asked, stream=True)
    choices = [event["choices"][0] for event in events if event["choices"]]
    told = [c["delta"]["tool_calls"] for c in choices if "tool_calls" in c["delta"]]
    assert [call["function"]["arguments"] for (call,) in told] == [HALF]
    assert [c["finish_reason"] for c in choices if c["finish_reason"]] == ["length"]


async def test_half_a_call_is_told_by_responses_as_incomplete(serve: Serve) -> None:
    asked = {"input": HI, "store": False}
    tools = [{"type": "function", **FUNCTION}]
    whole = await half_a_call(serve, "/v1/responses", **asked, tools=tools)
    (item,) = whole["output"]
    assert (whole["status"], item["status"]) == ("incomplete", "incomplete")
    assert (item["type"], item["arguments"]) == ("function_call", HALF)
    events = await half_a_call(serve, "/v1/responses", **asked, tools=tools, stream=True)
    done = [e["item"]["status"] for e in events if e["type"] == "response.output_item.done"]
    assert (done, events[-1]["type"]) == (["incomplete"], "response.incomplete")
    custom = [{"type": "custom", "name": "weather"}]
    whole = await half_a_call(serve, "/v1/responses", **asked, tools=custom)
    assert [item["type"] for item in whole["output"]] == ["message"]


async def test_half_a_call_is_told_by_messages_with_its_reason(serve: Serve) -> None:
    tools = [{"name": "weather", "input_schema": {"type": "object"}}]
    asked = {"messages": HI, "tools": tools, "max_tokens": 9}
    whole = await half_a_call(serve, "/v1/messages", **asked)
    assert (whole["stop_reason"], whole["content"][0]["input"]) == ("max_tokens", {})
    events = await half_a_call(serve, "/v1/messages", **asked, stream=True)
    deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"]
    assert "".join(delta["partial_json"] for delta in deltas) == HALF
    (end,) = [e["delta"] for e in events if e["type"] == "message_delta"]
    assert end["stop_reason"] == "max_tokens"


async def test_half_a_call_is_left_out_for_ollama(serve: Serve) -> None:
    asked = {"messages": HI, "tools": [{"type": "function", "function": FUNCTION}]}
    whole = await half_a_call(serve, "/api/chat", **asked, stream=False)
    assert whole["done_reason"] == "length"
    assert not whole["message"].get("tool_calls")
    lines = await half_a_call(serve, "/api/chat", **asked, stream=True)
    assert not any(line["message"].get("tool_calls") for line in lines)
    assert lines[-1]["done_reason"] == "length"
