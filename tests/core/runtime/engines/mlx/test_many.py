"""Many requests of all kinds, with pauses and cancellations at random turns, in one MLX engine."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.demo.model_writer import expected
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.mlx.engine import MlxEngine
from modeldeck.core.runtime.process.messages import (
    AnswerDone,
    CommandFailed,
    EngineReport,
    LoadModel,
    TextPiece,
)
from modeldeck.core.schema import GenerateRequest, LoadOptions, Message
from tests.support.bench import about

mx = pytest.importorskip("mlx.core")

BUDGET = 1 << 20
REQUESTS = 24
SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": ["x"]}},
    "required": ["a"],
    "additionalProperties": False,
}
KINDS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"cache": False},
    {"seed": 1, "temperature": 1.0, "top_k": 1},
    {"json_schema": SCHEMA},
    {"logprobs": 1},
)


@pytest.fixture
def engine(demo_models: Path) -> MlxEngine:
    """The tiny model in this process: eight at once, in cells for a few."""
    engine = MlxEngine(Flag())
    engine.hello()
    options = LoadOptions(parallel=8, context_length=400, cache_tokens=1000, batch_size=64)
    path = str(demo_models / "tiny-mlx")
    command = LoadModel(
        id=1, path=path, options=options, default_context=400, prefix_cache_bytes=BUDGET
    )
    engine.load(command, lambda *progress: None)
    return engine


def some_request(chance: random.Random) -> tuple[str, GenerateRequest]:
    """A topic, and a request about it."""
    topic = chance.choice(("long", "count", "json", "loop", "llama"))
    system = chance.choice(((), (Message(role="system", content="s" * 80),)))
    question = Message(role="user", content="w" * chance.randint(0, 120) + " " + topic)
    asked: dict[str, Any] = {"temperature": 0, "max_tokens": 160, **chance.choice(KINDS)}
    return topic, GenerateRequest(messages=(*system, question), **asked)


def is_right(topic: str, request: GenerateRequest, text: str) -> bool:
    """Whether a text answers a request."""
    if request.json_schema is not None:
        return "".join(text.split()) == '{"a":"x"}'
    if topic == "loop":
        return len(text) > 300 and (expected("loop") * 200).startswith(text)
    return text == expected(topic)


def test_all_are_answered_rightly_and_nothing_is_left(engine: MlxEngine) -> None:
    chance = random.Random(11)
    at_first = mx.get_active_memory()
    asked: dict[int, tuple[str, GenerateRequest]] = {}
    texts: dict[int, str] = {}
    live: set[int] = set()
    paused: set[int] = set()
    sizes: list[int] = []

    def take(report: EngineReport) -> None:
        if isinstance(report, TextPiece):
            assert report.id in live
            texts[report.id] += report.text
        elif isinstance(report, AnswerDone):
            live.discard(report.id)
            sizes.append(report.prefix_cache_bytes or 0)
            assert is_right(*asked[report.id], texts[report.id]), asked[report.id]
        assert not isinstance(report, CommandFailed), report

    def turn() -> None:
        for number in sorted(live):
            if chance.random() < 0.002:
                engine.cancel(number)
                live.discard(number)
                paused.discard(number)
            elif number in paused and chance.random() < 0.1:
                engine.resume(number)
                paused.discard(number)
            elif chance.random() < 0.01:
                engine.pause(number)
                paused.add(number)
        for report in engine.step():
            take(report)
        if not engine.working:
            for number in paused:
                engine.resume(number)
            paused.clear()

    for number in range(1, REQUESTS + 1):
        while len(live) >= 8:
            turn()
        asked[number], texts[number] = some_request(chance), ""
        engine.begin(number, asked[number][1])
        live.add(number)
    while live:
        turn()
    assert not engine.working
    assert len(sizes) > REQUESTS / 2
    assert 0 < max(sizes) <= BUDGET
    assert mx.get_active_memory() - at_first <= BUDGET, "only what the prefix cache holds"


def test_a_failure_of_mlx_fails_those_it_was_writing_and_no_others(
    engine: MlxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_lm.generate import BatchGenerator

    engine.begin(1, about("loop"))
    engine.begin(2, about("long"))
    engine.begin(3, about("count" + " " * 380))  # waits, since the cells are taken
    reports = [report for _ in range(5) for report in engine.step()]
    with monkeypatch.context() as patch:

        def fail(_self: Any) -> Any:
            raise RuntimeError("[malloc] Unable to allocate 1 bytes.")

        patch.setattr(BatchGenerator, "next", fail)
        reports += engine.step()
    while engine.working:
        reports += engine.step()
    failed = {report.id: report for report in reports if isinstance(report, CommandFailed)}
    assert set(failed) == {1, 2}
    assert "Unable to allocate" in failed[1].error.message
    done = [report for report in reports if isinstance(report, AnswerDone)]
    assert [report.id for report in done] == [3]


TICKS = expected("loop") * 15


@pytest.mark.parametrize(
    ("more", "whole"),
    [
        ({}, TICKS),
        ({"seed": 1, "temperature": 1.0, "top_k": 1}, TICKS),
        ({"cache": False}, TICKS),
        ({"grammar": 'root ::= "a"{30}'}, "a" * 30),
    ],
    ids=["batched", "alone", "private", "grammar"],
)
def test_a_paused_one_waits_and_goes_on_where_it_was(
    engine: MlxEngine, more: dict[str, Any], whole: str
) -> None:
    texts = dict.fromkeys(range(1, 4), "")
    ends: dict[int, AnswerDone] = {}

    def turn() -> None:
        for report in engine.step():
            if isinstance(report, TextPiece):
                texts[report.id] += report.text
            elif isinstance(report, AnswerDone):
                ends[report.id] = report
            assert not isinstance(report, CommandFailed), report

    engine.begin(1, replace(about("loop"), max_tokens=30, **more))
    while len(texts[1]) < 5:
        turn()
    engine.pause(1)
    turn()  # tells what its grammar is ahead by
    so_far = texts[1]
    assert not engine.working
    engine.begin(2, about("count"))
    engine.begin(3, about("long"))
    while engine.working:
        turn()
    assert (texts[2], texts[3]) == (expected("count"), expected("long"))
    assert texts[1] == so_far != whole
    assert set(ends) == {2, 3}
    engine.resume(1)
    while engine.working:
        turn()
    assert texts[1] == whole
    assert ends[1].completion_tokens == 30
