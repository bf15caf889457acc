"""Calls of tools as families of models write them: what their public templates show."""

# DeepSeek writes its signs with bars of full width.
# ruff: noqa: RUF001

import json
from typing import Any

import pytest

from modeldeck.core.runtime.text.tool_calls import ToolStream
from modeldeck.core.runtime.text.tool_formats import calls_in
from modeldeck.core.schema import Tool

TOOLS = (
    Tool(
        name="weather",
        parameters={
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "zip": {"type": "string"},
                "days": {"type": "integer"},
                "more": {"type": "object"},
            },
        },
    ),
    Tool(name="clock"),
)
ARGUMENTS = {"city": 'Köln "x"', "zip": "00501", "days": 3, "more": {"a": [True, None]}}
WEATHER = ("weather", ARGUMENTS)
CLOCK: tuple[str, dict[str, Any]] = ("clock", {})
JSON = json.dumps(ARGUMENTS, ensure_ascii=False)
MORE = '{"a": [true, null]}'
VALUES = {"city": 'Köln "x"', "zip": "00501", "days": "3", "more": MORE}


def pairs(form: str) -> str:
    """The arguments, each as a form says."""
    return "".join(form.format(key=key, value=value) for key, value in VALUES.items())


V3 = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{}\n```json\n{}\n```<｜tool▁call▁end｜>"
V31 = "<｜tool▁call▁begin｜>{}<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
DSML = '<｜DSML｜parameter name="{}" string="{}">{}</｜DSML｜parameter>\n'
INVOKED = "".join(
    DSML.format(key, "true" if key in ("city", "zip") else "false", value)
    for key, value in VALUES.items()
)
KIMI = "<|tool_call_begin|>functions.{}<|tool_call_argument_begin|>{}<|tool_call_end|>"
QUOTED = (
    '{city:<|"|>Köln "x"<|"|>,zip:<|"|>00501<|"|>,days:3,more:{a:[true,null]}}'  # Gemma's quotes
)

FORMATS = {
    "deepseek-v3": "<｜tool▁calls▁begin｜>"
    + V3.format("weather", JSON)
    + "\n"
    + V3.format("clock", "{}")
    + "<｜tool▁calls▁end｜>",
    "deepseek-v3.1": "<｜tool▁calls▁begin｜>"
    + V31.format("weather", JSON)
    + V31.format("clock", "{}")
    + "<｜tool▁calls▁end｜>",
    "deepseek without outer signs": V3.format("weather", JSON) + V31.format("clock", "{}"),
    "deepseek cut before its end": "<｜tool▁calls▁begin｜>"
    + V31.format("weather", JSON)
    + V31.format("clock", "{}").removesuffix("<｜tool▁call▁end｜>"),
    "deepseek-v3.2": f'<｜DSML｜function_calls>\n<｜DSML｜invoke name="weather">\n{INVOKED}'
    '</｜DSML｜invoke>\n<｜DSML｜invoke name="clock">\n'
    "</｜DSML｜invoke>\n</｜DSML｜function_calls>",
    "deepseek-v4": "<｜DSML｜tool_calls>\n"
    f'<｜DSML｜invoke name="weather">\n{INVOKED}'
    '</｜DSML｜invoke>\n<｜DSML｜invoke name="clock">\n\n'
    "</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
    "glm-4.6": "<tool_call>weather\n"
    + pairs("<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n")
    + "</tool_call>\n<tool_call>clock\n</tool_call>",
    "glm-4.7": "<tool_call>weather"
    + pairs("<arg_key>{key}</arg_key><arg_value>{value}</arg_value>")
    + "</tool_call><tool_call>clock</tool_call>",
    "kimi-k2": "<|tool_calls_section_begin|>"
    + KIMI.format("weather:0", JSON)
    + KIMI.format("clock:1", "{}")
    + "<|tool_calls_section_end|>",
    "qwen3-coder": "<tool_call>\n<function=weather>\n"
    + pairs("<parameter={key}>\n{value}\n</parameter>\n")
    + "</function>\n</tool_call>\n<tool_call>\n<function=clock>\n</function>\n</tool_call>",
    "qwen3-coder without its marks": "<function=weather>\n"
    + pairs("<parameter={key}>\n{value}\n</parameter>\n")
    + "</function>\n<function=clock>\n</function>",
    "seed-oss": "<seed:tool_call>\n<function=weather>\n"
    + pairs("<parameter={key}>{value}</parameter>\n")
    + "</function>\n</seed:tool_call>\n<seed:tool_call>\n<function=clock>\n</function>\n"
    "</seed:tool_call>",
    "minimax-m2": '<minimax:tool_call>\n<invoke name="weather">\n'
    + pairs('<parameter name="{key}">{value}</parameter>\n')
    + '</invoke>\n<invoke name="clock">\n</invoke>\n</minimax:tool_call>',
    "functionary-3.1": f"<function=weather>{JSON}</function><function=clock>{{}}</function>",
    "lfm2": "<|tool_call_start|>[weather(city='Köln \"x\"', zip='00501', days=3, "
    'more={"a": [true, null]}), clock()]<|tool_call_end|>',
    "gemma-4": f"<|tool_call>call:weather{QUOTED}<tool_call|>"
    "<|tool_call>call:clock{}<tool_call|>",
    "function-gemma": "<start_function_call>call:weather"
    + QUOTED.replace('<|"|>', "<escape>")
    + "<end_function_call><start_function_call>call:clock{}<end_function_call>",
    "granite-3": f'<|tool_call|>[{{"name": "weather", "arguments": {JSON}}}, '
    '{"name": "clock", "arguments": {}}]',
    "phi-4-mini": f'<|tool_call|>[{{"name": "weather", "arguments": {JSON}}}, '
    '{"name": "clock", "arguments": {}}]<|/tool_call|>',
    "nemotron": f'<TOOLCALL>[{{"name": "weather", "arguments": {JSON}}}, '
    '{"name": "clock", "arguments": {}}]</TOOLCALL>',
    "minimax-m1": f'<tool_calls>\n{{"name": "weather", "arguments": {JSON}}}\n'
    '{"name": "clock", "arguments": {}}\n</tool_calls>',
    "command-r7b": "<|START_ACTION|>[\n"
    f'    {{"tool_call_id": "0", "tool_name": "weather", "parameters": {JSON}}},\n'
    '    {"tool_call_id": "1", "tool_name": "clock", "parameters": {}}\n]<|END_ACTION|>',
    "mistral-small-3.2": f"[TOOL_CALLS]weather[CALL_ID]abcdefghi[ARGS]{JSON}"
    "[TOOL_CALLS]clock[CALL_ID]abcdefghj[ARGS]{}",
    "ministral-3": f"[TOOL_CALLS]weather[ARGS]{JSON}[TOOL_CALLS]clock[ARGS]{{}}",
}


def read(text: str, size: int) -> tuple[str, list[tuple[str, Any]]]:
    """The text and the calls of an answer that comes in pieces."""
    stream = ToolStream(TOOLS)
    out = "".join(stream.feed(text[i : i + size]) for i in range(0, len(text), size))
    out += stream.finish()
    return out, [(call.name, json.loads(call.arguments)) for call in stream.calls]


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS)
def test_every_family_s_calls_are_found(text: str, size: int) -> None:
    assert read(text, size) == ("", [WEATHER, CLOCK])
    assert read(f"Let me see.\n\n{text}", size) == ("Let me see.\n\n", [WEATHER, CLOCK])


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS)
def test_calls_of_other_tools_and_broken_ones_are_text(text: str, size: int) -> None:
    for wrong in (text.replace("weather", "sub"), text[: text.index("days") + 4]):
        out, calls = read(wrong, size)
        assert WEATHER not in calls
        assert "Köln" in out


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[",
        "[weather(3)]",
        "[weather(**x)]",
        "[weather(city=open('x'))]",
        "[1]",
        "weather",
        "call:weather{city:<escape>",
        "call:weather{{}",
        "weather[ARGS][1]",
        '<invoke name="weather">',
        "[" * 50_000,
        "[weather(more=" + "[" * 5_000 + "]" * 5_000 + ")]",
        '{"name": "weather", "arguments": 3}',
        "[" + "weather()," * 20_000 + "]",
        '{"a":' * 50_000,
    ],
    ids=lambda body: str(body)[:30],
)
def test_what_is_no_call_is_none_and_breaks_nothing(body: str) -> None:
    assert calls_in(body, {}) == []


@pytest.mark.parametrize(
    "body",
    [
        "weather" + "<arg_key></arg_value>" * 20_000 + "x",
        "weather" + " " * 20_000 + "x",
        '<invoke name="weather">' + '<parameter name="city">' * 20_000 + "</invoke>",
        "<function=weather>" + "<parameter=city>" * 20_000 + "</function>",
    ],
    ids=lambda body: str(body)[:30],
)
def test_what_never_ends_is_no_call_and_takes_no_hours_to_tell(body: str) -> None:
    """A pattern that looks for the ends itself does: the test's patience is what fails then."""
    assert calls_in(body, {"weather": frozenset()}) == []
