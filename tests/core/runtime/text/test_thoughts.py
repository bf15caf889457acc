"""Answers are split into thought and text, however they are cut."""

from __future__ import annotations

import doctest
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import modeldeck.core.runtime.text.thinking_switches
import modeldeck.core.runtime.text.thoughts
from modeldeck.core.runtime.process.messages import AnswerDone
from modeldeck.core.runtime.text.answer_writer import AnswerWriter
from modeldeck.core.runtime.text.harmony import HarmonyStream
from modeldeck.core.runtime.text.thoughts import (
    FORMATS,
    THINK,
    AnswerPart,
    Splitter,
    ThoughtStream,
    formats_of,
)
from modeldeck.core.schema import GenerateRequest, Message, TokenLogprob, Tool

ASK = (Message(role="user", content="x"),)
TOOLS = (Tool(name="add"),)
CALL = '<tool_call>{"name": "add", "arguments": {}}</tool_call>'
COHERE, KIMI, APRIEL = (
    next(form for form in FORMATS if form.opens.startswith(begin))
    for begin in ("<|START", "<|open|>", "Here are")
)


def test_the_examples_in_docstrings_hold() -> None:
    for module in (
        modeldeck.core.runtime.text.thoughts,
        modeldeck.core.runtime.text.thinking_switches,
    ):
        result = doctest.testmod(module)
        assert result.attempted
        assert result.failed == 0


def shown(parts: Sequence[AnswerPart]) -> str:
    """The text, with its thoughts in double brackets."""
    groups = groupby(parts, lambda part: part.thought)
    texts = (("".join(part.text for part in group), thought) for thought, group in groups)
    return "".join(f"[[{text}]]" if thought else text for text, thought in texts)


def split(stream: Splitter, raw: str, size: int) -> str:
    parts = [p for i in range(0, len(raw), size) for p in stream.feed(raw[i : i + size])]
    assert all(part.text for part in parts)
    return shown([*parts, *stream.finish()])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("<think>\nHm.\n\nWell.\n</think>\n\nYes.", "[[Hm.\n\nWell.]]Yes."),
        ("\n<think>Hm.</think>Yes.", "[[Hm.]]Yes."),
        ("<think>\n\n</think>\n\nYes.", "Yes."),
        ("<think></think>", ""),
        # It never ends, or ends in the middle of its end.
        ("<think>Hm", "[[Hm]]"),
        ("<think>Hm </thi", "[[Hm </thi]]"),
        ("<think>", ""),
        ("<thi", "<thi"),
        # Markers are text where no thought can begin or end.
        ("Use <think>tags</think>.", "Use <think>tags</think>."),
        ("</think>Yes.", "</think>Yes."),
        ("<think>a <think> b</think>c", "[[a <think> b]]c"),
        ("<think>a</think>b<think>c</think>", "[[a]]b<think>c</think>"),
        ("<think>a</think>\n<think>b</think>c", "[[ab]]c"),
        ("<thinking>a</thinking>b", "<thinking>a</thinking>b"),
        (" Yes. ", " Yes. "),
        ("", ""),
        ("<", "<"),
        ("<think>a < b </ c</think>d", "[[a < b </ c]]d"),
    ],
)
def test_a_thought_is_split_off(raw: str, text: str, size: int) -> None:
    assert split(ThoughtStream([THINK]), raw, size) == text


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_every_family_marks_it_in_its_own_way(size: int) -> None:
    for form in FORMATS:
        before, after = form.answer or ("", "")
        raw = f"{form.opens}\nHm. <b>\n{form.closes}{before}\nYes.\n{after}"
        assert split(ThoughtStream([form]), raw, size) == ("[[Hm. <b>]]Yes." + "\n" * (not after))
        assert split(ThoughtStream(FORMATS), raw, size).startswith("[[Hm. <b>]]Yes.")


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_the_prompt_may_have_opened_it(size: int) -> None:
    for form in FORMATS:
        raw = f"\nHm.{form.closes}\n\n{(form.answer or ('', ''))[0]}Yes."
        assert split(ThoughtStream([form], form), raw, size) == "[[Hm.]]Yes."
    assert split(ThoughtStream([THINK], THINK), "Hm", size) == "[[Hm]]"
    begun = ThoughtStream([THINK], begun=True)
    assert split(begun, "<think>Hm.</think>", size) == "<think>Hm.</think>"


@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<thi", "nk>", "\n", " ", "a", "🦙", "<", "</"]),
        max_size=20,
    ),
    st.integers(1, 9),
    st.booleans(),
)
def test_no_character_is_lost_or_invented(pieces: list[str], size: int, inside: bool) -> None:
    raw = "".join(pieces)
    stream = ThoughtStream([THINK], THINK if inside else None)
    parts = [p for i in range(0, len(raw), size) for p in stream.feed(raw[i : i + size])]
    parts += stream.finish()
    whole = ThoughtStream([THINK], THINK if inside else None)
    assert shown(parts) == shown([*whole.feed(raw), *whole.finish()])
    # Only markers and whitespace are taken out.
    rest = "".join(part.text for part in parts)
    for sign in raw:
        if rest.startswith(sign):
            rest = rest[1:]
    assert rest == ""
    if not any(part.thought for part in parts) and not inside and "<think>" not in raw:
        assert "".join(part.text for part in parts) == raw


def test_text_comes_out_as_it_is_written() -> None:
    stream = ThoughtStream([THINK])
    pieces = ["<think>", "One", " two", "\n", "three", "</", "think>", "\n\n", "Four", " five"]
    assert [shown(stream.feed(piece)) for piece in pieces] == [
        *("", "[[One]]", "[[ two]]", "", "[[\nthree]]", "", "", "", "Four", " five"),
    ]


@pytest.mark.parametrize(
    ("template", "opens"),
    [
        ("{{ '<think>\\n' }}", ["<think>"]),
        ("{% if '</think>' in content %}", ["<think>"]),
        ("<|channel>thought\n{{ x }}<channel|>", ["<|channel>thought"]),
        # Gemma 4 is switched on by a token that opens the thought of another family.
        ("<|think|><|channel>thought\n<channel|>", ["<|channel>thought"]),
        ("<|im_start|>assistant", []),
    ],
)
def test_a_template_names_its_format(template: str, opens: list[str]) -> None:
    assert [form.opens for form in formats_of(template)] == opens


def test_the_answer_of_some_templates_is_marked_as_well() -> None:
    (form,) = formats_of("<think></think><answer></answer>")
    raw = "<think>\nHm.\n</think>\n<answer>\nYes.\n</answer>"
    assert split(ThoughtStream([form]), raw, 3) == "[[Hm.]]Yes."


# In an answer


class Written:
    """An answer, written byte by byte."""

    def __init__(
        self, splitter: Splitter, raw: str, stops: Sequence[str] = (), **more: Any
    ) -> None:
        self.parts: list[AnswerPart] = []
        self.logprobs: list[str] = []
        request = GenerateRequest(messages=ASK, **more)
        writer = AnswerWriter(request, stops, self._emit, limit=10_000, splitter=splitter)
        for byte in raw.encode():
            token = TokenLogprob(token=chr(byte), logprob=-1.0)
            if not writer.take(bytes([byte]), token if "logprobs" in more else None):
                break
        else:
            writer.end()
        self.done: AnswerDone = writer.done(1)

    def _emit(self, part: AnswerPart, logprobs: tuple[TokenLogprob, ...]) -> None:
        self.parts.append(part)
        self.logprobs += [token.token for token in logprobs]

    @property
    def text(self) -> str:
        return shown(self.parts)


def test_stop_strings_are_for_what_is_said() -> None:
    found = Written(ThoughtStream([THINK]), "<think>a STOP b</think>c STOP d", ["STOP"])
    assert (found.text, found.done.reason) == ("[[a STOP b]]c ", "stop")


def test_tokens_of_a_thought_are_counted_and_have_no_log_probabilities() -> None:
    raw = "<think>Hm.</think>Yes."
    found = Written(ThoughtStream([THINK]), raw, logprobs=0)
    assert found.logprobs == list("Yes.")
    assert (found.done.completion_tokens, found.done.thought_tokens) == (
        len(raw),
        # From the token that completes the opening marker to the one that completes the end.
        len("<think>Hm.</think>") - len("<think"),
    )
    plain = Written(ThoughtStream([THINK]), "Yes.")
    assert plain.done.thought_tokens == 0


@pytest.mark.parametrize(
    ("raw", "text", "calls"),
    [
        (f"<think>I add.</think>\n{CALL}", "[[I add.]]", 1),
        # It begins in the thought, which ends with it or goes on.
        (f"<think>I add.\n{CALL}", "[[I add.\n]]", 1),
        (f"<think>I add. {CALL} Done.</think>Yes.", "[[I add.  Done.]]Yes.", 1),
        (f"<think>{CALL}</think>{CALL}", "", 2),
        ("<think>A <tool_call> is JSON.</think>Yes.", "[[A <tool_call> is JSON.]]Yes.", 0),
        ('<think>{"name": "add", "arguments": {}}</think>Yes.', None, 0),
    ],
)
def test_calls_are_found_after_a_thought_and_in_it(raw: str, text: str | None, calls: int) -> None:
    found = Written(ThoughtStream([THINK]), raw, tools=TOOLS)
    assert len(found.done.tool_calls) == calls
    assert found.done.reason == ("tool_calls" if calls else "stop")
    if text is None:
        text = '[[{"name": "add", "arguments": {}}]]Yes.'
    assert found.text == text


def test_thoughts_in_harmony_are_counted_too() -> None:
    raw = "<|channel|>analysis<|message|>Hm.<|end|><|channel|>final<|message|>Yes."
    found = Written(HarmonyStream(), raw)
    assert found.text == "[[Hm.]]Yes."
    assert found.done.thought_tokens == len("Hm.<|end|>") + 1
