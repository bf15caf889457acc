"""Streamed answers, read by the client's own decoder and checked against its own types."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from anthropic._streaming import SSEDecoder
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from modeldeck.core.api.anthropic.answer import AnswerRules, message_of
from modeldeck.core.api.anthropic.events import PING, EventWriter
from modeldeck.core.api.http.messages import json_response
from modeldeck.core.schema import Chunk, ToolCall

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
USUAL = AnswerRules(max_tokens=100)
CALLS = (
    ToolCall(id="a", name="weather", arguments='{"city": "Oslo"}'),
    ToolCall(id="b", name="weather", arguments='{"city": "Bergen"}'),
)


def last(**fields: Any) -> Chunk:
    counts = {"prompt_tokens": 10, "completion_tokens": 7, "cached_tokens": 4}
    return Chunk(**{"finish_reason": "stop", **counts, **fields})


def streamed(chunks: list[Chunk], rules: AnswerRules = USUAL) -> bytes:
    writer = EventWriter(id="msg_1", model="m", rules=rules, context=17)
    return b"".join(writer.feed(chunk) for chunk in chunks)


def told(data: bytes, *cuts: int) -> list[dict[str, Any]]:
    """The events that the client's decoder finds, in pieces cut at these places."""
    places = [0, *cuts, len(data)]
    pieces = [data[a:b] for a, b in pairwise(places)]
    found = []
    for event in SSEDecoder().iter_bytes(iter(pieces)):
        body = event.json()
        assert event.event == body["type"]
        found.append(body)
    return found


def known(model: BaseModel, body: dict[str, Any]) -> None:
    """Fail for a field that the client's type does not have."""
    assert not set(body) - set(type(model).model_fields), type(model).__name__
    for name, value in body.items():
        part = getattr(model, name)
        if isinstance(part, BaseModel):
            known(part, value)


def accumulated(events: list[dict[str, Any]]) -> Any:
    """The message that the client makes of events, each of which is of its type."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for body in events:
        if body["type"] == "ping":
            continue
        event = EVENT.validate_python(body, strict=True)
        known(event, body)
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    return snapshot


def joined(chunks: list[Chunk]) -> Chunk:
    return Chunk(
        text="".join(chunk.text for chunk in chunks),
        thought="".join(chunk.thought for chunk in chunks),
        **{
            name: getattr(chunks[-1], name)
            for name in (
                *("tool_calls", "finish_reason", "stop_text", "prompt_tokens"),
                *("completion_tokens", "cached_tokens", "thought_tokens"),
            )
        },
    )


START = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 0,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 0,
            },
        },
    },
    {"type": "ping"},
]


def added(index: int, **delta: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def begun(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def ended(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def end(reason: str, sequence: str | None = None) -> list[dict[str, Any]]:
    usage = {
        "input_tokens": 6,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 7,
    }
    delta = {"stop_reason": reason, "stop_sequence": sequence}
    return [
        {"type": "message_delta", "delta": delta, "usage": usage},
        {"type": "message_stop"},
    ]


def test_the_events_of_a_text() -> None:
    assert told(streamed([Chunk(text="Hello "), Chunk(text="you"), last()])) == [
        *START,
        begun(0, type="text", text=""),
        added(0, type="text_delta", text="Hello "),
        added(0, type="text_delta", text="you"),
        ended(0),
        *end("end_turn"),
    ]


def test_the_events_of_a_thought_and_two_calls() -> None:
    chunks = [Chunk(thought="Let "), Chunk(thought="me."), last(tool_calls=CALLS)]
    events = told(streamed(chunks))
    signed = events[5]["delta"].pop("signature")
    assert signed.startswith("md1.")
    assert events == [
        *START,
        begun(0, type="thinking", thinking="", signature=""),
        added(0, type="thinking_delta", thinking="Let "),
        added(0, type="thinking_delta", thinking="me."),
        added(0, type="signature_delta"),
        ended(0),
        begun(1, type="tool_use", id="a", name="weather", input={}),
        added(1, type="input_json_delta", partial_json=""),
        added(1, type="input_json_delta", partial_json='{"city": "Oslo"}'),
        ended(1),
        begun(2, type="tool_use", id="b", name="weather", input={}),
        added(2, type="input_json_delta", partial_json=""),
        added(2, type="input_json_delta", partial_json='{"city": "Bergen"}'),
        ended(2),
        *end("tool_use"),
    ]


def test_a_thought_that_is_not_shown_is_in_its_signature() -> None:
    rules = AnswerRules(max_tokens=100, hides_thought=True)
    chunks = [Chunk(thought="secret"), Chunk(text="Hi"), last()]
    data = streamed(chunks, rules)
    assert b"secret" not in data
    message = accumulated(told(data))
    assert (message.content[0].thinking, message.content[1].text) == ("", "Hi")
    assert message.content[0].signature.startswith("md1t.")


def test_signs_of_life_begin_with_the_opening() -> None:
    writer = EventWriter(id="msg_1", model="m", rules=USUAL)
    data = writer.alive() or b""
    assert told(data) == START
    assert writer.alive() == PING
    data += PING + writer.feed(Chunk(text="Hi")) + PING + writer.feed(last())
    assert writer.alive() is None
    assert accumulated(told(data)).content[0].text == "Hi"


@pytest.mark.parametrize(
    ("chunk", "rules", "reason", "sequence"),
    [
        (last(), USUAL, "end_turn", None),
        (
            last(stop_text="x"),
            AnswerRules(max_tokens=9, stop_sequences=("x",)),
            "stop_sequence",
            "x",
        ),
        # A stop string that the engine added by itself is the model's own end.
        (last(stop_text="<|im_end|>"), USUAL, "end_turn", None),
        (last(finish_reason="length", prompt_tokens=9), USUAL, "max_tokens", None),
        (last(finish_reason="length"), USUAL, "model_context_window_exceeded", None),
        (last(finish_reason="tool_calls", tool_calls=CALLS), USUAL, "tool_use", None),
    ],
)
def test_why_it_ended(chunk: Chunk, rules: AnswerRules, reason: str, sequence: str | None) -> None:
    delta = told(streamed([chunk], rules))[-2]["delta"]
    assert delta == {"stop_reason": reason, "stop_sequence": sequence}
    whole = message_of(chunk, rules, id="msg_1", model="m", context=17)
    assert (whole.stop_reason, whole.stop_sequence) == (reason, sequence)


def test_at_most_one_call_and_none_of_a_prompt_that_is_only_read() -> None:
    chunk = last(text="x", tool_calls=CALLS)
    one = AnswerRules(max_tokens=100, one_call=True)
    assert [part.id for part in accumulated(told(streamed([chunk], one))).content[1:]] == ["a"]
    nothing = AnswerRules(max_tokens=0)
    assert accumulated(told(streamed([chunk], nothing))).content == []
    assert message_of(chunk, nothing, id="msg_1", model="m").content == []


def test_a_stream_cut_at_every_byte_gives_the_same_events() -> None:
    chunks = [Chunk(thought="ü→"), Chunk(text="🦙 a"), last(tool_calls=CALLS[:1])]
    data = streamed(chunks)
    whole = told(data)
    for place in range(len(data)):
        assert told(data, place) == whole
        complete = data[: data.rfind(b"\n\n", 0, place) + 2] if b"\n\n" in data[:place] else b""
        assert told(complete) == whole[: complete.count(b"\n\n")]
    assert told(data, *range(1, len(data))) == whole


PIECES = st.lists(
    st.one_of(
        st.builds(lambda t: Chunk(text=t), st.text(min_size=1, max_size=6)),
        st.builds(lambda t: Chunk(thought=t), st.text(min_size=1, max_size=6)),
    ),
    max_size=8,
)
ENDS = st.builds(
    last,
    tool_calls=st.sampled_from([(), CALLS[:1], CALLS]),
    thought_tokens=st.sampled_from([None, 3]),
    finish_reason=st.sampled_from(["stop", "length"]),
)


@given(PIECES, ENDS, st.booleans())
def test_streamed_and_whole_answers_say_the_same(
    pieces: list[Chunk], end_: Chunk, hides: bool
) -> None:
    rules = AnswerRules(max_tokens=100, hides_thought=hides)
    chunks = [*pieces, end_]
    message = accumulated(told(streamed(chunks, rules)))
    whole = message_of(joined(chunks), rules, id="msg_1", model="m", context=17)
    body = json.loads(json_response(whole).body)
    known(Message.model_validate(body, strict=True), body)

    def text(content: list[dict[str, Any]], kind: str, field: str) -> str:
        return "".join(part[field] for part in content if part["type"] == kind)

    parts = [part.model_dump() for part in message.content]
    for kind, field in (("text", "text"), ("thinking", "thinking")):
        assert text(parts, kind, field) == text(body["content"], kind, field)
    calls = [
        [(p["id"], p["name"], p["input"]) for p in content if p["type"] == "tool_use"]
        for content in (parts, body["content"])
    ]
    assert calls[0] == calls[1]
    assert message.stop_reason == body["stop_reason"]
    assert message.usage.model_dump(exclude_none=True) == body["usage"]
