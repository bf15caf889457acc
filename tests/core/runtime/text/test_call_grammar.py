"""Grammars of calls, in all formats: what they admit is understood as a call, without an engine."""

# DeepSeek writes its signs with bars of full width.
# ruff: noqa: RUF001

import json
import random
import time
from dataclasses import replace
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no types
import pytest

from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.grammar.answer_grammar import of_expression
from modeldeck.core.runtime.text.call_grammar import format_of, grammar_for
from modeldeck.core.runtime.text.tool_calls import ToolStream
from modeldeck.core.runtime.text.tool_formats import LLAMA, MARKERS, CallFormat
from modeldeck.core.schema import GenerateRequest, Message, Tool
from tests.support.byte_vocabulary import SIGN, VOCABULARY, any_answer, follows

USER = (Message(role="user", content="x"),)
WEATHER = Tool(
    name="weather",
    parameters={
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "city": {"type": "string", "pattern": "^[A-Z][a-z ]{1,9}$"},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        },
        "required": ["city"],
    },
)
CLOCK = Tool(name="my.clock-2")
TOOLS = (WEATHER, CLOCK)
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
HERMES = "{{ tools }} <tool_call>"


def shown(known: CallFormat) -> str:
    """A template that shows a format."""
    return f"{{{{ tools }}}} {known.opens} {known.shown_by}"


FORMATS = [
    pytest.param(shown(known), id=f"{known.opens} {known.shown_by}")
    for known in MARKERS
    if known is not LLAMA and not known.bare
]
FORMATS += [
    pytest.param("{{ tools }}", id="plain"),
    pytest.param('{{ tools }} "parameters"', id="plain of Llama"),
]


def asked(**more: Any) -> GenerateRequest:
    return GenerateRequest(messages=USER, **{"tools": TOOLS, **more})


def understood(text: str) -> tuple[str, list[tuple[str, Any]]]:
    """The text of an answer and its calls, as clients get them."""
    stream = ToolStream(TOOLS)
    out = stream.feed(text) + stream.finish()
    return out, [(call.name, json.loads(call.arguments)) for call in stream.calls]


@pytest.mark.parametrize("template", FORMATS)
def test_whatever_a_forced_call_looks_like_it_is_understood(template: str) -> None:
    grammar = grammar_for(asked(tool_choice="required"), template)
    assert grammar is not None
    names = set()
    for seed in range(8):
        answer = any_answer(grammar, random.Random(seed))
        if answer is None:
            continue  # it was still writing
        out, calls = understood(answer)
        assert (out, len(calls)) == ("", 1), answer
        ((name, arguments),) = calls
        names.add(name)
        jsonschema.validate(
            arguments, WEATHER.parameters if name == "weather" else {"maxProperties": 0}
        )
    assert names == {"weather", "my.clock-2"}


@pytest.mark.parametrize("template", FORMATS)
def test_beside_a_schema_an_answer_is_a_call_or_json_of_it(template: str) -> None:
    grammar = grammar_for(asked(json_schema=SCHEMA), template)
    assert grammar is not None
    kinds = set()
    for seed in range(16):
        answer = any_answer(grammar, random.Random(seed))
        if answer is None:
            continue
        out, calls = understood(answer)
        kinds.add(bool(calls))
        if calls:
            assert out == "", answer
        else:
            jsonschema.validate(json.loads(out), SCHEMA)
    assert kinds == {True, False}
    for text in ('{"ok": true}', '{"ok":false}', '{\n  "ok": true\n}'):
        assert follows(grammar, text)
    for text in ("", "Let me see.", '{"ok": 1}', '{"ok": true', "{}"):
        assert not follows(grammar, text)


CALL = '{"name": "weather", "arguments": {"city": "Ulm"}}'


@pytest.mark.parametrize(
    ("template", "answers", "others"),
    [
        (
            HERMES,
            [f"<tool_call>\n{CALL}\n</tool_call>", f"<tool_call>{CALL}</tool_call>"],
            [CALL, f"<tool_call>{CALL}", f"<tool_call>{CALL}</tool_call>" * 2],
        ),
        (
            "{{ tools }}[TOOL_CALLS]",
            [f"[TOOL_CALLS][{CALL}]", f"[TOOL_CALLS] [{CALL}]"],
            [f"[TOOL_CALLS]{CALL}", '[TOOL_CALLS]weather[ARGS]{"city": "Ulm"}'],
        ),
        (
            "{{ tools }}[TOOL_CALLS]x[ARGS]",
            ['[TOOL_CALLS]weather[ARGS]{"city": "Ulm"}'],
            [f"[TOOL_CALLS][{CALL}]"],
        ),
        (
            "<｜tool▁calls▁begin｜>{{ tools }}",
            [
                '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{"city": "Ulm"}'
                "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
            ],
            [CALL],
        ),
        ('{{ tools }} "parameters"', [CALL.replace("arguments", "parameters")], [CALL]),
        ("{{ tools }}", [CALL], ['{"name": "weather", "arguments": {"city": 3}}', "{}"]),
    ],
)
def test_a_call_is_forced_in_the_way_the_model_knows(
    template: str, answers: list[str], others: list[str]
) -> None:
    grammar = grammar_for(asked(tool_choice="weather"), template)
    assert grammar is not None
    assert [text for text in answers if not follows(grammar, text)] == []
    assert [text for text in others if follows(grammar, text)] == []


def test_several_calls_may_come_where_none_is_forced() -> None:
    for template, text in (
        (HERMES, f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>"),
        ("{{ tools }}[TOOL_CALLS]", f"[TOOL_CALLS][{CALL}, {CALL}]"),
    ):
        several = grammar_for(asked(json_schema=SCHEMA), template)
        forced = grammar_for(asked(tool_choice="required", json_schema=SCHEMA), template)
        assert several is not None
        assert forced is not None
        assert follows(several, text)
        assert not follows(forced, text)
        assert not follows(forced, '{"ok": true}')


def test_a_sign_that_is_a_token_is_written_as_that_token() -> None:
    grammar = grammar_for(asked(tool_choice="weather"), HERMES, {"<tool_call>": SIGN})
    assert grammar is not None
    rest = list(f"\n{CALL}\n</tool_call>".encode())
    assert follows(grammar, [SIGN, *rest])
    assert follows(grammar, [*b"<tool_call>", *rest])
    assert not follows(grammar, rest)


MCP: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "$id": "https://example.org/t",
    "title": "Search",
    "type": "object",
    "properties": {
        "mail": {"type": "string", "format": "email", "examples": ["a@b.de"]},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "labels": {"type": "object", "propertyNames": {"pattern": "^[a-z]+$"}},
        "page": {"type": "integer", "default": 1, "exclusiveMinimum": 0, "x-order": 3},
        "day": {"type": "string", "format": "zork", "nullable": True},
        "kind": {"oneOf": [{"const": "a"}, {"const": "b"}], "not": {"const": "c"}},
        "code": {"type": "string", "pattern": "^(?!x)[a-z]+$"},
        "other": {"$ref": "https://example.org/other"},
    },
    "required": ["mail", "kind"],
    "dependentRequired": {"page": ["day"]},
    "if": {"required": ["page"]},
    "then": {"required": ["day"]},
    "additionalProperties": False,
}


def test_what_servers_of_tools_really_send_is_enforced_as_far_as_it_can_be() -> None:
    tool = Tool(name="search", parameters=MCP)
    for more in ({"tool_choice": "search"}, {"json_schema": SCHEMA}):
        grammar = grammar_for(asked(tools=(tool,), **more), "{{ tools }}")
        assert grammar is not None
        arguments = '{"mail": "a@b.de", "tags": ["x", "x"], "labels": {"A": 1}, "page": 1'
        call = '{"name": "search", "arguments": %s, "kind": %s}}'
        assert follows(grammar, call % (arguments, '"a"'))
        for wrong in ('"c"', "1", '"a", "more": 1'):
            assert not follows(grammar, call % (arguments, wrong))
        assert not follows(grammar, call % ('{"mail": 3', '"a"'))


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "{}"),
        (
            {
                "properties": {"a": {"type": "integer", "minimum": 3, "maximum": 2}},
                "required": ["a"],
            },
            '{"a": 5}',
        ),
        ({"type": "string"}, "{}"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, "{}"),
        ({"patternProperties": {"^a": {}, "b$": {}}}, '{"ab": 1}'),
    ],
)
def test_parameters_that_nothing_fits_still_let_the_tool_be_called(
    parameters: dict[str, Any], arguments: str
) -> None:
    tool = Tool(name="odd", parameters=parameters)
    grammar = grammar_for(asked(tools=(tool,), tool_choice="odd"), "{{ tools }}")
    assert grammar is not None
    assert follows(grammar, f'{{"name": "odd", "arguments": {arguments}}}')
    assert not follows(grammar, '{"name": "odd", "arguments": 1}')


def test_many_large_tools_can_still_be_called() -> None:
    wide = {"properties": {f"property-{i}": {"type": "string"} for i in range(1500)}}
    tools = tuple(Tool(name=f"tool{i}", parameters=wide) for i in range(20))
    grammar = grammar_for(asked(tools=tools, tool_choice="required"), "{{ tools }}")
    assert grammar is not None
    started = time.process_time()
    assert follows(grammar, '{"name": "tool19", "arguments": {"property-7": 1}}')
    assert not follows(grammar, '{"name": "tool20", "arguments": {}}')
    assert time.process_time() - started < 5
    few = grammar_for(asked(tools=tools[:3], tool_choice="required"), "{{ tools }}")
    assert few is not None
    assert not follows(few, '{"name": "tool2", "arguments": {"property-7": 1}}')


def test_references_in_parameters_stay_within_them() -> None:
    day = {"$defs": {"day": {"enum": ["mon", "tue"]}}, "type": "object"}
    tools = tuple(
        Tool(
            name=name,
            parameters={**day, "properties": {"day": {"$ref": "#/$defs/day"}}, "required": ["day"]},
        )
        for name in ("plan", "move")
    )
    grammar = grammar_for(asked(tools=tools, tool_choice="required"), "{{ tools }}")
    assert grammar is not None
    for name, value in (("plan", "mon"), ("move", "tue")):
        assert follows(grammar, f'{{"name": "{name}", "arguments": {{"day": "{value}"}}}}')
    assert not follows(grammar, '{"name": "plan", "arguments": {"day": "wed"}}')


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"tool_choice": "sub"}, "no tool 'sub'"),
        ({"tool_choice": "required", "grammar": 'root ::= "a"'}, "another grammar"),
        ({"tool_choice": "required", "regex": "a"}, "another grammar"),
        ({"json_schema": {"not": {}}}, "part of the JSON schema: not"),
        (
            {"tool_choice": "bad", "tools": (Tool(name="bad", parameters={"required": 1}),)},
            "parameters of the tool 'bad': The JSON schema's required must be",
        ),
    ],
)
def test_what_cannot_be_forced_is_refused(more: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        grammar_for(asked(**more), HERMES)
    assert why in caught.value.message


STRICT = (replace(WEATHER, strict=True), CLOCK)


@pytest.mark.parametrize("template", FORMATS)
def test_a_strict_tool_is_called_by_its_schema_or_not_at_all(template: str) -> None:
    forced = grammar_for(asked(tool_choice="weather"), template)
    free = grammar_for(asked(tools=STRICT), template)
    assert forced is not None
    assert free is not None
    for text in ("", "Let me see.", " <b>\nx", '{"a": 1}', '[{"name": "x"}] {'):
        assert follows(free, text), text
    calls = [any_answer(forced, random.Random(seed)) for seed in range(8)]
    for call in filter(None, calls):
        assert follows(free, call), call
        ((_, arguments),) = understood(call)[1]
        wrong = call.replace(f'"{arguments["city"]}"', '"7 hills"')
        assert wrong != call
        assert not follows(free, wrong), wrong


def test_text_may_stand_around_calls_of_strict_tools() -> None:
    grammar = grammar_for(asked(tools=STRICT), HERMES, {"<tool_call>": SIGN})
    assert grammar is not None
    body = f"\n{CALL}\n</tool_call>"
    other = '<tool_call>{"name": "my.clock-2", "arguments": {"x": [1]}}</tool_call>'
    for text in (f"Yes.<tool_call>{body} Done.", f"<tool_call>{body}\n<tool_call>{body}", other):
        assert follows(grammar, text)
    assert follows(grammar, [*b"Yes.", SIGN, *body.encode()])
    assert not follows(grammar, [SIGN, *b"Yes."])
    assert not follows(grammar, other.replace("my.clock-2", "none"))
    plain = grammar_for(asked(tools=STRICT), "{{ tools }}")
    assert plain is not None
    assert follows(plain, f"\n  {CALL}")


def test_what_a_strict_tool_cannot_be_held_to_is_refused_by_name() -> None:
    tools = (Tool(name="search", parameters=MCP, strict=True),)
    for more in ({}, {"tool_choice": "search"}, {"json_schema": SCHEMA}):
        with pytest.raises(InvalidRequest, match=r"'search': .* JSON schema"):
            grammar_for(asked(tools=tools, **more), HERMES)
    both = grammar_for(asked(tools=STRICT, tool_choice="required"), HERMES)
    assert both is not None
    assert follows(both, f"<tool_call>{CALL}</tool_call>")
    assert not follows(both, f"<tool_call>{CALL.replace('Ulm', 'ulm')}</tool_call>")
    assert grammar_for(asked(tools=tools, tool_choice="none"), HERMES) is None
    assert grammar_for(asked(tools=tools, regex="a+"), HERMES) == of_expression("a+")


def test_nothing_is_forced_where_the_model_may_choose() -> None:
    for choice in (None, "auto", "none"):
        assert grammar_for(asked(tool_choice=choice), HERMES) is None
    held = grammar_for(asked(tool_choice="none", json_schema=SCHEMA), HERMES)
    assert held is not None
    assert not follows(held, f"<tool_call>{CALL}</tool_call>")
    assert follows(held, '{"ok": true}')


@pytest.mark.parametrize(
    ("more", "answer", "other"),
    [
        ({"grammar": 'root ::= "yes" | "no"'}, "no", "maybe"),
        ({"regex": "[0-9]{3}-(ab|cd)"}, "123-cd", "12-ab"),
        ({"regex": "a/b\n|\\/"}, "a/b\n", "a"),
        ({"regex": "^é+$"}, "éé", "e"),
        ({"json_schema": {"type": "null"}}, "null", "1"),
        ({"json_schema": {"not": {}}, "strict_schema": False}, '{"a": 1}', "x"),
    ],
)
def test_an_answer_is_held_to_what_is_asked(more: dict[str, Any], answer: str, other: str) -> None:
    grammar = grammar_for(GenerateRequest(prompt="x", **more), "")
    assert grammar is not None
    assert follows(grammar, answer)
    assert not follows(grammar, other)


@pytest.mark.parametrize(
    ("regex", "why"),
    [
        ("(", "unclosed group"),
        ("(?=a)", "look-around"),
        ("a" * 20_000, "20000 characters"),
        ("[^\\x00-\\U0010ffff]", "admits no answer"),
    ],
)
def test_an_expression_that_is_wrong_is_refused_in_words(regex: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        VOCABULARY.matcher(of_expression(regex))


@pytest.mark.parametrize(
    ("template", "opens"),
    [
        ("<tool_call> <function=x>", "<tool_call>"),
        ("<function=x>{}", ""),
        ("{{ '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' }}", "<｜tool▁calls▁begin｜>"),
        ("<|tool_call>x<tool_call|>", "<|tool_call>"),
    ],
)
def test_a_template_tells_its_marks(template: str, opens: str) -> None:
    assert format_of(template).opens == opens
