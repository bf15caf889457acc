"""What one dialect asks, another one answers: text, calls, thoughts and usage stay the same."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldeck.core.api.anthropic import request as anthropic
from modeldeck.core.api.anthropic.answer import AnswerRules, message_of
from modeldeck.core.api.anthropic.request import MessagesBody
from modeldeck.core.api.call_input import input_of
from modeldeck.core.api.http.messages import convert, event
from modeldeck.core.api.ollama.schema import OllamaAnswerMessage, OllamaChatBody, calls_of, metrics
from modeldeck.core.api.openai import chat_request
from modeldeck.core.api.openai.chat_answer import ChatStream, CompletionChunk, choice_of
from modeldeck.core.api.openai.chat_request import ChatBody
from modeldeck.core.api.openai.shared_fields import Usage
from modeldeck.core.api.responses.answer import AnswerObject
from modeldeck.core.api.responses.events import AnswerEvents
from modeldeck.core.api.responses.generate_request import input_items, question
from modeldeck.core.api.responses.request import AnswerBody
from modeldeck.core.api.responses.tools import offer
from modeldeck.core.schema import Chunk, GenerateRequest, Message, ToolCall

Body = dict[str, Any]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"name": "weather", "description": "The weather.", "parameters": PARAMETERS}
TOOL = {"type": "function", "function": FUNCTION}

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
VALUES = st.dictionaries(TEXT, st.one_of(TEXT, st.integers(-9, 9), st.booleans()), max_size=3)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """A question, an answer with a thought and calls, their results, and another question."""
    calls = tuple(
        ToolCall(id=f"call_{n}", name="weather", arguments=json.dumps(each, ensure_ascii=False))
        for n, each in enumerate(draw(st.lists(VALUES, min_size=1, max_size=3)))
    )
    results = [Message(role="tool", content=draw(TEXT), tool_call_id=call.id) for call in calls]
    answer = Message(role="assistant", content=draw(TEXT), thought=draw(TEXT), tool_calls=calls)
    return (Message(role="user", content=draw(TEXT)), answer, *results,
            Message(role="user", content=draw(TEXT)))  # fmt: skip


def arguments(call: ToolCall) -> Any:
    return json.loads(call.arguments)


def chat_body(turns: Sequence[Message]) -> Body:
    def call(each: ToolCall) -> Body:
        function = {"name": each.name, "arguments": each.arguments}
        return {"id": each.id, "type": "function", "function": function}

    messages: list[Body] = []
    for turn in turns:
        form: Body = {"role": turn.role, "content": turn.content}
        if turn.thought:
            form["reasoning_content"] = turn.thought
        if turn.tool_calls:
            form["tool_calls"] = [call(each) for each in turn.tool_calls]
        if turn.tool_call_id:
            form["tool_call_id"] = turn.tool_call_id
        messages.append(form)
    return {"model": "m", "messages": messages, "tools": [TOOL]}


def responses_body(turns: Sequence[Message]) -> Body:
    items: list[Body] = []
    for turn in turns:
        if turn.role == "tool":
            output = {"call_id": turn.tool_call_id, "output": turn.content}
            items.append({"type": "function_call_output", **output})
            continue
        if turn.thought:
            content = [{"type": "reasoning_text", "text": turn.thought}]
            items.append({"type": "reasoning", "id": "rs_1", "summary": [], "content": content})
        kind = "output_text" if turn.role == "assistant" else "input_text"
        part = {"type": kind, "text": turn.content}
        items.append({"type": "message", "role": turn.role, "content": [part]})
        items += [
            {"type": "function_call", "call_id": each.id, "name": each.name,
             "arguments": each.arguments}
            for each in turn.tool_calls
        ]  # fmt: skip
    return {"model": "m", "input": items, "tools": [{"type": "function", **FUNCTION}]}


def anthropic_body(turns: Sequence[Message]) -> Body:
    messages: list[Body] = []
    for turn in turns:
        text = {"type": "text", "text": turn.content}
        if turn.role == "tool":
            result = {"tool_use_id": turn.tool_call_id, "content": turn.content}
            messages.append({"role": "user", "content": [{"type": "tool_result", **result}]})
            continue
        thought = {"type": "thinking", "thinking": turn.thought, "signature": ""}
        uses = [
            {"type": "tool_use", "id": each.id, "name": each.name, "input": arguments(each)}
            for each in turn.tool_calls
        ]
        blocks = [*([thought] if turn.thought else []), text, *uses]
        messages.append({"role": turn.role, "content": blocks})
    tool = {"name": "weather", "description": "The weather.", "input_schema": PARAMETERS}
    return {"model": "m", "max_tokens": 9, "messages": messages, "tools": [tool]}


def ollama_body(turns: Sequence[Message]) -> Body:
    messages: list[Body] = []
    for turn in turns:
        form: Body = {"role": turn.role, "content": turn.content}
        if turn.thought:
            form["thinking"] = turn.thought
        if turn.tool_calls:
            form["tool_calls"] = [
                {"id": each.id, "function": {"name": each.name, "arguments": arguments(each)}}
                for each in turn.tool_calls
            ]
        if turn.tool_call_id:
            form["tool_call_id"] = turn.tool_call_id
        messages.append(form)
    return {"model": "m", "messages": messages, "tools": [TOOL]}


def responses_request(body: Body) -> GenerateRequest:
    parsed = convert(body, AnswerBody, "The body")
    return question(parsed, input_items(parsed)).request


ASKED: dict[str, tuple[Callable[[Sequence[Message]], Body], Callable[[Body], Any]]] = {
    "chat": (chat_body, lambda b: chat_request.generate_request(convert(b, ChatBody, "b"))),
    "responses": (responses_body, responses_request),
    "anthropic": (
        anthropic_body,
        lambda b: anthropic.generate_request(convert(b, MessagesBody, "b")),
    ),
    "ollama": (ollama_body, lambda b: convert(b, OllamaChatBody, "b").request()),
}


def plain(messages: Sequence[Message]) -> list[Any]:
    """What a conversation says, whatever order its arguments were written in."""
    return [
        (m.role, m.content, m.thought, m.tool_call_id,
         [(c.id, c.name, arguments(c)) for c in m.tool_calls])
        for m in messages
    ]  # fmt: skip


@pytest.mark.parametrize("dialect", ASKED)
@given(conversations())
@settings(max_examples=40, deadline=None)
def test_a_conversation_is_the_same_in_every_dialect(
    dialect: str, turns: tuple[Message, ...]
) -> None:
    written, read = ASKED[dialect]
    request: GenerateRequest = read(msgspec.json.decode(msgspec.json.encode(written(turns))))
    assert plain(request.messages) == plain(turns)
    (tool,) = request.tools
    assert (tool.name, tool.description, tool.parameters) == tuple(FUNCTION.values())


def wire(form: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(form))


def told_by_chat(whole: Chunk) -> Any:
    body = convert({"model": "m", "messages": [{"role": "user"}]}, ChatBody, "b")
    message, usage = wire(choice_of(whole, body))["message"], wire(Usage.of(whole))
    calls = [
        (c["id"], c["function"]["name"], json.loads(c["function"]["arguments"]))
        for c in message.get("tool_calls", ())
    ]
    counts = (usage["prompt_tokens"], usage["completion_tokens"])
    return message["content"] or "", message.get("reasoning_content", ""), calls, counts


def told_by_responses(whole: Chunk) -> Any:
    asked = convert({"model": "m", "input": "x"}, AnswerBody, "b")
    begun = AnswerObject.begun(asked, "m", id="resp_1", created_at=1)
    numbers = itertools.count()
    made = AnswerEvents(
        begun, offer(None, None), encrypted=False, ids=lambda p: f"{p}{next(numbers)}", now=float
    )
    made.add(whole)
    answer = wire(made.answer)
    text = thought = ""
    calls = []
    for item in answer["output"]:
        if item["type"] == "message":
            text += "".join(part["text"] for part in item["content"])
        elif item["type"] == "reasoning":
            thought += "".join(part["text"] for part in item["content"])
        else:
            calls.append((item["call_id"], item["name"], json.loads(item["arguments"])))
    return text, thought, calls, (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"])


def told_by_anthropic(whole: Chunk) -> Any:
    message = wire(
        message_of(whole, AnswerRules(max_tokens=99), id="msg_1", model="m", context=None)
    )
    found = {"text": "", "thinking": ""}
    calls = []
    for part in message["content"]:
        if part["type"] == "tool_use":
            calls.append((part["id"], part["name"], part["input"]))
        else:
            found[part["type"]] += part[part["type"]]
    usage = message["usage"]
    read = usage["input_tokens"] + usage["cache_read_input_tokens"]
    return found["text"], found["thinking"], calls, (read, usage["output_tokens"])


def told_by_ollama(whole: Chunk) -> Any:
    calls_ = calls_of(whole.tool_calls)
    form = OllamaAnswerMessage(content=whole.text, thinking=whole.thought, tool_calls=calls_)
    message, counts = wire(form), metrics(whole, load_s=0, total_s=1)
    calls = [
        (c["id"], c["function"]["name"], c["function"]["arguments"])
        for c in message.get("tool_calls", ())
    ]
    read = (counts["prompt_eval_count"], counts["eval_count"])
    return message["content"], message["thinking"], calls, read


@pytest.mark.parametrize(
    "told", [told_by_chat, told_by_responses, told_by_anthropic, told_by_ollama]
)
@given(conversations(), st.integers(5, 99), st.integers(1, 99))
@settings(max_examples=40, deadline=None)
def test_an_answer_is_the_same_in_every_dialect(
    told: Callable[[Chunk], Any], turns: tuple[Message, ...], read: int, written: int
) -> None:
    answer = turns[1]
    whole = Chunk(
        text=answer.content,
        thought=answer.thought,
        tool_calls=answer.tool_calls,
        finish_reason="tool_calls",
        prompt_tokens=read,
        completion_tokens=written,
        cached_tokens=2,
        thought_tokens=1,
    )
    calls = [(call.id, call.name, input_of(call)) for call in answer.tool_calls]
    assert told(whole) == (answer.content, answer.thought, calls, (read, written))


def test_a_chat_s_stream_cut_at_every_byte_is_read_to_the_same_events() -> None:
    from openai._streaming import SSEDecoder

    body = convert({"model": "m", "messages": [{"role": "user"}]}, ChatBody, "b")
    stream = ChatStream(CompletionChunk(id="c", created=1, model="m"), body)
    call = ToolCall(id="a", name="weather", arguments='{"city": "Åre\u2028"}')
    pieces = [
        Chunk(thought="hm"),
        Chunk(text="é\u2028🦙\n\nx"),
        Chunk(text="\r", finish_reason="tool_calls", tool_calls=(call,)),
    ]
    parts = [stream.opening(), *(part for piece in pieces for part in stream.pieces(piece))]
    data = b"".join(event(msgspec.json.encode(part)) for part in parts)
    whole = [one.data for one in SSEDecoder().iter_bytes(iter([data]))]
    assert [json.loads(each) for each in whole] == [wire(part) for part in parts]
    for place in range(1, len(data)):
        cut = iter([data[:place], data[place:]])
        assert [one.data for one in SSEDecoder().iter_bytes(cut)] == whole
