"""Every spelling that clients have of thinking, samplers, structure and functions."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from modeldeck.core.api.http.messages import convert
from modeldeck.core.api.openai.chat_answer import ChatStream, CompletionChunk, choice_of
from modeldeck.core.api.openai.chat_request import ChatBody, generate_request
from modeldeck.core.api.openai.completions import CompletionBody
from modeldeck.core.schema import Chunk, TokenLogprob, ToolCall

CALL = ToolCall(id="c1", name="add", arguments='{"a":1}')
HELLO = [{"role": "user", "content": "hello"}]
BLANK = CompletionChunk(id="x", created=1, model="m")


def chat(**fields: Any) -> ChatBody:
    return convert({"model": "m", "messages": HELLO, **fields}, ChatBody, "The body")


def completion(**fields: Any) -> CompletionBody:
    return convert({"model": "m", **fields}, CompletionBody, "The body")


def wire(value: object) -> Any:
    return json.loads(msgspec.json.encode(value))


ON, OFF = {"thinking": True}, {"thinking": False}


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, {"thinking": None, "thinking_effort": None, "thinking_budget": None}),
        ({"reasoning_effort": "none"}, OFF),
        ({"reasoning_effort": "minimal"}, {**ON, "thinking_effort": "minimal"}),
        ({"reasoning_effort": "xhigh"}, {**ON, "thinking_effort": "xhigh"}),
        ({"reasoning": {"effort": "high"}}, {**ON, "thinking_effort": "high"}),
        ({"reasoning": {"max_tokens": 64}}, {"thinking": None, "thinking_budget": 64}),
        ({"reasoning": {"enabled": False}}, OFF),
        ({"reasoning": {}}, {"thinking": None}),
        ({"think": False}, OFF),
        ({"think": "low"}, {**ON, "thinking_effort": "low"}),
        ({"thinking": True}, ON),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, {**ON, "thinking_budget": 9}),
        ({"thinking": {"type": "disabled"}}, OFF),
        ({"thinking": {"type": "adaptive"}}, {"thinking": None}),
        ({"enable_thinking": False}, OFF),
        ({"thinking_budget": 0}, {**OFF, "thinking_budget": 0}),
        ({"thinking_budget_tokens": 5}, {"thinking_budget": 5}),
        ({"reasoning_budget_tokens": -1}, {"thinking_budget": None}),
        ({"chat_template_kwargs": {"enable_thinking": False, "x": 1}}, OFF),
        ({"chat_template_kwargs": {"thinking": True}}, ON),
        # What is said outright counts for more than a level.
        ({"think": False, "reasoning_effort": "high"}, {**OFF, "thinking_effort": None}),
    ],
)
def test_every_spelling_of_thinking(fields: dict[str, Any], asked: dict[str, Any]) -> None:
    made = generate_request(chat(**fields))
    assert {name: getattr(made, name) for name in asked} == asked
    assert made.template_options == fields.get("chat_template_kwargs", {})


def test_thoughts_of_earlier_answers_are_known_by_every_name() -> None:
    parts = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Yes."}]
    messages = [
        *({"role": "assistant", "content": "Yes.", name: "Hm."} for name in THOUGHT_NAMES),
        {"role": "assistant", "content": parts},
        {"role": "user", "content": "a", "reasoning": "not mine"},
    ]
    *made, user = generate_request(chat(messages=messages)).messages
    assert {(message.content, message.thought) for message in made} == {("Yes.", "Hm.")}
    assert user.thought == ""


THOUGHT_NAMES = ("reasoning_content", "reasoning", "thinking")


@pytest.mark.parametrize(
    ("fields", "followed"),
    [
        ({"json_schema": {"type": "array"}}, {"json_schema": {"type": "array"}}),
        ({"guided_json": '{"type": "array"}'}, {"json_schema": {"type": "array"}}),
        ({"guided_regex": "[ab]+"}, {"regex": "[ab]+"}),
        ({"guided_choice": ["a", 'b"']}, {"grammar": 'root ::= "a" | "b\\""'}),
        ({"guided_grammar": "root ::= [a]"}, {"grammar": "root ::= [a]"}),
        ({"structured_outputs": {"json": {"type": "array"}}}, {"json_schema": {"type": "array"}}),
        ({"structured_outputs": {"json_object": True}}, {"json_schema": {}}),
        ({"structured_outputs": {"regex": "a"}}, {"regex": "a"}),
        ({"structured_outputs": {"choice": ["a"]}}, {"grammar": 'root ::= "a"'}),
        (
            {"response_format": {"type": "json_object", "schema": {"type": "array"}}},
            {"json_schema": {"type": "array"}},
        ),
    ],
)
def test_every_spelling_of_what_an_answer_follows(
    fields: dict[str, Any], followed: dict[str, Any]
) -> None:
    made = generate_request(chat(**fields))
    names = ("json_schema", "regex", "grammar")
    assert {n: v for n in names if (v := getattr(made, n)) is not None} == followed


def test_samplers_have_the_names_of_llama_server() -> None:
    fields = {
        **{"min_p": 0.1, "typical_p": 0.9, "top_n_sigma": 1.5, "repeat_last_n": -1},
        **{"mirostat": 2, "mirostat_tau": 4.0, "mirostat_eta": 0.2, "dry_multiplier": 0.8},
        **{"dry_base": 1.5, "dry_allowed_length": 3, "dry_penalty_last_n": -1},
        **{"xtc_probability": 0.5, "xtc_threshold": 0.2},
    }
    made = generate_request(chat(**fields, dry_sequence_breakers=["x"], repetition_penalty=1.2))
    assert {name: getattr(made, name) for name in fields} == fields
    assert (made.dry_sequence_breakers, made.repeat_penalty) == (("x",), 1.2)
    loose = generate_request(chat(max_tokens=-1, top_k=-1, logit_bias={"5": -100, "6": 1}))
    assert (loose.max_tokens, loose.top_k, loose.logit_bias) == (None, 0, {5: -100.0, 6: 1.0})
    pairs = generate_request(chat(logit_bias=[[5, False], [6, 0.5]]))
    assert pairs.logit_bias == {5: -1e9, 6: 0.5}
    assert generate_request(chat(cache_prompt=False)).cache is False


def test_functions_are_the_older_form_of_tools() -> None:
    function = {"name": "add", "parameters": {"type": "object"}}
    body = chat(
        functions=[function],
        function_call={"name": "add"},
        messages=[
            *HELLO,
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "add", "arguments": "{}"},
            },
            {"role": "function", "name": "add", "content": "3"},
        ],
    )
    made = generate_request(body)
    assert (made.tools[0].name, made.tool_choice) == ("add", "add")
    _, asked, answered = made.messages
    assert answered.role == "tool"
    assert answered.tool_call_id == asked.tool_calls[0].id
    whole = Chunk(tool_calls=(CALL,), finish_reason="tool_calls")
    answer = wire(choice_of(whole, body))
    assert answer["finish_reason"] == "function_call"
    assert answer["message"]["function_call"] == {"name": "add", "arguments": '{"a":1}'}
    assert "tool_calls" not in answer["message"]
    called, ended = (wire(p)["choices"][0] for p in ChatStream(BLANK, body).pieces(whole))
    assert called["delta"]["function_call"]["name"] == "add"
    assert ended["finish_reason"] == "function_call"


@pytest.mark.parametrize(
    ("fields", "message", "deltas"),
    [
        (
            {},
            {"content": "Yes.", "reasoning_content": "Hm."},
            [{"reasoning_content": "H"}, {"reasoning_content": "m."}, {"content": "Yes."}],
        ),
        ({"reasoning": {"exclude": True}}, {"content": "Yes."}, [{"content": "Yes."}]),
        ({"include_reasoning": False}, {"content": "Yes."}, [{"content": "Yes."}]),
        (
            {"reasoning_format": "none"},
            {"content": "<think>\nHm.\n</think>\n\nYes."},
            [{"content": "<think>\nH"}, {"content": "m."}, {"content": "\n</think>\n\nYes."}],
        ),
    ],
)
def test_thoughts_stand_apart_from_the_text(
    fields: dict[str, Any], message: dict[str, Any], deltas: list[dict[str, Any]]
) -> None:
    body = chat(**fields)
    made = wire(choice_of(Chunk(thought="Hm.", text="Yes.", finish_reason="stop"), body))["message"]
    assert {n: made[n] for n in ("content", "reasoning_content") if n in made} == message
    stream = ChatStream(BLANK, body)
    pieces = [Chunk(thought="H"), Chunk(thought="m."), Chunk(text="Yes.")]
    parts = [part for chunk in pieces for part in stream.pieces(chunk)]
    assert [wire(part)["choices"][0]["delta"] for part in parts] == deltas


def test_part_of_a_character_is_told_by_its_bytes() -> None:
    token = TokenLogprob(token="bytes:\\xf0\\x9f", logprob=-1.0, top=(("bytes:\\xa6", -2.0),))
    (part,) = ChatStream(BLANK, chat()).pieces(Chunk(text="x", logprobs=(token,)))
    (made,) = wire(part)["choices"][0]["logprobs"]["content"]
    assert (made["bytes"], made["top_logprobs"][0]["bytes"]) == ([0xF0, 0x9F], [0xA6])


def test_several_answers_have_seeds_of_their_own() -> None:
    made = completion(prompt=["a", "b"], n=2, seed=7).requests()
    assert [(one.prompt, one.seed) for one in made] == [("a", 7), ("a", 8), ("b", 7), ("b", 8)]
    assert len(completion(prompt="a", n=2, best_of=2).requests()) == 2
    ends = [Chunk(prompt_tokens=tokens, completion_tokens=1) for tokens in (3, 3, 5, 5)]
    usage = completion(prompt=["a", "b"], n=2).usage(ends)
    assert (usage.prompt_tokens, usage.completion_tokens) == (8, 4)
    assert completion(prompt="a", suffix="b").requests()[0].suffix == "b"
