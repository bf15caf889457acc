"""OpenAI's forms become ours, and ours theirs."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from modeldeck.core.api.http.messages import convert, error_response
from modeldeck.core.api.openai.chat_answer import ChatStream, CompletionChunk, choice_of
from modeldeck.core.api.openai.chat_request import ChatBody, calls_of, generate_request
from modeldeck.core.api.openai.completions import CompletionBody, TextLogprobs
from modeldeck.core.api.openai.embeddings import EmbeddingsBody, encoded
from modeldeck.core.api.openai.shared_fields import Usage
from modeldeck.core.errors import InvalidRequest, NotDownloaded, NotFound
from modeldeck.core.schema import Chunk, TokenLogprob, ToolCall

TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}},
}
CALL = ToolCall(id="c1", name="add", arguments='{"a":1}')
HELLO = [{"role": "user", "content": "hello"}]


def chat(**fields: Any) -> ChatBody:
    return convert({"model": "m", "messages": HELLO, **fields}, ChatBody, "The body")


BLANK = CompletionChunk(id="x", created=1, model="m")


def wire(value: object) -> Any:
    return json.loads(msgspec.json.encode(value))


def test_a_chat_becomes_a_request_for_an_engine() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    calls = [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]
    made = generate_request(
        chat(
            messages=[
                {"role": "developer", "content": "s", "name": "passed over"},
                {"role": "user", "content": parts},
                {"role": "assistant", "content": None, "tool_calls": calls},
                {"role": "tool", "content": "3", "tool_call_id": "c1"},
            ],
            max_tokens=1,
            max_completion_tokens=2,
            stop="end",
            seed=-1,
            response_format={"type": "text"},
            tools=[TOOL],
            tool_choice={"type": "function", "function": {"name": "add"}},
            logprobs=True,
            top_logprobs=3,
            user="somebody",
            something_new={"x": 1},
        )
    )
    assert [message.content for message in made.messages] == ["s", "ab", "", "3"]
    assert made.messages[2].tool_calls == (ToolCall(id="c1", name="add", arguments="{}"),)
    assert made.messages[3].tool_call_id == "c1"
    assert (made.max_tokens, made.stop, made.seed) == (2, ("end",), 0xFFFF_FFFF)
    assert (made.tools[0].name, made.tools[0].parameters) == ("add", {"type": "object"})
    assert (made.tool_choice, made.logprobs, made.json_schema) == ("add", 3, None)
    assert generate_request(chat(stop=["", "x"])).stop == ("x",)


@pytest.mark.parametrize(
    ("fields", "schema"),
    [
        ({"response_format": {"type": "json_object"}}, {}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "strict": True, "schema": {"type": "array"}},
                }
            },
            {"type": "array"},
        ),
        ({"response_format": None}, None),
    ],
)
def test_response_formats_are_schemas(fields: dict[str, Any], schema: Any) -> None:
    made = generate_request(chat(**fields))
    assert (made.json_schema, made.strict_schema) == (schema, True)


@pytest.mark.parametrize(("strict", "held"), [(True, True), (None, True), (False, False)])
def test_a_schema_is_strict_unless_it_says_that_it_is_not(strict: bool | None, held: bool) -> None:
    named = {"name": "x", "strict": strict, "schema": {"type": "array", "uniqueItems": True}}
    made = generate_request(chat(response_format={"type": "json_schema", "json_schema": named}))
    assert made.strict_schema is held


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n": 0}, "$.n"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_completion_tokens": 0}, "max_completion_tokens is 0"),
        ({"logit_bias": {"yes": 2}}, "no token number"),
        ({"logit_bias": [[1, True]]}, "number, or false"),
        ({"functions": [{}]}, "functions"),
        ({"function_call": "sometimes", "functions": [{"name": "f"}]}, "sometimes"),
        ({"reasoning_effort": "some"}, "effort"),
        ({"chat_template_kwargs": {"enable_thinking": "no"}}, "enable_thinking"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "one of them"),
        ({"grammar": "root ::= x", "response_format": {"type": "json_object"}}, "one of them"),
        ({"guided_json": "{"}, "not JSON"),
        ({"guided_choice": []}, "one text"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structural_tag"),
        ({"top_logprobs": 2}, "needs logprobs"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"keep_alive": "soon"}, "keep_alive"),
        ({"response_format": {"type": "json_schema"}}, "json_schema.schema"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "type 'custom'"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "auto"}}]}, "'auto'"),
        ({"tool_choice": "required"}, "no tools"),
        ({"tool_choice": "sometimes", "tools": [TOOL]}, "sometimes"),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "no tool"),
        ({"tool_choice": {"type": "allowed_tools"}}, "allowed_tools"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "image_url"),
        ({"messages": [{"role": "nobody", "content": "a"}]}, "role"),
    ],
)
def test_what_is_not_done_is_refused_in_words(fields: dict[str, Any], words: str) -> None:
    def ask() -> None:
        body = chat(**fields)
        generate_request(body)
        body.keep_alive_s()

    with pytest.raises(InvalidRequest) as caught:
        ask()
    assert words in str(caught.value)


def test_calls_are_an_answer_of_their_own() -> None:
    whole = Chunk(tool_calls=(CALL, CALL), finish_reason="tool_calls", completion_tokens=3)
    made = wire(choice_of(whole, chat()))
    assert made["finish_reason"] == "tool_calls"
    assert made["message"]["content"] is None
    assert made["message"]["tool_calls"][0] == {
        "id": "c1",
        "type": "function",
        "function": {"name": "add", "arguments": '{"a":1}'},
    }
    text = wire(choice_of(Chunk(text="", finish_reason="stop"), chat()))
    assert text["message"]["content"] == ""
    assert "tool_calls" not in text["message"]

    assert len(calls_of(chat(parallel_tool_calls=False), whole)) == 1
    parts = ChatStream(BLANK, chat()).pieces(whole)
    deltas = wire(parts[0])["choices"][0]["delta"]["tool_calls"]
    assert [delta["index"] for delta in deltas] == [0, 1]


def test_logprobs_have_bytes_and_offsets() -> None:
    tokens = (
        TokenLogprob(token="é", logprob=-0.5, top=(("é", -0.5), ("b", -1.5))),
        TokenLogprob(token="cd", logprob=-0.25),
    )
    (part,) = ChatStream(BLANK, chat()).pieces(Chunk(text="écd", logprobs=tokens))
    made = wire(part)["choices"][0]["logprobs"]
    assert made["content"][0] == {
        "token": "é",
        "logprob": -0.5,
        "bytes": [195, 169],
        "top_logprobs": [
            {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
            {"token": "b", "logprob": -1.5, "bytes": [98]},
        ],
    }
    assert wire(TextLogprobs.of(tokens, 7)) == {
        "tokens": ["é", "cd"],
        "token_logprobs": [-0.5, -0.25],
        "top_logprobs": [{"é": -0.5, "b": -1.5}, {}],
        "text_offset": [7, 8],
    }
    assert TextLogprobs.of(()) is None


def completion(**fields: Any) -> CompletionBody:
    return convert({"model": "m", **fields}, CompletionBody, "The body")


def test_prompts_are_one_request_each() -> None:
    made = completion(prompt=["a", "b"], max_tokens=5, logprobs=0).requests()
    assert [(one.prompt, one.max_tokens, one.logprobs) for one in made] == [
        ("a", 5, 0),
        ("b", 5, 0),
    ]
    assert completion(prompt="a").requests()[0].max_tokens == 16


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": [1, 2]}, "token numbers"),
        ({"prompt": [[1], [2]]}, "token numbers"),
        ({"prompt": []}, "1 to 64"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
        ({"prompt": "a", "best_of": 2, "n": 3}, "best_of"),
        ({"prompt": "a", "echo": True, "logprobs": 1}, "echo"),
        ({"prompt": "a", "n": 17}, "$.n"),
        ({}, "prompt"),
    ],
)
def test_what_completions_do_not_do_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        completion(**fields).requests()
    assert words in str(caught.value)


@pytest.mark.parametrize("given", [[], [1], [[1, 2]], ["a"] * 2049])
def test_what_cannot_be_embedded_is_refused(given: Any) -> None:
    body = convert({"model": "m", "input": given}, EmbeddingsBody, "The body")
    with pytest.raises(InvalidRequest):
        body.texts()


def test_counts() -> None:
    assert Usage.of(Chunk(prompt_tokens=3, completion_tokens=4)).total_tokens == 7
    both = Usage.of(Chunk(prompt_tokens=3), Chunk(completion_tokens=4))
    assert (both.prompt_tokens, both.completion_tokens) == (3, 4)
    assert Usage.of(Chunk()).total_tokens == 0
    ends = [Chunk(prompt_tokens=3, cached_tokens=2, completion_tokens=4, thought_tokens=1)] * 2
    several = wire(Usage.of(*ends, each=2))
    assert several == {
        "prompt_tokens": 3,
        "completion_tokens": 8,
        "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert encoded([1.0], "float") == [1.0]


def test_errors_name_the_parameter() -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(temperature=9)
    error = json.loads(error_response(caught.value, "openai").body)["error"]
    assert (error["param"], error["type"]) == ("temperature", "invalid_request_error")
    for raised, code in (
        (NotFound("x"), "model_not_found"),
        (NotDownloaded("x"), "not_downloaded"),
    ):
        error = json.loads(error_response(raised, "openai", 404).body)["error"]
        assert (error["code"], error["param"]) == (code, None)
