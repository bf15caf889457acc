"""What is kept of texts, on mlx-lm's own caches, and what the next request finds of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from modeldeck.core.demo.model_writer import expected
from modeldeck.core.runtime.engines.mlx.prefix_cache import (
    Kind,
    MlxPrefixCache,
    common_length,
    packed,
)
from modeldeck.core.schema import GenerateRequest, LoadOptions, Message
from tests.support.bench import about
from tests.support.engine_talk import EngineTalk

mx = pytest.importorskip("mlx.core")
caches = pytest.importorskip("mlx_lm.models.cache")


class Tools:
    """mlx-lm's own functions."""

    def can_cut(self, held: Sequence[Any]) -> bool:
        return bool(caches.can_trim_prompt_cache(held))

    def cut(self, held: Sequence[Any], count: int) -> None:
        caches.trim_prompt_cache(held, count)

    def hold(self, held: Sequence[Any]) -> None:
        mx.eval([cache.state for cache in held])


def filled(tokens: Sequence[int]) -> list[Any]:
    """The cache of one layer whose keys and values are the tokens themselves."""
    layer = caches.KVCache()
    numbers = mx.array(tokens, dtype=mx.float32)[None, None, :, None]
    both = mx.broadcast_to(numbers, (1, 4, len(tokens), 8))
    layer.update_and_fetch(both, both)
    return [layer]


def state_of(tokens: Sequence[int]) -> list[Any]:
    """The cache of one layer that is a state of the whole text, as of recurrent models."""
    layer = caches.ArraysCache(1)
    layer[0] = mx.full((1, 16), float(sum(tokens)))
    return [layer]


def read_of(found: Sequence[Any]) -> list[int]:
    """The tokens that a cache made by `filled` holds."""
    (layer,) = found
    keys, _ = layer.keys_and_values()
    return [int(number) for number in keys[0, 0, :, 0].tolist()]


@pytest.mark.parametrize(
    ("one", "other", "length"),
    [
        ([], [], 0),
        ([1], [], 0),
        ([1], [2], 0),
        ([1], [1], 1),
        ([1, 2, 3], [1, 2], 2),
        ([1, 2, 3], [1, 2, 4, 5], 2),
        ([256, 1], [256, 257], 1),  # alike in some bytes
        ([*range(1000), 7], [*range(1000), 8], 1000),
    ],
)
def test_how_far_texts_are_alike(one: list[int], other: list[int], length: int) -> None:
    assert common_length(packed(one), packed(other)) == length
    assert common_length(packed(other), packed(one)) == length


def test_the_longest_beginning_is_found_and_cut_to_what_is_shared() -> None:
    kept = MlxPrefixCache(1 << 20, Tools())
    for text in ([1, 2, 3], [1, 2, 7, 8, 9], [5]):
        kept.keep(text, filled(text), "assistant")
    found = kept.find([1, 2, 7, 8, 4])
    assert found.caches is not None
    assert (found.tokens, read_of(found.caches)) == (4, [1, 2, 7, 8])
    # What the finder writes is not seen by the next one.
    found.caches[0].update_and_fetch(mx.ones((1, 4, 1, 8)), mx.ones((1, 4, 1, 8)))
    again = kept.find([1, 2, 7, 8, 9, 10])
    assert again.caches is not None
    assert read_of(again.caches) == [1, 2, 7, 8, 9]
    assert kept.find([4]).caches is None


def test_a_longer_text_stands_for_its_beginnings_where_it_can_be_cut() -> None:
    kept = MlxPrefixCache(1 << 20, Tools())
    kept.keep([1, 2], filled([1, 2]), "system")
    kept.keep([1, 2, 3], filled([1, 2, 3]), "assistant")
    kept.keep([1], filled([1]), "assistant")
    assert len(kept) == 1
    kept = MlxPrefixCache(1 << 20, Tools())
    kept.keep([1, 2], state_of([1, 2]), "system")
    kept.keep([1, 2, 3], state_of([1, 2, 3]), "assistant")
    assert len(kept) == 2
    assert kept.find([1, 2, 9]).tokens == 2
    assert kept.find([1, 9]).tokens == 0
    assert kept.find([1, 2, 3, 9]).tokens == 3


def test_the_bytes_of_all_that_is_kept_stay_within_the_budget() -> None:
    entry = sum(layer.nbytes for layer in filled([1])) + 4
    kept = MlxPrefixCache(3 * entry, Tools())
    for number in range(10):
        kept.keep([number], filled([number]), "assistant")
        assert kept.size_bytes <= 3 * entry
    assert [kept.find([n, 0]).tokens for n in range(7, 10)] == [1, 1, 1]
    kept.find([7, 0])  # now 8 is the one that was used longest ago
    kept.keep([77], filled([77]), "assistant")
    assert [kept.find([n, 0]).tokens for n in (7, 8, 9, 77)] == [1, 0, 1, 1]
    kept.keep([5, 6], [*filled([5, 6]) * 4], "user")  # larger than all of the budget
    assert [kept.find([n, 0]).tokens for n in (7, 9, 77)] == [1, 1, 1]
    none = MlxPrefixCache(0, Tools())
    none.keep([1], filled([1]), "system")
    assert len(none) == 0


def test_it_shrinks_when_memory_is_short() -> None:
    entry = sum(layer.nbytes for layer in filled([1])) + 4
    kept = MlxPrefixCache(9 * entry, Tools())
    for number in range(4):
        kept.keep([number], filled([number]), "assistant")
    kept.shrink(2 * entry)
    assert [kept.find([n, 0]).tokens for n in range(4)] == [0, 0, 1, 1]
    kept.shrink(0)
    assert len(kept) == 0


def test_answers_go_before_prompts_and_system_prompts_stay_longest() -> None:
    entry = 64 + 4
    kept = MlxPrefixCache(3 * entry, Tools())
    order: list[Kind] = ["system", "user", "assistant", "assistant", "user"]
    for number, kind in enumerate(order):
        kept.keep([number], state_of([number]), kind)
    assert [kept.find([n, 0]).tokens for n in range(5)] == [1, 1, 0, 0, 1]


# In an engine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def talk(demo_models: Path) -> AsyncIterator[EngineTalk]:
    options = LoadOptions(parallel=4, cache_tokens=8192)
    async with EngineTalk.start("mlx", demo_models / "tiny-mlx", options) as talk:
        yield talk


def then(before: GenerateRequest, answer: str, question: str) -> GenerateRequest:
    """The next request of a conversation."""
    turns = (
        *before.messages,
        Message(role="assistant", content=answer),
        Message(role="user", content=question),
    )
    return replace(before, messages=turns)


@pytest.mark.asyncio(loop_scope="module")
async def test_conversations_that_take_turns_read_only_what_is_new(talk: EngineTalk) -> None:
    one, other = about("a" * 90 + " count"), about("b" * 90 + " json")
    first = talk.ask(one, other)
    await talk.end_of(*first)
    one, other = then(one, expected("count"), "llama"), then(other, expected("json"), "count")
    second = talk.ask(one, other)
    await talk.end_of(*second)
    assert [talk.text(number) for number in second] == [expected("llama"), expected("count")]
    for before, number in zip(first, second, strict=True):
        was, done = talk.done(before), talk.done(number)
        assert was.prompt_tokens is not None
        assert was.completion_tokens is not None
        held = was.prompt_tokens + was.completion_tokens + 1  # and the token that ended it
        assert done.cached_tokens == held
        assert talk.read(number)[0] == held, "told before it reads"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_an_answer_in_work_holds_is_not_read_again(talk: EngineTalk) -> None:
    system = Message(role="system", content="c" * 200)
    asked = [
        GenerateRequest(messages=(system, *about(topic).messages), temperature=0)
        for topic in ("long", "count", "json")
    ]
    numbers = talk.ask(*asked)
    await talk.end_of(*numbers)
    assert [talk.text(n) for n in numbers] == [expected(t) for t in ("long", "count", "json")]
    found = [talk.done(number).cached_tokens or 0 for number in numbers]
    assert found[0] < 10
    assert min(found[1:]) >= 200


@pytest.mark.asyncio(loop_scope="module")
async def test_a_private_request_leaves_nothing_and_may_find_something(talk: EngineTalk) -> None:
    private = replace(about("d" * 150 + " count"), cache=False)
    for _ in range(2):
        (number,) = talk.ask(private)
        await talk.end_of(number)
        assert talk.text(number) == expected("count")
        assert (talk.done(number).cached_tokens or 0) < 10
    # Neither does one that is paused, or cancelled, meanwhile.
    (number,) = talk.ask(replace(about("d" * 150 + " loop"), cache=False))
    await talk.until(lambda: talk.text(number))
    talk.pause(number)
    assert await talk.says(about("json")) == [expected("json")]
    talk.cancel(number)
    await talk.end_of(number)
    (shared,) = talk.ask(replace(private, cache=True))
    await talk.end_of(shared)
    assert (talk.done(shared).cached_tokens or 0) < 10
    (again,) = talk.ask(private)
    await talk.end_of(again)
    assert (talk.done(again).cached_tokens or 0) > 150


@pytest.mark.asyncio(loop_scope="module")
async def test_without_a_budget_nothing_is_kept(demo_models: Path) -> None:
    path = demo_models / "tiny-mlx"
    async with EngineTalk.start("mlx", path, prefix_cache_bytes=0) as talk:
        for _ in range(2):
            (number,) = talk.ask(about("e" * 150 + " count"))
            await talk.end_of(number)
            assert (talk.text(number), talk.done(number).cached_tokens) == (expected("count"), 0)
