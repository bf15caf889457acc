"""Pieces of an answer become the events that OpenAI's clients expect, in their order."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldeck.core.api.http.messages import convert
from modeldeck.core.api.responses.answer import AnswerEvent, AnswerObject
from modeldeck.core.api.responses.events import AnswerEvents, replayed
from modeldeck.core.api.responses.items import thought_of_token
from modeldeck.core.api.responses.request import AnswerBody
from modeldeck.core.api.responses.tools import ToolOffer, offer
from modeldeck.core.errors import ContextExceeded, EngineFailed, InvalidRequest
from modeldeck.core.schema import Chunk, TokenLogprob, ToolCall
from tests.core.api.responses.sdk_types import checked_answer, checked_event

DONE = Chunk(finish_reason="stop", prompt_tokens=5, completion_tokens=3)
CALL = ToolCall(id="call_1", name="add", arguments='{"a": 1}')
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True},
    {"type": "custom", "name": "patch"},
    {"type": "namespace", "name": "agents", "description": "", "tools": [
        {"type": "function", "name": "close"}
    ]},
    {"type": "web_search"},
]  # fmt: skip


def counted() -> Callable[[str], str]:
    numbers = itertools.count(1)
    return lambda prefix: f"{prefix}_{next(numbers)}"


def maker(
    offered: ToolOffer | None = None, *, encrypted: bool = False, **body: Any
) -> AnswerEvents:
    asked = convert({"model": "m", "input": "x", "tools": TOOLS, **body}, AnswerBody, "The body")
    begun = AnswerObject.begun(asked, "owner/m", id="resp_1", created_at=1)
    made = offered if offered is not None else offer(TOOLS, None)
    return AnswerEvents(begun, made, encrypted=encrypted, ids=counted(), now=lambda: 2.0)


def events_of(data: bytes) -> list[dict[str, Any]]:
    """The events, each validated as the client's own type."""
    found = []
    for block in data.split(b"\n\n")[:-1]:
        name, _, line = block.partition(b"\n")
        text = line.removeprefix(b"data: ")
        event = json.loads(text)
        checked_event(event)
        assert name == b"event: " + event["type"].encode()
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def streamed(events: AnswerEvents, *chunks: Chunk) -> list[dict[str, Any]]:
    return events_of(b"".join(events.add(chunk) for chunk in chunks))


def short(events: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Type and place of each event, and its text."""
    fields = ("output_index", "item_id", "delta", "text", "arguments", "input")
    return [
        (
            event["type"].removeprefix("response."),
            *(event[name] for name in fields if name in event),
        )
        for event in events
    ]


def test_an_answer_in_the_background_is_queued_first() -> None:
    events = maker(background=True)
    opening = events.opening()
    waited = events.ping()
    assert waited is not None
    assert events.answer.status == "queued"
    begun = events.begin()
    assert events.begin() == b""
    made = events_of(opening + waited + begun + events.add(Chunk(text="a")) + events.add(DONE))
    assert [each[0] for each in short(made)[:5]] == [
        *("created", "queued", "queued", "in_progress", "output_item.added"),
    ]
    statuses = [event["response"]["status"] for event in (*made[:4], made[-1])]
    assert statuses == ["queued", "queued", "queued", "in_progress", "completed"]
    assert all(event["response"]["background"] for event in (made[0], made[-1]))
    checked_answer(msgspec.json.encode(events.answer))
    assert not maker().begin(), "another is being made from its beginning"


def test_one_that_is_called_off_while_it_is_queued_was_never_begun() -> None:
    events = maker(background=True, conversation="conv_1")
    made = events_of(events.cancelled())
    assert [each[0] for each in short(made)] == ["created", "queued", "incomplete"]
    assert made[-1]["response"]["status"] == "cancelled"
    assert made[-1]["response"]["conversation"] == {"id": "conv_1"}
    assert events.begin() == b""


@pytest.mark.parametrize("thinks", [False, True])
@pytest.mark.parametrize("logprobs", [(), (TokenLogprob(token="é", logprob=-1.0),)])
def test_the_event_of_a_piece_is_written_as_every_other(
    thinks: bool, logprobs: tuple[TokenLogprob, ...]
) -> None:
    def piece(text: str) -> Chunk:
        return Chunk(thought=text) if thinks else Chunk(text=text, logprobs=logprobs)

    said = 'say "é"\n\n\\\u2028'
    events = maker()
    events.add(piece("a"))
    _, _, line = events.add(piece(said)).partition(b"\ndata: ")
    told = msgspec.json.decode(line, type=AnswerEvent)
    assert (told.delta, told.sequence_number, told.output_index) == (said, 5, 0)
    assert line == msgspec.json.encode(told) + b"\n\n"


def test_text() -> None:
    events = maker()
    made = streamed(events, Chunk(text="Hel"), Chunk(text="lo"), DONE)
    assert short(made) == [
        ("created",),
        ("in_progress",),
        ("output_item.added", 0),
        ("content_part.added", 0, "msg_1"),
        ("output_text.delta", 0, "msg_1", "Hel"),
        ("output_text.delta", 0, "msg_1", "lo"),
        ("output_text.done", 0, "msg_1", "Hello"),
        ("content_part.done", 0, "msg_1"),
        ("output_item.done", 0),
        ("completed",),
    ]
    created, done, completed = made[0]["response"], made[-2]["item"], made[-1]["response"]
    assert (created["status"], created["output"], created["usage"]) == ("in_progress", [], None)
    part = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
    assert done == {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
    assert completed["output"] == [done]
    assert completed["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 8,
    }
    assert (completed["status"], completed["completed_at"], completed["model"]) == (
        "completed",
        2,
        "owner/m",
    )
    assert completed["tools"] == TOOLS
    assert checked_answer(msgspec.json.encode(events.answer)).output_text == "Hello"


def test_a_thought_then_text() -> None:
    last = Chunk(
        finish_reason="stop",
        prompt_tokens=5,
        completion_tokens=9,
        cached_tokens=4,
        thought_tokens=6,
    )
    events = maker(encrypted=True)
    made = streamed(events, Chunk(thought="h"), Chunk(thought="m"), Chunk(text="Hi"), last)
    assert short(made) == [
        ("created",),
        ("in_progress",),
        ("output_item.added", 0),
        ("reasoning_summary_part.added", 0, "rs_1"),
        ("reasoning_summary_text.delta", 0, "rs_1", "h"),
        ("reasoning_summary_text.delta", 0, "rs_1", "m"),
        ("reasoning_summary_text.done", 0, "rs_1", "hm"),
        ("reasoning_summary_part.done", 0, "rs_1"),
        ("output_item.done", 0),
        ("output_item.added", 1),
        ("content_part.added", 1, "msg_2"),
        ("output_text.delta", 1, "msg_2", "Hi"),
        ("output_text.done", 1, "msg_2", "Hi"),
        ("content_part.done", 1, "msg_2"),
        ("output_item.done", 1),
        ("completed",),
    ]
    item = made[8]["item"]
    assert item["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert item["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert thought_of_token(item["encrypted_content"]) == "hm"
    usage = made[-1]["response"]["usage"]
    assert usage["input_tokens_details"]["cached_tokens"] == 4
    assert usage["output_tokens_details"]["reasoning_tokens"] == 6
    plain = streamed(maker(), Chunk(thought="h"), last)
    assert "encrypted_content" not in plain[-2]["item"]
    assert [item["type"] for item in plain[-1]["response"]["output"]] == ["reasoning"]


def test_calls_come_after_the_text_under_the_client_s_names() -> None:
    calls = (
        CALL,
        ToolCall(id="call_2", name="patch", arguments='{"input": "*** Begin"}'),
        ToolCall(id="call_3", name="agents__close", arguments="{}"),
    )
    last = Chunk(finish_reason="tool_calls", tool_calls=calls)
    made = streamed(maker(), Chunk(text="I see."), last)
    assert short(made)[8:] == [
        ("output_item.added", 1),
        ("function_call_arguments.delta", 1, "fc_2", '{"a": 1}'),
        ("function_call_arguments.done", 1, "fc_2", '{"a": 1}'),
        ("output_item.done", 1),
        ("output_item.added", 2),
        ("custom_tool_call_input.delta", 2, "ctc_3", "*** Begin"),
        ("custom_tool_call_input.done", 2, "ctc_3", "*** Begin"),
        ("output_item.done", 2),
        ("output_item.added", 3),
        ("function_call_arguments.delta", 3, "fc_4", "{}"),
        ("function_call_arguments.done", 3, "fc_4", "{}"),
        ("output_item.done", 3),
        ("completed",),
    ]
    begun, done = made[8]["item"], made[11]["item"]
    assert (begun["arguments"], begun["status"]) == ("", "in_progress")
    assert done == {
        "type": "function_call",
        "id": "fc_2",
        "status": "completed",
        "call_id": "call_1",
        "name": "add",
        "arguments": '{"a": 1}',
    }
    assert made[10]["name"] == "add"
    closed = made[-2]["item"]
    assert (closed["name"], closed["namespace"]) == ("close", "agents")
    one = streamed(maker(parallel_tool_calls=False), last)
    assert len(one[-1]["response"]["output"]) == 1


@pytest.mark.parametrize(
    ("chunks", "kinds"),
    [
        ((), ["message"]),
        ((Chunk(text="a"),), ["message"]),
        ((Chunk(thought="a"),), ["reasoning"]),
    ],
)
def test_an_answer_that_the_limit_cut_is_incomplete(
    chunks: tuple[Chunk, ...], kinds: list[str]
) -> None:
    made = streamed(maker(max_output_tokens=1), *chunks, Chunk(finish_reason="length"))
    assert made[-1]["type"] == "response.incomplete"
    answer = made[-1]["response"]
    assert (answer["status"], answer["completed_at"]) == ("incomplete", None)
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
    assert [item["type"] for item in answer["output"]] == kinds
    assert answer["output"][-1]["status"] == "incomplete"
    assert answer["max_output_tokens"] == 1


def test_an_answer_of_nothing_is_an_empty_message() -> None:
    made = streamed(maker(), DONE)
    assert [item["content"][0]["text"] for item in made[-1]["response"]["output"]] == [""]


def test_log_probabilities_stand_with_their_text() -> None:
    tokens = (TokenLogprob(token="Hi", logprob=-0.5, top=(("Hi", -0.5),)),)
    made = streamed(maker(top_logprobs=1), Chunk(text="Hi", logprobs=tokens), DONE)
    told = [event["logprobs"] for event in made if "logprobs" in event]
    assert len(told) == 2
    assert told[0] == told[1] == made[-1]["response"]["output"][0]["content"][0]["logprobs"]
    assert told[0][0]["top_logprobs"][0]["token"] == "Hi"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EngineFailed("It stopped.", "Ask again."), "server_error"),
        (InvalidRequest("Bad."), "invalid_prompt"),
    ],
)
def test_a_failure_is_told_with_what_came_before_it(error: Any, code: str) -> None:
    events = maker()
    made = events_of(events.add(Chunk(text="Hel")) + events.failed(error))
    assert made[-1]["type"] == "response.failed"
    answer = made[-1]["response"]
    assert answer["error"] == {"code": code, "message": str(error)}
    assert (answer["status"], answer["output"][0]["content"][0]["text"]) == ("failed", "Hel")
    assert answer["output"][0]["status"] == "incomplete"
    assert events.failed(error) == b""


def test_a_full_context_has_its_code() -> None:
    data = maker().failed(ContextExceeded("Too long."))
    answer = json.loads(data.split(b"data: ")[-1])["response"]
    assert answer["error"]["code"] == "context_length_exceeded"


def test_an_answer_that_was_called_off_keeps_what_it_has() -> None:
    events = maker()
    made = events_of(events.add(Chunk(text="Hel")) + events.cancelled())
    assert (made[-1]["type"], made[-1]["response"]["status"]) == (
        "response.incomplete",
        "cancelled",
    )
    assert events.answer.status == "cancelled"


def test_signs_of_life_come_before_the_first_item_only() -> None:
    events = maker()
    data = (events.ping() or b"") + (events.ping() or b"") + (events.ping() or b"")
    data += events.add(Chunk(text="Hi"))
    assert events.ping() is None
    data += events.add(DONE)
    assert events.ping() is None
    kinds = [event["type"] for event in events_of(data)]
    assert kinds[:5] == [
        "response.created",
        *["response.in_progress"] * 3,
        "response.output_item.added",
    ]
    assert kinds.count("response.created") == 1


def test_the_answer_can_be_looked_at_meanwhile() -> None:
    events = maker()
    events.add(Chunk(thought="hm"))
    events.add(Chunk(text="Hel"))
    answer = checked_answer(msgspec.json.encode(events.answer))
    assert (answer.status, answer.output_text) == ("in_progress", "Hel")
    assert answer.output[-1].status == "in_progress"


TEXTS = st.text(min_size=1, max_size=12)
PIECES = st.lists(
    st.one_of(
        TEXTS.map(lambda text: Chunk(text=text)), TEXTS.map(lambda text: Chunk(thought=text))
    ),
    max_size=8,
)
CALLS = st.lists(
    st.builds(
        ToolCall,
        id=st.just("call_1"),
        name=st.sampled_from(["add", "patch", "agents__close", "unknown"]),
        arguments=TEXTS,
    ),
    max_size=3,
)
ENDS = st.sampled_from(["stop", "length", "tool_calls"])


@given(PIECES, CALLS, ENDS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_and_the_same_is_told_once_more(
    pieces: list[Chunk], calls: list[ToolCall], end: Any, encrypted: bool
) -> None:
    last = Chunk(finish_reason=end, tool_calls=tuple(calls), completion_tokens=3)
    events = maker(encrypted=encrypted)
    made = streamed(events, *pieces, last)
    answer = made[-1]["response"]
    deltas = "".join(e["delta"] for e in made if e["type"] == "response.output_text.delta")
    assert deltas == "".join(piece.text for piece in pieces)
    assert [e["item"] for e in made if e["type"].endswith("item.done")] == answer["output"]
    thoughts = [i["content"][0]["text"] for i in answer["output"] if i["type"] == "reasoning"]
    assert "".join(thoughts) == "".join(piece.thought for piece in pieces)
    kinds = ("function_call", "custom_tool_call")
    # Half a call of a custom tool is left out.
    told = [c for c in calls if end != "length" or c.complete or c.name != "patch"]
    assert len([i for i in answer["output"] if i["type"] in kinds]) == len(told)
    for index, event in enumerate(e for e in made if e["type"].endswith("item.added")):
        assert event["output_index"] == index

    stored = msgspec.json.decode(msgspec.json.encode(events.answer), type=AnswerObject)
    assert stored == events.answer
    again = events_of(replayed(stored))
    assert again[-1]["response"] == answer
    assert [e["item"] for e in again if e["type"].endswith("item.done")] == answer["output"]


def test_a_stream_cut_at_every_byte_is_read_to_the_same_events() -> None:
    from openai._streaming import SSEDecoder

    chunks = (Chunk(thought="hm"), Chunk(text="é\u2028🦙\n\nx"), Chunk(text="\r"), DONE)
    data = b"".join(map(maker().add, chunks))
    whole = [(one.event, one.data) for one in SSEDecoder().iter_bytes(iter([data]))]
    assert len(whole) == len(events_of(data))
    for place in range(1, len(data)):
        parts = iter([data[:place], data[place:]])
        assert [(one.event, one.data) for one in SSEDecoder().iter_bytes(parts)] == whole
