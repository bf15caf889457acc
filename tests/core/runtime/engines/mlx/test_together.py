"""Several requests at once to the real mlx-lm: each is answered as if it were alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from modeldeck.core.demo.model_writer import expected
from modeldeck.core.errors import Cancelled, InvalidRequest
from modeldeck.core.runtime.engines.mlx.answer import SEED
from modeldeck.core.runtime.engines.mlx.turn_order import CROWDED
from modeldeck.core.runtime.process.messages import RequestWaits, TextPiece
from modeldeck.core.schema import GenerateRequest, LoadOptions
from tests.support.bench import about
from tests.support.engine_talk import EngineTalk

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG_ROUND = expected("loop")
ANY_JSON = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

SEEDED: dict[str, Any] = {"seed": 3, "temperature": 1.0, "top_k": 1}
"""The likeliest answer, but drawn by a seed."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def talk(demo_models: Path) -> AsyncIterator[EngineTalk]:
    """The tiny model, four at once, whose prompts are read 16 tokens at a time.

    The context is so long that an answer without an end fills the pipe, and waits for its reader,
    before its own end.
    """
    options = LoadOptions(parallel=4, batch_size=16, context_length=16384, cache_tokens=65536)
    async with EngineTalk.start("mlx", demo_models / "tiny-mlx", options) as talk:
        assert talk.loaded.parallel == 4
        yield talk


@pytest.fixture(autouse=True)
def fresh(talk: EngineTalk) -> None:
    """No reports of other tests."""
    talk.reports.clear()


def loop(**more: Any) -> GenerateRequest:
    """A request whose answer never ends by itself."""
    return replace(about("loop"), **more)


def waits(talk: EngineTalk, number: int) -> list[str]:
    return [report.why for report in talk.of(number) if isinstance(report, RequestWaits)]


async def test_four_at_once_are_answered_as_alone(talk: EngineTalk) -> None:
    topics = ("long", "count", "llama", "json")
    asked = [about("bla " * (7 * i) + topic) for i, topic in enumerate(topics)]
    assert await talk.says(*asked) == [expected(topic) for topic in topics]


async def test_others_are_answered_while_one_never_ends(talk: EngineTalk) -> None:
    (endless,) = talk.ask(loop())
    await talk.until(lambda: talk.text(endless))
    topics = ("count", "llama", "json")
    others = talk.ask(*(about("bla " * (7 * i) + topic) for i, topic in enumerate(topics)))
    await talk.end_of(*others)
    assert talk.over(endless) is None
    assert [talk.text(number) for number in others] == [expected(topic) for topic in topics]
    talk.cancel(endless)
    await talk.end_of(endless)
    assert talk.text(endless) == (LONG_ROUND * 2000)[: len(talk.text(endless))]


async def test_what_each_asks_for_is_its_own(talk: EngineTalk) -> None:
    stopped, short, likely, sampled, free = talk.ask(
        replace(about("count"), stop=(" four",)),
        replace(about("count"), max_tokens=2),
        replace(about("json"), logprobs=2),
        replace(about("count"), temperature=0.01, top_k=3, repeat_penalty=1.1),
    ) + talk.ask(about("llama"))
    await talk.end_of(stopped, short, likely, sampled, free)
    assert talk.text(stopped) == "One two three"
    assert (talk.text(short), talk.done(short).reason) == ("One two", "length")
    assert talk.text(likely) == expected("json")
    pieces = [r for r in talk.of(likely) if isinstance(r, TextPiece)]
    assert all(len(p.logprobs) >= 1 and len(p.logprobs[0].top) == 2 for p in pieces)
    assert not any(r.logprobs for r in talk.of(free) if isinstance(r, TextPiece))
    assert talk.text(sampled) == expected("count")
    assert talk.text(free) == expected("llama")


async def test_a_cancelled_one_leaves_its_neighbours_as_alone(talk: EngineTalk) -> None:
    endless, long, reading, waiting = talk.ask(
        loop(), about("long"), about("bla " * 300 + "loop"), about("json")
    )
    await talk.until(lambda: talk.text(endless) and talk.text(long) and talk.read(reading))
    talk.cancel(endless)
    talk.cancel(reading)
    await talk.end_of(endless, long, reading, waiting)
    assert talk.failed(endless).error.code == Cancelled.code
    assert talk.failed(reading).error.code == Cancelled.code
    assert (talk.text(long), talk.text(waiting)) == (expected("long"), expected("json"))


async def test_a_schema_holds_one_and_leaves_the_others_free(talk: EngineTalk) -> None:
    held, free, late = talk.ask(
        replace(about("count"), json_schema=ANY_JSON, max_tokens=200),
        about("long"),
        replace(about("count"), grammar='root ::= "a" root'),  # fails after its first token
    )
    await talk.end_of(held, free, late)
    assert isinstance(json.loads(talk.text(held))["n"], int)
    assert talk.text(free) == expected("long")
    assert talk.failed(late).error.code == InvalidRequest.code
    assert "cannot be followed" in talk.failed(late).error.message


async def test_a_seed_is_answered_alone_in_its_turn_and_that_is_told(talk: EngineTalk) -> None:
    seeded = replace(about("bla " * 30 + "count"), seed=7, temperature=5.0, max_tokens=12)
    (alone,) = await talk.says(seeded)
    endless, first, after, last = talk.ask(
        loop(max_tokens=40), seeded, about("json"), about("count")
    )
    await talk.end_of(endless, first, after, last)
    assert talk.text(endless) == (LONG_ROUND * 20)[: len(talk.text(endless))]
    assert talk.text(first) == alone
    assert (talk.text(after), talk.text(last)) == (expected("json"), expected("count"))
    assert waits(talk, first) == [SEED]
    order = [r.id for r in talk.reports if isinstance(r, TextPiece)]
    # It began when the one before it had ended, and those after it when it had.
    assert order.index(first) > max(i for i, n in enumerate(order) if n == endless)
    assert min(order.index(after), order.index(last)) > max(
        i for i, number in enumerate(order) if number == first
    )


async def test_a_paused_one_can_be_cancelled(talk: EngineTalk) -> None:
    for more in (dict[str, Any](), SEEDED):
        paused, _ = talk.ask(loop(**more), about("json"))
        await talk.until(partial(talk.text, paused))
        talk.pause(paused)
        assert await talk.says(about("json")) == [expected("json")]
        talk.cancel(paused)
        await talk.end_of(paused)
        assert talk.failed(paused).error.code == Cancelled.code
    assert await talk.says(about("count")) == [expected("count")]


async def test_where_the_cells_run_out_the_youngest_waits_and_all_are_answered(
    demo_models: Path,
) -> None:
    # Each may write 120 tokens, all together hold 256.
    options = LoadOptions(parallel=4, context_length=256)
    async with EngineTalk.start("mlx", demo_models / "tiny-mlx", options) as talk:
        assert talk.loaded.cache_tokens == 256
        asked = [loop(max_tokens=120 - i) for i in range(3)]
        numbers = talk.ask(*asked, about("long"))
        await talk.end_of(*numbers)
        for number, request in zip(numbers[:3], asked, strict=True):
            assert talk.done(number).completion_tokens == request.max_tokens
            assert talk.text(number) == (LONG_ROUND * 100)[: len(talk.text(number))]
        assert talk.text(numbers[3]) == expected("long")
        assert any(CROWDED in waits(talk, number) for number in numbers)
        assert not waits(talk, numbers[0]), "the one that came first never waits"


async def test_options_that_cannot_be_batched_are_served_one_at_a_time_and_that_is_logged(
    demo_models: Path,
) -> None:
    options = LoadOptions(parallel=4, kv_cache_type="q8_0")
    async with EngineTalk.start("mlx", demo_models / "tiny-mlx", options) as talk:
        assert talk.loaded.parallel == 1
        assert (
            "warning",
            "requests are answered one at a time: "
            "mlx-lm's quantized KV cache holds one answer at a time",
        ) in talk.lines
        # More than it takes at once still have their turns.
        assert await talk.says(about("count"), about("json")) == [
            expected("count"),
            expected("json"),
        ]
