"""Conversations in Anthropic's form keep what they say when they become ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldeck.core.api.anthropic.conversation import BILLING, NESTED, signature
from modeldeck.core.api.anthropic.request import (
    CountTokensBody,
    MessagesBody,
    generate_request,
)
from modeldeck.core.api.http.messages import convert
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import GenerateRequest, Message, ToolCall


def converted(**fields: Any) -> GenerateRequest:
    """The request to an engine for a body with these fields."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return generate_request(convert(body, MessagesBody, "The body"))


def talk(*turns: tuple[str, Any], system: Any = None) -> list[tuple[str, str]]:
    """Role and text of the messages that a conversation becomes."""
    messages = [{"role": role, "content": content} for role, content in turns]
    request = converted(messages=messages, system=system)
    return [(message.role, message.content) for message in request.messages]


def text(*texts: str) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": each, "cache_control": {"type": "ephemeral"}} for each in texts
    ]


LINE = f"{BILLING} cc_version=2.1.177.01c; cc_entrypoint=cli; cch=36ee5;"


@pytest.mark.parametrize(
    ("turns", "system", "found"),
    [
        ([("user", "Hi")], None, [("user", "Hi")]),
        ([("user", text("a", "b"))], None, [("user", "a\nb")]),
        ([("user", "Hi")], "Be brief.", [("developer", "Be brief."), ("user", "Hi")]),
        ([("user", "Hi")], text("S", "T"), [("developer", "S\nT"), ("user", "Hi")]),
        # The line that changes with every request is left out, and nothing else.
        ([("user", "Hi")], text(LINE, "T"), [("developer", "T"), ("user", "Hi")]),
        ([("user", "Hi")], f"{LINE}\nT", [("developer", "T"), ("user", "Hi")]),
        ([("user", "Hi")], LINE, [("user", "Hi")]),
        (
            [("user", "Hi")],
            text("S", LINE),
            [("developer", f"S\n{LINE}"), ("user", "Hi")],
        ),
        # Instructions in the middle stay where they are.
        (
            [("user", "a"), ("system", "S"), ("user", "b")],
            None,
            [("user", "a"), ("developer", "S"), ("user", "b")],
        ),
        ([("user", "a"), ("user", "b")], None, [("user", "a\nb")]),
        (
            [("user", "a"), ("assistant", "b"), ("assistant", text("c"))],
            None,
            [("user", "a"), ("assistant", "b\nc")],
        ),
        (
            [
                (
                    "user",
                    [
                        *text("after"),
                        {"type": "tool_result", "tool_use_id": "1", "content": "one"},
                        {"type": "tool_result", "tool_use_id": "2", "content": text("two", "2")},
                        {"type": "tool_result", "tool_use_id": "3"},
                        {
                            "type": "tool_result",
                            "tool_use_id": "4",
                            "content": "no",
                            "is_error": True,
                        },
                    ],
                )
            ],
            None,
            [
                ("tool", "one"),
                ("tool", "two\n2"),
                ("tool", ""),
                ("tool", "Error:\nno"),
                ("user", "after"),
            ],
        ),
    ],
)
def test_who_says_what(
    turns: list[tuple[str, Any]], system: Any, found: list[tuple[str, str]]
) -> None:
    assert talk(*turns, system=system) == found


@pytest.mark.parametrize(
    ("block", "found"),
    [
        (
            {
                "type": "document",
                "title": "T",
                "context": "C",
                "source": {"type": "text", "media_type": "text/plain", "data": "D"},
            },
            "T\nC\nD",
        ),
        ({"type": "document", "source": {"type": "content", "content": "D"}}, "D"),
        ({"type": "document", "source": {"type": "content", "content": text("D", "E")}}, "D\nE"),
        (
            {"type": "search_result", "title": "T", "source": "http://x", "content": text("R")},
            "T\nhttp://x\nR",
        ),
        ({"type": "tool_reference", "tool_name": "grep"}, "grep"),
        ({"type": "web_search_tool_result", "tool_use_id": "1", "content": text("R")}, "R"),
        (
            {"type": "code_execution_tool_result", "tool_use_id": "1", "content": {"stdout": "x"}},
            "",
        ),
        ({"type": "server_tool_use", "id": "1", "name": "web_search", "input": {}}, ""),
        ({"type": "container_upload", "file_id": "1"}, ""),
        ({"type": "redacted_thinking", "data": "x"}, ""),
        ({"type": "never_seen", "text": "T"}, "T"),
    ],
)
def test_blocks_of_every_type_give_their_text(block: dict[str, Any], found: str) -> None:
    for role in ("user", "assistant"):
        assert talk((role, [block])) == [(role, found)]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"type": "image", "source": {"type": "base64"}}, r"messages\[0\]\.content\[0\]"),
        (
            {
                "type": "tool_result",
                "tool_use_id": "1",
                "content": [{"type": "image", "source": {"type": "file", "file_id": "x"}}],
            },
            r"'file'.*messages\[0\]\.content\[0\]\.content\[0\]",
        ),
        ({"type": "document", "source": {"type": "base64", "data": "x"}}, "'base64'"),
        ({"type": "document"}, "None"),
        ({"type": "tool_result", "tool_use_id": "1", "content": [{"type": 1}]}, "type"),
    ],
)
def test_what_the_model_cannot_be_given_is_refused(block: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        talk(("user", [block]))


def test_blocks_in_blocks_have_a_bound() -> None:
    block: Any = {"type": "never_seen", "content": "deep"}
    for _ in range(NESTED + 1):
        block = {"type": "never_seen", "content": [block]}
    assert talk(("user", [block])) == [("user", "")]


def test_thoughts_and_calls_come_back() -> None:
    hidden = signature("hidden", shown=False)
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "of another server"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "thinking", "thinking": "", "signature": hidden},
        {"type": "thinking", "thinking": "", "signature": "md1t.&"},
        {"type": "thinking", "thinking": None, "signature": None},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": "ü"}, "caller": {}},
        {"type": "tool_use", "id": "b", "name": "g", "input": None},
    ]
    (message,) = converted(messages=[{"role": "assistant", "content": content}]).messages
    assert message == Message(
        role="assistant",
        content="I look.",
        thought="Hm.\nhidden",
        tool_calls=(
            ToolCall(id="a", name="f", arguments='{"x": "ü"}'),
            ToolCall(id="b", name="g", arguments="{}"),
        ),
    )


TOOLS = [
    {
        "name": "f",
        "description": "F",
        "input_schema": {"type": "object"},
        "input_examples": [{"x": 1}, {"x": "ü"}],
        "strict": True,
    },
    {"name": "g", "type": "custom", "input_schema": {"type": "object"}, "defer_loading": True},
    {"name": "web_search", "type": "web_search_20250305", "max_uses": 8},
]


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        (None, None),
        ({"type": "auto"}, None),
        ({"type": "none"}, "none"),
        ({"type": "any", "disable_parallel_tool_use": True}, "required"),
        ({"type": "tool", "name": "g"}, "g"),
    ],
)
def test_tools_and_which_must_be_called(choice: Any, found: str | None) -> None:
    request = converted(tools=TOOLS, tool_choice=choice)
    assert [tool.name for tool in request.tools] == ["f", "g"]
    assert request.tools[0].description == 'F\nFor example:\n{"x": 1}\n{"x": "ü"}'
    assert request.tools[1].description == ""
    assert request.tool_choice == found


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "web_search"}}, "own servers"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "h"}}, "names no tool"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool"}}, "cannot be"),
        ({"tools": TOOLS, "tool_choice": {"type": "some"}}, "cannot be"),
        ({"tools": TOOLS[2:], "tool_choice": {"type": "any"}}, "no tool that can be called"),
        ({"output_config": {"format": {"type": "grammar"}}}, "'grammar'"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "'json_schema'"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": ""}]}, "role"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        converted(**fields)


def test_options_keep_their_meaning() -> None:
    request = converted(
        max_tokens=9,
        temperature=0.5,
        top_p=0.9,
        top_k=-1,
        stop_sequences=["x", ""],
        thinking={"type": "enabled", "budget_tokens": 32000},
        output_config={"effort": "max", "format": {"type": "json_schema", "schema": {"a": 1}}},
    )
    assert (request.max_tokens, request.temperature, request.top_p, request.top_k) == (
        9,
        0.5,
        0.9,
        0,
    )
    assert (request.stop, request.json_schema) == (("x",), {"a": 1})
    assert (request.thinking, request.thinking_budget, request.thinking_effort) == (
        True,
        32000,
        "max",
    )
    assert converted(output_format={"type": "json_schema", "schema": {}}).json_schema == {}
    assert converted().max_tokens == 4096
    assert converted(max_tokens=0).max_tokens == 1


@pytest.mark.parametrize(
    ("form", "switch"),
    [
        (None, None),
        ({"type": "adaptive"}, None),
        ({"type": "between_tools"}, None),
        ({"type": "enabled", "budget_tokens": 1024}, True),
        ({"type": "disabled"}, False),
    ],
)
def test_how_thinking_is_switched(form: Any, switch: bool | None) -> None:
    assert converted(thinking=form).thinking is switch


# Whatever is said arrives

WORDS = st.text("abc xyzü\n{}<>", min_size=1, max_size=12)
TEXTS = st.builds(lambda t: {"type": "text", "text": t}, WORDS)
THOUGHTS = st.builds(lambda t: {"type": "thinking", "thinking": t, "signature": ""}, WORDS)
CALLS = st.builds(
    lambda key, value: {"type": "tool_use", "id": key, "name": "f", "input": {"x": value}},
    st.text("0123456789", min_size=1, max_size=6),
    WORDS,
)
RESULTS = st.builds(
    lambda key, content: {"type": "tool_result", "tool_use_id": key, "content": content},
    st.text("0123456789", min_size=1, max_size=6),
    st.one_of(WORDS, st.lists(TEXTS, max_size=3)),
)
TURNS = st.one_of(
    st.tuples(st.just("user"), st.one_of(WORDS, st.lists(st.one_of(TEXTS, RESULTS)))),
    st.tuples(st.just("assistant"), st.one_of(WORDS, st.lists(st.one_of(TEXTS, THOUGHTS, CALLS)))),
    st.tuples(st.just("system"), st.one_of(WORDS, st.lists(TEXTS))),
)


@given(st.lists(TURNS, min_size=1, max_size=6))
def test_text_calls_thoughts_and_results_are_kept(turns: list[tuple[str, Any]]) -> None:
    body = {"model": "m", "messages": [{"role": r, "content": c} for r, c in turns]}
    messages = generate_request(convert(body, CountTokensBody, "The body")).messages
    blocks = [
        block
        for _, content in turns
        for block in ([{"type": "text", "text": content}] if isinstance(content, str) else content)
    ]

    def of(kind: str) -> list[dict[str, Any]]:
        return [block for block in blocks if block["type"] == kind]

    for role in ("user", "assistant", "system"):
        own = [content for speaker, content in turns if speaker == role]
        said = [
            block["text"]
            for content in own
            for block in (
                [{"type": "text", "text": content}] if isinstance(content, str) else content
            )
            if block["type"] == "text"
        ]
        ours = "developer" if role == "system" else role
        found = "\n".join(m.content for m in messages if m.role == ours and m.content)
        assert found == "\n".join(said)
    thoughts = "\n".join(m.thought for m in messages if m.thought)
    assert thoughts == "\n".join(block["thinking"] for block in of("thinking"))
    calls = [call for message in messages for call in message.tool_calls]
    assert [(c.id, json.loads(c.arguments)) for c in calls] == [
        (block["id"], block["input"]) for block in of("tool_use")
    ]
    results = [(m.tool_call_id, m.content) for m in messages if m.role == "tool"]
    assert results == [
        (
            block["tool_use_id"],
            block["content"]
            if isinstance(block["content"], str)
            else "\n".join(part["text"] for part in block["content"]),
        )
        for block in of("tool_result")
    ]
