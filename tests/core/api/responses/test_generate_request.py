"""Bodies that real clients send become requests to an engine; what is not done is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.api.http.messages import convert
from modeldeck.core.api.responses.generate_request import input_items, question, with_sampling
from modeldeck.core.api.responses.history import listed
from modeldeck.core.api.responses.request import FIELDS, AnswerBody
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import GenerateRequest
from tests.core.api.responses.sdk_types import create_fields

RECORDED = json.loads(Path(__file__).with_name("recorded_requests.json").read_text())
"""Requests as Codex, OpenAI's clients and their agents sent them, long texts cut."""


def body(**fields: Any) -> AnswerBody:
    return convert({"model": "m", "input": "hello", **fields}, AnswerBody, "The body")


def asked(**fields: Any) -> GenerateRequest:
    made = body(**fields)
    return with_sampling(question(made, input_items(made)).request, made)


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded["client"])
def test_every_recorded_request_is_taken(recorded: dict[str, Any]) -> None:
    made = convert(recorded["body"], AnswerBody, "The body")
    if made.loads_only:
        return
    items = input_items(made)
    request = with_sampling(question(made, items).request, made)
    assert request.messages
    images = json.dumps(made.input).count('"input_image"')
    assert sum(len(message.media) for message in request.messages) == images
    listed(items)
    names = {tool.name for tool in request.tools}
    if any(tool.get("type") == "namespace" for tool in made.tools or ()):
        assert any("__" in name for name in names)
    sent = [tool for tool in made.tools or () if tool["type"] in ("function", "custom")]
    assert {tool["name"] for tool in sent} <= names


def test_a_request_in_full() -> None:
    made = asked(
        instructions="Be brief.",
        max_output_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        seed=1,
        tools=[{"type": "function", "name": "add"}],
        tool_choice="required",
        text={"format": {"type": "json_schema", "name": "a", "schema": {"type": "array"}}},
        reasoning={"effort": "high", "summary": "auto"},
        include=["message.output_text.logprobs", "something.new"],
        top_logprobs=2,
        metadata={"k": "v"},
        truncation="disabled",
        client_metadata={"x": 1},
    )
    assert [(m.role, m.content) for m in made.messages] == [
        ("system", "Be brief."),
        ("user", "hello"),
    ]
    assert (made.max_tokens, made.temperature, made.top_p, made.top_k, made.seed) == (
        *(7, 0.5, 0.9, 5, 1),
    )
    assert (made.json_schema, made.tool_choice, made.logprobs) == ({"type": "array"}, "required", 2)
    assert (made.thinking, made.thinking_effort) == (True, "high")


@pytest.mark.parametrize(
    ("reasoning", "thinking"),
    [
        (None, (None, None)),
        ({}, (None, None)),
        ({"summary": "auto"}, (None, None)),
        ({"effort": "none"}, (False, None)),
        ({"effort": "minimal"}, (True, "minimal")),
        ({"effort": "max"}, (True, "max")),
    ],
)
def test_how_much_is_thought(reasoning: Any, thinking: tuple[Any, Any]) -> None:
    made = asked(reasoning=reasoning)
    assert (made.thinking, made.thinking_effort) == thinking


def test_other_spellings_of_thinking() -> None:
    made = asked(enable_thinking=False, chat_template_kwargs={"x": 1}, thinking_budget=5)
    assert (made.thinking, made.template_options, made.thinking_budget) == (False, {"x": 1}, 5)
    assert asked(chat_template_kwargs={"enable_thinking": True}).thinking is True
    assert asked(chat_template_kwargs={"thinking": False}).thinking is False


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        (None, None),
        ({}, None),
        ({"verbosity": "low"}, None),
        ({"format": {"type": "text"}}, None),
        ({"format": {"type": "json_object"}}, {}),
    ],
)
def test_formats(text: Any, schema: Any) -> None:
    assert asked(text=text).json_schema == schema


@pytest.mark.parametrize(("strict", "held"), [(True, True), (None, True), (False, False)])
def test_a_schema_is_strict_unless_it_says_that_it_is_not(strict: bool | None, held: bool) -> None:
    form: Any = {"type": "json_schema", "name": "a", "schema": {"not": {}}, "strict": strict}
    assert asked(text={"format": form}).strict_schema is held


@pytest.mark.parametrize(
    ("fields", "logprobs"),
    [({}, None), ({"top_logprobs": 0}, None), ({"top_logprobs": 3}, 3),
     ({"include": ["message.output_text.logprobs"]}, 0)],
)  # fmt: skip
def test_log_probabilities_are_given_where_they_are_asked_for(
    fields: dict[str, Any], logprobs: int | None
) -> None:
    assert asked(**fields).logprobs == logprobs


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input": []}, "nothing to answer"),
        ({"input": None}, "nothing to answer"),
        ({"input": 1}, "input"),
        ({"input": ["x"]}, "input"),
        ({"model": None}, "model"),
        ({"background": True, "store": False}, "background"),
        ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "exclude each other"),
        ({"conversation": {"name": "a"}}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"truncation": "sometimes"}, "truncation"),
        ({"reasoning": {"effort": "lots"}}, "effort"),
        ({"text": {"format": {"type": "json_object"}}, "grammar": "root ::= x"}, "several"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "no schema"),
        ({"text": {"format": {"type": "grammar"}}}, "'grammar'"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"n": 2}, "n other than 1"),
    ],
)
def test_what_is_not_done_is_refused_in_words(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        asked(**fields)


def test_an_empty_input_only_loads() -> None:
    assert body(input="", max_output_tokens=1).loads_only
    assert not body(input="", previous_response_id="resp_1").loads_only
    assert not body(input="", conversation="conv_1").loads_only
    assert not body(input=[]).loads_only


@pytest.mark.parametrize("named", ["conv_1", {"id": "conv_1"}])
def test_a_conversation_is_named_by_its_id_or_an_object(named: Any) -> None:
    assert body(conversation=named).conversation_id() == "conv_1"
    assert body().conversation_id() is None


def test_every_field_of_openai_s_client_is_in_the_table() -> None:
    assert create_fields() == set(FIELDS)
    ours = set(AnswerBody.__dataclass_fields__)
    assert {name for name, use in FIELDS.items() if use != "harmless"} <= ours


def test_items_are_listed_in_full() -> None:
    text, answer, call, thought = listed(
        [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "ho"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc_1"},
            {"type": "reasoning", "summary": []},
        ]
    )
    assert text["type"] == "message"
    assert text["id"].startswith("msg_")
    assert text["content"] == [{"type": "input_text", "text": "hi"}]
    assert answer["content"][0]["type"] == "output_text"
    assert (call["id"], call["status"]) == ("fc_1", "completed")
    assert thought["id"].startswith("rs_")
