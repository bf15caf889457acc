"""Tools become functions for the model, and calls come back under the client's names."""

from __future__ import annotations

from typing import Any

import pytest

from modeldeck.core.api.responses.tools import (
    LONGEST_NAME,
    ToolTarget,
    model_name,
    offer,
    text_arguments,
    text_input,
)
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.text.call_grammar import grammar_for
from modeldeck.core.schema import GenerateRequest, Message
from tests.core.api.responses.sdk_types import discriminators
from tests.support.byte_vocabulary import follows

ADD = {"type": "function", "name": "add", "description": "Adds.", "parameters": {"type": "object"}}
RUN = {"type": "custom", "name": "run", "description": "Runs."}
AGENTS = {
    "type": "namespace",
    "name": "agents",
    "description": "Agents.",
    "tools": [{"type": "function", "name": "close", "parameters": None}, {**RUN, "name": "say"}],
}


def test_each_kind_of_tool_is_a_function_for_the_model() -> None:
    made = offer([ADD, RUN, AGENTS, {"type": "web_search"}], "auto")
    assert [tool.name for tool in made.tools] == ["add", "run", "agents__close", "agents__say"]
    assert made.tools[0].parameters == {"type": "object"}
    assert made.tools[1].parameters["required"] == ["input"]
    assert made.tools[2].parameters == {}
    assert made.targets["agents__close"] == ToolTarget(name="close", namespace="agents")
    assert made.targets["agents__say"].kind == "custom"
    assert made.choice == "auto"
    # A model that leaves the namespace out, or invents a tool.
    assert made.target("close").namespace == "agents"
    assert made.target("other") == ToolTarget(name="other")


def custom(**format_: str) -> dict[str, Any]:
    return {"type": "custom", "name": "run", "format": {"type": "grammar", **format_}}


def test_the_grammar_of_a_custom_tool_is_enforced_or_told_or_refused() -> None:
    spec = custom(syntax="regex", definition="ls|cd [a-z]+")
    (tool,) = offer([spec], "auto").tools
    assert tool.strict
    grammar = grammar_for(
        GenerateRequest(messages=(Message(role="user"),), tools=(tool,)), "<tool_call> {{ tools }}"
    )
    assert grammar is not None
    call = '<tool_call>{"name": "run", "arguments": {"input": "cd x"}}</tool_call>'
    assert follows(grammar, call)
    assert not follows(grammar, call.replace("cd x", "rm x"))

    lark = custom(syntax="lark", definition='start: "x"')
    (tool,) = offer([lark], "auto").tools
    assert not tool.strict
    assert offer([lark, ADD], "required").choice == "required"
    named = {"type": "custom", "name": "run"}
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [named]}
    for choice in (named, allowed, "required"):
        with pytest.raises(InvalidRequest, match="Lark cannot be enforced"):
            offer([lark], choice)
    with pytest.raises(InvalidRequest, match="format of the tool 'run'"):
        offer([custom(syntax="ebnf", definition="x")], None)
    (plain,) = offer([{"type": "function", "name": "f", "strict": True}], None).tools
    assert plain.strict


def test_the_grammar_of_a_custom_tool_is_told() -> None:
    form = {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'}
    (tool,) = offer([{**RUN, "format": form}], None).tools
    assert tool.description == 'Runs.\n\nThe input follows this grammar (lark):\nstart: "x"'


def test_hosted_tools_are_left_out() -> None:
    ours = {"function", "custom", "namespace"}
    hosted = [{"type": kind} for kind in sorted(discriminators("Tool") - ours)]
    assert len(hosted) > 8
    assert offer(hosted, "auto").tools == ()
    assert offer(hosted, "auto").choice is None


def test_a_tool_that_comes_again_replaces_the_first() -> None:
    (tool,) = offer([ADD, {**ADD, "description": "Adds better."}], None).tools
    assert tool.description == "Adds better."


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        (None, None),
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "name": "add"}, "add"),
        ({"type": "custom", "name": "run"}, "run"),
        ({"type": "function", "name": "close"}, "agents__close"),
        ({"type": "function", "name": "close", "namespace": "agents"}, "agents__close"),
        ({"type": "function", "name": "agents__close"}, "agents__close"),
    ],
)
def test_a_choice_names_the_model_s_function(choice: Any, chosen: str | None) -> None:
    assert offer([ADD, RUN, AGENTS], choice).choice == chosen


def test_allowed_tools_are_the_only_ones() -> None:
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [ADD, {"type": "web_search"}]}
    made = offer([ADD, RUN, AGENTS], allowed)
    assert ([tool.name for tool in made.tools], made.choice) == (["add"], "required")
    space = {"type": "allowed_tools", "tools": [{"type": "namespace", "name": "agents"}]}
    made = offer([ADD, RUN, AGENTS], space)
    assert [tool.name for tool in made.tools] == ["agents__close", "agents__say"]
    assert made.choice == "auto"


@pytest.mark.parametrize(
    ("tools", "choice", "words"),
    [
        ([], "required", "no tools"),
        ([{"type": "web_search"}], "required", "no tools"),
        ([ADD], "sometimes", "sometimes"),
        ([ADD], {"type": "function", "name": "sub"}, "'sub'"),
        ([ADD], {"type": "file_search"}, "file_search"),
        ([ADD], {}, "None"),
        ([ADD], {"type": "allowed_tools", "mode": "auto"}, "no list"),
        ([ADD], {"type": "allowed_tools", "tools": ["add"]}, "not a list of tools"),
        ([ADD], {"type": "allowed_tools", "mode": "never", "tools": [ADD]}, "never"),
        ([{"type": "function", "function": {"name": "x"}}], None, r"tools\[0\] has no name"),
        ([ADD, {"type": "function", "name": "a b"}], None, r"tools\[1\]"),
        ([{"type": "function", "name": "auto"}], None, "auto"),
        ([{"type": "function", "name": "x" * 129}], None, "128"),
        ([{"type": "function", "name": "x", "parameters": []}], None, "parameters"),
        ([{"type": "namespace", "tools": []}], None, "no name"),
    ],
)
def test_what_is_not_possible_is_named(tools: Any, choice: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        offer(tools, choice)


def test_long_names_stay_apart() -> None:
    names = {
        model_name(ToolTarget(name="n" * 100 + end, namespace="s" * 100)) for end in ("a", "b")
    }
    assert len(names) == 2
    assert all(len(name) == LONGEST_NAME for name in names)
    assert offer([{"type": "function", "name": "x" * 128}], None).tools


@pytest.mark.parametrize("text", ["", "ls", 'say "hi"\n', "{}", '{"input": 1}', "[" * 100])
def test_the_text_of_a_custom_tool_survives(text: str) -> None:
    assert text_input(text_arguments(text)) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [("plain", "plain"), ('"quoted"', "quoted"), ('{"cmd": "ls"}', '{"cmd": "ls"}')],
)
def test_arguments_that_a_model_wrote_otherwise_are_the_text(arguments: str, text: str) -> None:
    assert text_input(arguments) == text
    assert text_input("[" * 100_000) == "[" * 100_000
