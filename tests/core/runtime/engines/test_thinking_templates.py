"""Chat templates are told whether to think, and get back what was thought, as each takes it.

The templates are small look-alikes of real families'.
"""

from __future__ import annotations

from typing import Any

import pytest

from modeldeck.core.runtime.text.chat_prompt import CHATML, ChatPrompt, ChatTemplate, thinks
from modeldeck.core.runtime.text.thinking_switches import can_switch_off
from modeldeck.core.schema import GenerateRequest, Message, ToolCall

TURNS = (
    "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' and m.reasoning_content %}"
    "<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}[e]{% endfor %}"
)
ASKS = "{% if add_generation_prompt %}[assistant]{% endif %}"
QWEN3 = TURNS + (
    "{% if add_generation_prompt %}[assistant]"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
OPENS = TURNS + (
    "{% if add_generation_prompt %}[assistant]"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>"
    "{% else %}<think>\n{% endif %}{% endif %}"
)
"""As Qwen3.5's."""
R1 = (
    "{% for m in messages %}[{{ m.role }}]{% if '</think>' in m.content %}"
    "{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]<think>\n{% endif %}"
)
DEEPSEEK = TURNS + (
    "{% if not thinking is defined %}{% set thinking = false %}{% endif %}"
    "{% if add_generation_prompt %}[assistant]"
    "{{ '<think>' if thinking else '</think>' }}{% endif %}"
)
"""As DeepSeek V3.1's: off by default, which the end of a thought tells."""
OSS = (
    "Reasoning: {{ reasoning_effort if reasoning_effort is defined else 'medium' }}\n"
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% if m.tool_calls and m.content and m.thinking %}{{ raise_exception('both') }}{% endif %}"
    "{% if m.thinking and (m.tool_calls or loop.last) %}"
    "<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|end|>"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
GEMMA4 = (
    "{% if enable_thinking is defined and enable_thinking %}<|think|>{% endif %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[model]{% if not enable_thinking %}"
    "<|channel>thought\n<channel|>{% endif %}{% endif %}"
)
HUNYUAN = TURNS.replace("think>", "think:opensource>") + (
    "{% set effort = reasoning_effort | default('no_think') %}"
    "{% if effort not in ['no_think', 'low', 'high'] %}{{ raise_exception('effort') }}{% endif %}"
    "{% if add_generation_prompt %}[assistant]<think:opensource>"
    "{{ '' if effort != 'no_think' else '</think:opensource>' }}({{ effort }}){% endif %}"
)
SEED = "<seed:think>budget {{ thinking_budget | default(-1) }}</seed:think>" + TURNS + ASKS
MINIMAX = (
    TURNS.replace("think>", "mm:think>")
    + ASKS
    + "{% if thinking_mode | default('enabled') == 'enabled' %}<mm:think>{% endif %}"
)
MINISTRAL = (
    "{% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{% if part.type == 'thinking' %}[THINK]{{ part.thinking }}[/THINK]"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
)


def asked(*messages: Message, **more: Any) -> GenerateRequest:
    return GenerateRequest(messages=messages or (user("Why?"),), **more)


def user(text: str) -> Message:
    return Message(role="user", content=text)


def prompt(template: str, *messages: Message, **more: Any) -> ChatPrompt:
    return ChatTemplate(template, {}).prompt(asked(*messages, **more))


@pytest.mark.parametrize(
    ("template", "more", "tail", "inside"),
    [
        (QWEN3, {}, "[assistant]", False),
        (QWEN3, {"thinking": True}, "[assistant]", False),
        (QWEN3, {"thinking": False}, "[assistant]<think>\n\n</think>\n\n", False),
        (QWEN3, {"template_options": {"enable_thinking": False}}, "</think>\n\n", False),
        (OPENS, {}, "[assistant]<think>\n", True),
        (OPENS, {"thinking": False}, "[assistant]<think></think>", False),
        (R1, {}, "[assistant]<think>\n", True),
        (R1, {"thinking": False}, "[assistant]<think>\n", True),
        (DEEPSEEK, {}, "[assistant]</think>", False),
        (DEEPSEEK, {"thinking": True}, "[assistant]<think>", True),
        (DEEPSEEK, {"thinking_effort": "low"}, "[assistant]<think>", True),
        (GEMMA4, {}, "[model]<|channel>thought\n<channel|>", False),
        (GEMMA4, {"thinking": True}, "[model]", False),
        (HUNYUAN, {}, "</think:opensource>(no_think)", False),
        (HUNYUAN, {"thinking": True}, "(high)", False),
        (HUNYUAN, {"thinking_effort": "xhigh"}, "(high)", False),
        (HUNYUAN, {"thinking_effort": "medium"}, "(no_think)", False),
        (MINIMAX, {}, "<mm:think>", True),
        (MINIMAX, {"thinking": False}, "[assistant]", False),
        (CHATML, {"thinking": True}, "<|im_start|>assistant\n", False),
    ],
)
def test_a_template_is_told_whether_to_think(
    template: str, more: dict[str, Any], tail: str, inside: bool
) -> None:
    found = prompt(template, **more)
    assert found.text.endswith(tail)
    assert (found.inside is not None) is inside


@pytest.mark.parametrize(
    ("template", "more", "words"),
    [
        (OSS, {}, "Reasoning: medium\n"),
        (OSS, {"thinking_effort": "minimal"}, "Reasoning: low\n"),
        (OSS, {"thinking_effort": "max"}, "Reasoning: high\n"),
        (OSS, {"thinking": False}, "Reasoning: low\n"),
        (OSS, {"thinking": True}, "Reasoning: medium\n"),
        (SEED, {}, "budget -1"),
        (SEED, {"thinking": False}, "budget 0"),
        (SEED, {"thinking_budget": 512}, "budget 512"),
        (SEED, {"thinking": True}, "budget -1"),
    ],
)
def test_a_template_is_told_how_much(template: str, more: dict[str, Any], words: str) -> None:
    assert words in prompt(template, **more).text


@pytest.mark.parametrize(
    ("template", "more", "may"),
    [
        (QWEN3, {}, True),
        (QWEN3, {"thinking": False}, False),
        (R1, {"thinking": False}, True),
        (OSS, {}, True),
        (CHATML, {}, False),
        (CHATML, {"thinking": True}, False),
    ],
)
def test_a_grammar_waits_only_where_a_thought_may_come(
    template: str, more: dict[str, Any], may: bool
) -> None:
    assert prompt(template, **more).may_think is may


@pytest.mark.parametrize(
    ("template", "has", "off"),
    [
        (QWEN3, True, True),
        (R1, True, False),
        (DEEPSEEK, True, True),
        (OSS, True, False),
        (GEMMA4, True, True),
        (HUNYUAN, True, True),
        (SEED, True, True),
        (MINISTRAL, True, False),
        (CHATML, False, False),
    ],
)
def test_what_a_template_tells_of_its_model(template: str, has: bool, off: bool) -> None:
    assert (thinks(template), can_switch_off(template)) == (has, off)


def test_a_model_that_thinks_all_the_same_says_so_once(capfd: pytest.CaptureFixture[str]) -> None:
    template = ChatTemplate(R1, {})
    for _ in range(2):
        template.prompt(asked(thinking=False))
    assert capfd.readouterr().err.count("cannot be told not to think") == 1
    ChatTemplate(QWEN3, {}).prompt(asked(thinking=False))
    assert "cannot be told" not in capfd.readouterr().err


# What was thought before

CALL = ToolCall(id="abcdefghi", name="f", arguments="{}")
TALK = (
    user("Why?"),
    Message(role="assistant", content="So.", thought="Hm."),
    user("Oh."),
)
LOOP = (
    user("Why?"),
    Message(role="assistant", thought="Hm.", tool_calls=(CALL,)),
    Message(role="tool", content="42", tool_call_id=CALL.id),
)


@pytest.mark.parametrize(
    ("template", "messages", "words"),
    [
        (QWEN3, TALK, "[assistant]<think>Hm.</think>So.[e]"),
        (OSS, LOOP, "<|channel|>analysis<|message|>Hm.<|end|>"),
        (MINISTRAL, TALK, "[assistant][THINK]Hm.[/THINK]So."),
        (HUNYUAN, LOOP, "<think:opensource>Hm.</think:opensource>"),
    ],
)
def test_a_thought_goes_back_where_the_template_takes_it(
    template: str, messages: tuple[Message, ...], words: str
) -> None:
    assert words in prompt(template, *messages).text


@pytest.mark.parametrize("template", [R1, OSS, GEMMA4, CHATML])
def test_a_thought_does_not_go_back_elsewhere(template: str) -> None:
    assert "Hm." not in prompt(template, *TALK).text
    inline = Message(role="assistant", content="<think>Hm.</think>\n\nSo.")
    text = prompt(template, TALK[0], inline, TALK[2]).text
    assert "Hm." not in text
    assert "So." in text


def test_a_thought_in_the_text_of_an_answer_is_found() -> None:
    inline = Message(role="assistant", content="<think>\nHm.\n</think>\n\nSo.")
    apart = prompt(QWEN3, *TALK).text
    assert prompt(QWEN3, TALK[0], inline, TALK[2]).text == apart
    said = (user("<think>Mine.</think>"), *TALK[1:])
    assert "<think>Mine.</think>" in prompt(QWEN3, *said).text


# Answers that have begun


def answer(text: str, thought: str = "") -> Message:
    return Message(role="assistant", content=text, thought=thought)


@pytest.mark.parametrize(
    ("template", "last", "tail"),
    [
        (QWEN3, answer("The"), "[assistant]The"),
        (QWEN3, answer("The "), "[assistant]The "),
        (QWEN3, answer("The", "Hm."), "[assistant]<think>Hm.</think>The"),
        (OPENS, answer("The"), "[assistant]The"),
        (CHATML, answer("e"), "<|im_start|>assistant\ne"),
        (OSS, answer("The"), "<|channel|>final<|message|>The"),
        # The last message is left out, or refused.
        ("{% for m in messages[:1] %}[{{ m.role }}]{{ m.content }}{% endfor %}" + ASKS,
         answer("The"), "[user]Why?[assistant]The"),
        ("{% if messages[-1].role == 'assistant' %}{{ raise_exception('no') }}{% endif %}"
         + TURNS + ASKS, answer("The"), "[user]Why?[e][assistant]The"),
    ],
)  # fmt: skip
def test_an_answer_goes_on_from_where_it_is(template: str, last: Message, tail: str) -> None:
    found = prompt(template, user("Why?"), last)
    assert found.text.endswith(tail)
    assert (found.begun, found.inside, found.may_think) == (True, None, False)


def test_a_thought_goes_on_from_where_it_is() -> None:
    for template in (QWEN3, OPENS):
        found = prompt(template, user("Why?"), answer("", "Well"))
        assert found.text.endswith("[assistant]<think>\nWell")
        assert found.inside is not None
        assert not found.begun


def test_an_empty_answer_is_none() -> None:
    for template in (QWEN3, OSS):
        assert prompt(template, user("Why?"), answer("")) == prompt(template, user("Why?"))
    called = prompt(QWEN3, *LOOP[:2])
    assert called.text.endswith("[assistant]")
    assert not called.begun
