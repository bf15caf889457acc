"""Items of a conversation become messages, and lose nothing that a model can read."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.api.responses.items import (
    HOSTED_CALLS,
    OUTPUTS,
    SKIPPED,
    messages_of,
    resolved,
    thought_of_token,
    thought_token,
    tools_in,
)
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Message, ToolCall
from tests.core.api.responses.sdk_types import discriminators

USER = {"role": "user", "content": "hello"}


def said(role: str, *parts: tuple[str, str]) -> dict[str, Any]:
    content = [{"type": kind, "text": text} for kind, text in parts]
    return {"type": "message", "role": role, "content": content}


def test_a_turn_of_the_assistant_is_one_message() -> None:
    made = messages_of(
        [
            USER,
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": None},
            {
                "type": "reasoning",
                "id": "rs_2",
                "summary": [{"type": "summary_text", "text": "short"}],
                "content": [{"type": "reasoning_text", "text": "hm"}],
                "encrypted_content": None,
            },
            said("assistant", ("output_text", "I look ")) | {"phase": "commentary"},
            {"type": "function_call", "call_id": "c1", "name": "a", "arguments": "{}"},
            {
                "type": "custom_tool_call",
                "call_id": "c2",
                "name": "patch",
                "input": 'a "b"',
                "status": "completed",
            },
            {
                "type": "function_call",
                "call_id": "c3",
                "name": "close",
                "namespace": "agents",
                "arguments": "{}",
            },
            {"type": "function_call_output", "call_id": "c1", "output": "1"},
            {
                "type": "custom_tool_call_output",
                "call_id": "c2",
                "output": [{"type": "input_text", "text": "2"}],
            },
            {"role": "assistant", "content": "Done."},
            {"role": "assistant", "content": "Really."},
        ]
    )
    assert made == (
        Message(role="user", content="hello"),
        Message(
            role="assistant",
            content="I look ",
            thought="hm",
            tool_calls=(
                ToolCall(id="c1", name="a", arguments="{}"),
                ToolCall(id="c2", name="patch", arguments='{"input": "a \\"b\\""}'),
                ToolCall(id="c3", name="agents__close", arguments="{}"),
            ),
        ),
        Message(role="tool", content="1", tool_call_id="c1"),
        Message(role="tool", content="2", tool_call_id="c2"),
        Message(role="assistant", content="Done."),
        Message(role="assistant", content="Really."),
    )


def test_instructions_in_front_become_one_system_message() -> None:
    made = messages_of(
        [
            said("developer", ("input_text", "two")),
            {"role": "system", "content": "three"},
            USER,
            {"role": "system", "content": "later"},
        ],
        "one",
    )
    assert [(m.role, m.content) for m in made] == [
        ("system", "one\n\ntwo\n\nthree"),
        ("user", "hello"),
        ("developer", "later"),
    ]
    assert messages_of([], "one") == (Message(role="system", content="one"),)


@pytest.mark.parametrize(
    ("item", "thought"),
    [
        ({"encrypted_content": thought_token("hm")}, "hm"),
        ({"encrypted_content": "foreign", "summary": [{"type": "summary_text", "text": "s"}]}, "s"),
        ({"content": [{"type": "reasoning_text", "text": "c"}], "summary": None}, "c"),
    ],
)
def test_a_thought_is_found_wherever_it_stands(item: dict[str, Any], thought: str) -> None:
    made = messages_of([USER, {"type": "reasoning", "id": "rs_1", **item}])
    assert made[-1] == Message(role="assistant", thought=thought)


@pytest.mark.parametrize("token", ["", "md1.", "md1.x", "md1.%%%", "md1./w==", "abc"])
def test_a_token_of_another_server_is_no_thought(token: str) -> None:
    assert thought_of_token(token) == ""


def test_what_other_tools_did_is_kept() -> None:
    made = messages_of(
        [
            USER,
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "local_shell_call", "call_id": "c1", "action": {"command": ["ls"]}},
            {"type": "local_shell_call_output", "id": "c1", "output": "a.txt"},
            {"type": "shell_call", "call_id": "c2", "action": {"commands": ["ls"]}},
            {
                "type": "shell_call_output",
                "call_id": "c2",
                "output": [{"stdout": "x", "stderr": "", "outcome": {"type": "exit"}}],
            },
            {
                "type": "mcp_call",
                "id": "mcp_1",
                "name": "roll",
                "server_label": "dice",
                "arguments": "{}",
                "output": "6",
            },
        ]
    )
    assert [(m.role, m.content, [c.name for c in m.tool_calls]) for m in made] == [
        ("user", "hello", []),
        ("assistant", "", ["local_shell"]),
        ("tool", "a.txt", []),
        ("assistant", "", ["shell"]),
        ("tool", '{"stdout": "x", "stderr": "", "outcome": {"type": "exit"}}', []),
        ("assistant", "", ["roll"]),
        ("tool", "6", []),
    ]
    assert made[-1].tool_call_id == made[-2].tool_calls[0].id == "mcp_1"


def test_every_item_of_openai_s_client_is_known() -> None:
    ours = {"message", "reasoning", "function_call", "custom_tool_call", "mcp_call"}
    known = ours | {"item_reference"} | SKIPPED | OUTPUTS | set(HOSTED_CALLS)
    theirs = discriminators("ResponseInputItem")
    assert len(theirs) > 20
    assert theirs - known == set()


def test_files_of_text_are_read_and_images_of_tools_taken() -> None:
    data = base64.b64encode("né".encode()).decode()
    file = {"type": "input_file", "filename": "a.py", "file_data": f"data:;base64,{data}"}
    made = messages_of([{"role": "user", "content": [file, {"type": "input_text", "text": "?"}]}])
    assert made[0].content == "File a.py:\nné\n?"
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    kept = {"type": "input_image", "file_id": "f"}
    made = messages_of([{"type": "function_call_output", "call_id": "c", "output": [image, kept]}])
    assert [media.place for media in made[0].media] == ["input[0].output[0]"]
    assert made[0].content == "[An image that was not sent]"


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"type": "nonsense", "text": "x"}, r"input\[1\].*nonsense"),
        ({"content": "x"}, r"input\[1\].*None"),
        ({"role": "nobody", "content": "x"}, r"input\[1\].*role"),
        ({"role": "user", "content": [{"text": "x"}]}, r"type"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "x"}]}, "input_image"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "input_audio"),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}, "without its data"),
        (
            {"role": "user", "content": [{"type": "input_file", "file_data": "AA=="}]},
            "not text",
        ),
        (
            {
                "role": "user",
                "content": [{"type": "input_file", "file_data": "/w==", "filename": "a.txt"}],
            },
            "not text",
        ),
        ({"type": "function_call", "name": "x"}, "call_id"),
        ({"type": "function_call", "call_id": "x", "name": "x", "arguments": {}}, "arguments"),
        ({"type": "function_call_output", "call_id": 1, "output": "x"}, "call_id"),
    ],
)
def test_what_cannot_be_read_is_named(item: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        messages_of([USER, item])


def test_references_are_replaced() -> None:
    kept = {"msg_1": {"type": "message", "role": "assistant", "content": "hi"}}
    given: list[dict[str, Any]] = [
        {"type": "item_reference", "id": "rs_gone"},
        {"type": "item_reference", "id": "msg_1"},
        {"id": "msg_1"},
        USER,
    ]
    assert resolved(given, kept.get) == [kept["msg_1"], kept["msg_1"], USER]
    with pytest.raises(InvalidRequest, match="msg_gone"):
        resolved([{"type": "item_reference", "id": "msg_gone"}], kept.get)


def test_tools_may_come_in_the_middle() -> None:
    tool = {"type": "function", "name": "late"}
    given: list[Any] = [{"type": "additional_tools", "role": "developer", "tools": [tool, 1]}, USER]
    assert tools_in(given) == [tool]
    assert len(messages_of(given)) == 1


TEXT = st.text(min_size=1, max_size=20)
ITEMS = st.lists(
    st.one_of(
        st.tuples(st.just("user"), TEXT),
        st.tuples(st.just("assistant"), TEXT),
        st.tuples(st.just("developer"), TEXT),
        st.tuples(st.just("thought"), TEXT),
        st.tuples(st.just("call"), TEXT),
        st.tuples(st.just("custom"), TEXT),
        st.tuples(st.just("output"), TEXT),
    ),
    max_size=12,
)


def item(kind: str, text: str) -> dict[str, Any]:
    if kind == "thought":
        content = [{"type": "reasoning_text", "text": text}]
        return {"type": "reasoning", "id": "rs", "summary": [], "content": content}
    if kind == "call":
        return {"type": "function_call", "call_id": "c", "name": "f", "arguments": text}
    if kind == "custom":
        return {"type": "custom_tool_call", "call_id": "c", "name": "g", "input": text}
    if kind == "output":
        return {"type": "function_call_output", "call_id": "c", "output": text}
    return {"role": kind, "content": [{"type": "input_text", "text": text}]}


@given(ITEMS)
def test_every_text_call_and_thought_is_kept_in_order(given: list[tuple[str, str]]) -> None:
    made = messages_of([item(kind, text) for kind, text in given])
    calls = [c for m in made for c in m.tool_calls]
    assert [c.arguments if c.name == "f" else json.loads(c.arguments)["input"] for c in calls] == [
        text for kind, text in given if kind in ("call", "custom")
    ]
    for role, kind in (("user", "user"), ("tool", "output"), ("assistant", "assistant")):
        texts = [m.content for m in made if m.role == role and m.content]
        assert texts == [text for each, text in given if each == kind]
    thoughts = [text for kind, text in given if kind == "thought"]
    assert "\n\n".join(m.thought for m in made if m.thought) == "\n\n".join(thoughts)
    told = [m.content for m in made if m.role in ("system", "developer")]
    assert "\n\n".join(told) == "\n\n".join(text for kind, text in given if kind == "developer")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
KINDS = st.sampled_from(
    ["message", "reasoning", "function_call", "mcp_call", *sorted(OUTPUTS | set(HOSTED_CALLS))]
)
NAMES = st.sampled_from(
    ["role", "content", "summary", "call_id", "name", "arguments", "input", "output", "id"]
)


@given(st.lists(st.tuples(KINDS, st.dictionaries(NAMES, JSON, max_size=5)), max_size=4))
def test_nonsense_is_read_or_refused(given: list[tuple[str, dict[str, Any]]]) -> None:
    with contextlib.suppress(InvalidRequest):
        messages_of([{"type": kind, **fields} for kind, fields in given])
