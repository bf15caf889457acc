"""Answers of gpt-oss as other models write them."""

import doctest
import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

import modeldeck.core.runtime.text.harmony
from modeldeck.core.demo.model_writer import expected, write_gguf, write_mlx
from modeldeck.core.demo.vocabulary import CHAT_TEMPLATE
from modeldeck.core.runtime.text.answer_writer import AnswerWriter
from modeldeck.core.runtime.text.chat_prompt import turns
from modeldeck.core.runtime.text.harmony import HarmonyStream, is_harmony
from modeldeck.core.runtime.text.thoughts import AnswerPart
from modeldeck.core.schema import GenerateRequest, Message, Tool, ToolCall
from tests.support.bench import Bench, about

ASK = (Message(role="user", content="x"),)
TOOLS = (Tool(name="add"), Tool(name="clock"))
TAUGHT = "{# <|start|>assistant<|channel|>final<|message|> #}"
THOUGHT = "<|channel|>analysis<|message|>We <add>.<|end|>"
CALL = "<|start|>assistant<|channel|>commentary to=functions.add <|constrain|>json<|message|>"


def shown(parts: Sequence[AnswerPart]) -> str:
    """The text, with its thoughts in brackets."""
    groups = groupby(parts, lambda part: part.thought)
    texts = (("".join(part.text for part in group), thought) for thought, group in groups)
    return "".join(f"[{text}]" if thought else text for text, thought in texts)


def test_the_examples_in_docstrings_hold() -> None:
    result = doctest.testmod(modeldeck.core.runtime.text.harmony)
    assert (result.attempted, result.failed) == (2, 0)


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("<|channel|>final<|message|>Hello <b>you</b> <|x", "Hello <b>you</b> <|x"),
        (
            f"{THOUGHT}<|start|>assistant<|channel|>final<|message|>Two.<|return|>",
            "[We <add>.]Two.",
        ),
        (f"{THOUGHT}<|channel|>final<|message|>Two.", "[We <add>.]Two."),
        ("<|channel|>analysis<|message|>We a", "[We a]"),
        (
            "<|channel|>commentary<|message|>I look.<|start|>assistant<|channel|>final<|message|>5",
            "I look.5",
        ),
        # Its end is that of the answer, or is seen.
        (f'{CALL}{{"a": 1}}', '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'),
        (
            ' to=functions.add<|channel|>commentary json<|message|>{"a": 1}<|call|>',
            '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>',
        ),
        # What a model makes up of a tool's answer is not its own.
        (
            f"{CALL}{{}}<|call|><|start|>functions.add to=assistant<|channel|>commentary<|message|>"
            "3<|end|><|start|>assistant<|channel|>final<|message|>3",
            '<tool_call>{"name": "add", "arguments": {}}</tool_call>3',
        ),
        # Held to a grammar, or cut.
        ('{"yes": true}', '{"yes": true}'),
        (" tomorrow", " tomorrow"),
        (" to", " to"),
        ("<", "<"),
        ("", ""),
        (f"{THOUGHT}<|start|>assistant<|chan", "[We <add>.]"),
    ],
)
def test_messages_become_the_text_of_other_models(raw: str, text: str, size: int) -> None:
    stream = HarmonyStream()
    parts = [p for i in range(0, len(raw), size) for p in stream.feed(raw[i : i + size])]
    assert shown([*parts, *stream.finish()]) == text


def test_text_comes_out_as_it_is_written() -> None:
    stream = HarmonyStream()
    pieces = ["<|channel|>", "final", "<|message|>", "One", " two", " <|", "x", "<|return|>"]
    said = [shown(stream.feed(piece)) for piece in pieces]
    assert said == ["", "", "", "One", " two", " ", "<|x", ""]
    assert stream.finish() == []


def written(raw: str, *, is_cut: bool = False, **more: Any) -> tuple[str, Any]:
    said: list[AnswerPart] = []
    request = GenerateRequest(messages=ASK, **more)
    writer = AnswerWriter(
        request, (), lambda part, _: said.append(part), limit=10_000, splitter=HarmonyStream()
    )
    for byte in raw.encode():
        writer.take(bytes([byte]))
    if not is_cut:
        writer.end()
    done = writer.done(1)
    return shown(said), done


def test_calls_in_harmony_are_calls() -> None:
    text, done = written(f'{THOUGHT}{CALL}{{"a": "é"}}', tools=TOOLS)
    assert text == "[We <add>.]"
    (call,) = done.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("add", {"a": "é"})
    assert done.reason == "tool_calls"
    text, done = written(f'{CALL}{{"a": ', tools=TOOLS)
    assert (done.tool_calls, done.reason) == ((), "stop")
    assert '"a": ' in text


def test_a_call_in_harmony_in_which_the_answer_ends_is_a_call() -> None:
    text, done = written(f'{CALL}{{"a": "é', tools=TOOLS, is_cut=True)
    assert (text, done.reason) == ("", "length")
    assert [(call.name, call.arguments) for call in done.tool_calls] == [("add", '{"a": "é')]
    text, done = written(f'{CALL}{{"a": 1}}', tools=TOOLS, is_cut=True)
    assert (text, done.reason) == ("", "tool_calls")
    assert [call.arguments for call in done.tool_calls] == ['{"a": 1}']


def in_harmony(folder: Path) -> None:
    """The tiny model, whose tokens for "One two three" are `<|channel|>analysis<|message|>`."""
    write_mlx(folder, chat_template=CHAT_TEMPLATE + TAUGHT)
    path = folder / "tokenizer.json"
    record = json.loads(path.read_text())
    vocab = record["model"]["vocab"]
    names = {"One": "<|channel|>", "Ġtwo": "analysis", "Ġthree": "<|message|>"}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    for old, new in names.items():
        number = vocab[new] = vocab.pop(old)
        if new.startswith("<"):
            record["added_tokens"].append({"id": number, "content": new, "special": True, **flags})
    pairs = [m if isinstance(m, list) else m.split(" ") for m in record["model"]["merges"]]
    record["model"]["merges"] = [
        pair for pair in pairs if all(part in vocab for part in (*pair, "".join(pair)))
    ]
    path.write_text(json.dumps(record))


def test_thoughts_of_the_past_are_kept_apart_from_text() -> None:
    call = ToolCall(id="x", name="add", arguments="{}")
    messages = (
        Message(role="user", content="<think>no</think>"),
        Message(role="assistant", content="<think>Hm.\n</think>\n\nYes."),
        Message(role="assistant", content="<think>Hm.</think>\n\n", tool_calls=(call,)),
        Message(role="assistant", content="<think>Hm.</think>I add.", tool_calls=(call,)),
        Message(role="assistant", content="Yes <think>."),
    )
    told = turns(messages, template=TAUGHT, key="thinking")
    assert [(turn["content"], turn.get("thinking")) for turn in told] == [
        ("<think>no</think>", None),
        ("Yes.", "Hm."),
        ("", "Hm."),
        ("I add.", None),
        ("Yes <think>.", None),
    ]
    untold = turns(messages)
    assert [turn["content"] for turn in untold] == [turn["content"] for turn in told]
    assert not any("thinking" in turn for turn in untold)


async def test_signs_of_harmony_that_are_tokens_are_heard(bench: Bench, tmp_path: Path) -> None:
    in_harmony(tmp_path / "oss")
    instance = await bench.loaded(tmp_path / "oss")
    chunks = await bench.ask(instance, about("count"))
    thought = expected("count").removeprefix("One two three")
    assert ("".join(c.thought for c in chunks), chunks[-1].finish_reason) == (thought, "stop")
    assert not any(chunk.text for chunk in chunks)
    assert await bench.answer(instance, "json") == expected("json")
    raw = GenerateRequest(prompt="count", temperature=0)
    answer = "".join(chunk.text for chunk in await bench.ask(instance, raw))
    assert answer


async def test_answers_without_heads_are_left_as_they_are(bench: Bench, tmp_path: Path) -> None:
    (path,) = write_gguf(tmp_path / "oss.gguf", chat_template=CHAT_TEMPLATE + TAUGHT)
    instance = await bench.loaded(path)
    assert await bench.answer(instance, "count") == expected("count")
    held = GenerateRequest(messages=ASK, grammar='root ::= "yes" | "no"', temperature=0)
    chunks = await bench.ask(instance, held)
    assert "".join(chunk.text for chunk in chunks) in ("yes", "no")


@pytest.mark.parametrize(
    ("template", "harmony"),
    [
        ("{{ '<|start|>assistant<|channel|>final<|message|>' }}", True),
        ("{{ '<|start|>assistant to=' + name + '<|message|>' }}", False),
        ("<|im_start|>assistant", False),
    ],
)
def test_templates_of_harmony_are_known(template: str, harmony: bool) -> None:
    assert is_harmony(template) is harmony
