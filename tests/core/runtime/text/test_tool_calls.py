"""Calls of tools in what models write, without an engine."""

import json
import time
from itertools import count
from typing import Any

import pytest

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.text.chat_prompt import ChatTemplate, check_tools, knows_tools, turns
from modeldeck.core.runtime.text.tool_calls import ToolStream
from modeldeck.core.schema import GenerateRequest, Message, Tool, ToolCall

TOOLS = (
    Tool(name="weather", parameters={"type": "object", "properties": {"zip": {"type": "string"}}}),
    Tool(name="add"),
)
HERMES = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
USER = (Message(role="user", content="x"),)


def read(text: str, size: int) -> tuple[str, list[tuple[str, Any]]]:
    """What comes out of an answer that arrives in pieces: its text, and its calls."""
    numbers = count()
    stream = ToolStream(TOOLS, make_id=lambda: f"id{next(numbers)}")
    out = "".join(stream.feed(text[i : i + size]) for i in range(0, len(text), size))
    out += stream.finish()
    assert [call.id for call in stream.calls] == [f"id{i}" for i in range(len(stream.calls))]
    return out, [(call.name, json.loads(call.arguments)) for call in stream.calls]


A = ("add", {"a": 1})


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "out", "calls"),
    [
        (HERMES, "", [A]),
        (f"\n{HERMES}\n", "", [A]),
        (f"Let me see.\n{HERMES}\n{HERMES}", "Let me see.\n", [A, A]),
        (f"One.{HERMES}Two.", "One.Two.", [A]),
        ('<tool_call>{"name":"add","arguments":"{\\"a\\": 1}"}</tool_call>', "", [A]),
        (
            "<tool_call>\n<function=weather>\n<parameter=zip>\n00501\n</parameter>\n"
            "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
            "",
            [("weather", {"zip": "00501", "days": 3})],
        ),
        ('[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}]', "", [A]),
        ('[TOOL_CALLS]add[ARGS]{"a": 1}', "", [A]),
        (
            '[TOOL_CALLS] [{"name":"add","arguments":{"a":1},"id":"x"},{"name":"add"}]',
            '[TOOL_CALLS] [{"name":"add","arguments":{"a":1},"id":"x"},{"name":"add"}]',
            [],
        ),
        ('<|python_tag|>{"name": "add", "parameters": {"a": 1}}', "", [A]),
        ('{"name": "add", "parameters": {"a": 1}}', "", [A]),
        (
            '{"name": "add", "parameters": {"a": 1}}; {"name": "add", "parameters": {}}',
            "",
            [A, ("add", {})],
        ),
        ('{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}', "", [A]),
        ('[{"name": "add", "arguments": {"a": 1}}]', "", [A]),
        ("Hello <b>world</b> [TOOL] <", "Hello <b>world</b> [TOOL] <", []),
        ('{"answer": "yes"}', '{"answer": "yes"}', []),
        ('{"name": "Anna", "age": 3}', '{"name": "Anna", "age": 3}', []),
        ('{"name": "sub", "arguments": {}}', '{"name": "sub", "arguments": {}}', []),
        ("<tool_call>nonsense</tool_call> ok", "<tool_call>nonsense</tool_call> ok", []),
        ("<tool_call>{cut", "<tool_call>{cut", []),
        ('say {"name": "add", "arguments": {}}', 'say {"name": "add", "arguments": {}}', []),
        ("  ", "  ", []),
        ("", "", []),
    ],
)
def test_calls_are_found_however_they_are_written_and_cut(
    text: str, out: str, calls: list[tuple[str, Any]], size: int
) -> None:
    assert read(text, size) == (out, calls)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    ("text", "out", "calls"),
    [
        ('<tool_call>{"name": "add", "arguments": {"a": "x', "", [("add", '{"a": "x')]),
        ('<tool_call>{"name": "add", "arguments": {"a": 1}', "", [("add", '{"a": 1}')]),
        (f'{HERMES}<tool_call>\n{{"name":"add","arguments":{{', "",
         [("add", '{"a": 1}'), ("add", "{")]),
        ('Well. [TOOL_CALLS]add[ARGS]{"a"', "Well. ", [("add", '{"a"')]),
        ('[TOOL_CALLS][{"name":"add","arguments":{"a":1}}, {"name":"weather","arguments":{"z', "",
         [("add", '{"a": 1}'), ("weather", '{"z')]),
        ('{"type": "function", "function": {"name": "add", "parameters": {"a', "",
         [("add", '{"a')]),
        ('<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n{"a', "",  # noqa: RUF001
         [("add", '{"a')]),
        ('<tool_call>{"name": "sub", "arguments": {"a', None, []),
        ('<tool_call>{"name": "add", "argu', None, []),
        ("<tool_call>\n<function=weather>\n<parameter=zip>\n005", None, []),
        ('{"name": "Anna", "arguments": {"a', None, []),
        ("[" * 50_000, None, []),
    ],
)  # fmt: skip
def test_a_call_in_which_an_answer_ends_is_a_call(
    text: str, out: str | None, calls: list[tuple[str, str]], size: int
) -> None:
    stream = ToolStream(TOOLS)
    said = "".join(stream.feed(text[i : i + size]) for i in range(0, len(text), size))
    said += stream.finish(cut=True)
    assert said == (text if out is None else out)
    assert [(call.name, call.arguments) for call in stream.calls] == calls


def test_text_is_held_only_while_it_may_be_a_call() -> None:
    stream = ToolStream(TOOLS)
    assert stream.feed('{"na') == ""
    assert stream.feed("sty") == '{"nasty'
    assert stream.feed(" x <tool") == " x "
    assert stream.feed("box") == "<toolbox"
    assert stream.feed("<") == ""
    assert stream.finish() == "<"
    assert stream.calls == ()


HERMES_TEMPLATE = "{% if tools %}{{ tools | tojson }} answer in <tool_call>{% endif %}"


def test_templates_without_a_place_for_tools_are_told_apart() -> None:
    request = GenerateRequest(messages=USER, tools=TOOLS)
    check_tools(request, HERMES_TEMPLATE)
    check_tools(GenerateRequest(messages=USER), "{{ x }}")
    with pytest.raises(InvalidRequest, match="no place"):
        check_tools(request, "You have tools. {{ messages }}")


CALL = ToolCall(id="abc", name="add", arguments='{"a": 1}')
TALK = (
    *USER,
    Message(role="assistant", content="", tool_calls=(CALL,)),
    Message(role="tool", content="2", tool_call_id="abc"),
)


def test_messages_are_told_as_templates_expect_them() -> None:
    _, said, answered = turns(TALK)
    assert said["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1}}
    assert answered == {"role": "tool", "content": "2", "tool_call_id": "abc", "name": "add"}
    assert turns(TALK, as_text=True)[1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
    assert "tool_calls" not in turns(USER)[0]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ tools[0] | tojson }}", None),
        ("{% for m in messages %}{{ m.role }};{% endfor %}", "user;assistant;tool;"),
        ("{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}", "<s></s>True"),
        ("{% generation %}x{% endgeneration %}{{ messages[0].content }}", "xx"),
        ("{% for m in messages %}{% if loop.last %}{% break %}{% endif %}-{% endfor %}", "--"),
        ("{{ '%Y' | length }}{{ strftime_now('x') }}", "2x"),
        ("{{ 'A' + messages[1].tool_calls[0].function.arguments }}", 'A{"a": 1}'),
        ("{{ messages[1].tool_calls[0].function.arguments | tojson }}", '{"a": 1}'),
    ],
)
def test_templates_find_what_transformers_gives_them(source: str, text: str | None) -> None:
    request = GenerateRequest(messages=TALK, tools=TOOLS)
    found = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"}).render(request)
    if text is None:
        record = json.loads(found)
        assert record["type"] == "function"
        assert record["function"]["name"] == "weather"
        assert record["function"]["parameters"]["properties"] == {"zip": {"type": "string"}}
    else:
        assert found == text


@pytest.mark.parametrize(
    "source",
    [
        "{% for %}",
        "{{ raise_exception('no') }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ 1 + 'x' }}",
    ],
)
def test_templates_that_fail_or_reach_out_are_refused(source: str) -> None:
    with pytest.raises(InvalidRequest, match="template refuses"):
        ChatTemplate(source, {}).render(GenerateRequest(messages=USER))


def test_tools_are_looked_for_in_one_pass() -> None:
    started = time.thread_time()
    assert not knows_tools("{%" * 500_000)
    assert not knows_tools("{% x %}" * 100_000 + "tools")
    assert knows_tools("{{ x }}" * 100_000 + "{% if tools %}")
    assert time.thread_time() - started < 5
