"""Answers of the real mlx-lm held to grammars by the real llguidance: what is its own to get right.

What both engines do alike is in test_structured.py, and what a grammar admits in test_lark.py.
"""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.demo.model_writer import expected, write_mlx
from modeldeck.core.errors import EngineFailed, EngineMissing, InvalidRequest
from modeldeck.core.runtime.engines.bounds import Bounded, Bounds
from modeldeck.core.runtime.engines.mlx.grammar import GrammarSampler, make_vocabulary
from modeldeck.core.runtime.grammar.answer_grammar import of_gbnf
from modeldeck.core.runtime.grammar.matcher import GrammarVocabulary
from modeldeck.core.schema import Chunk, GenerateRequest, Instance, LoadOptions, Message
from tests.support.bench import Bench, about, model

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(Settings(context_length=2048))
    await bench.engines.open()
    yield bench
    await bench.engines.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiny(bench: Bench, demo_models: Path) -> Instance:
    return await bench.loaded(demo_models / "tiny-mlx")


def held(grammar: str, **more: Any) -> GenerateRequest:
    asked: dict[str, Any] = {"temperature": 0, **more}
    return GenerateRequest(
        messages=(Message(role="user", content="count"),), grammar=grammar, **asked
    )


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


async def test_an_answer_ends_where_its_grammar_does_and_not_before(
    bench: Bench, tiny: Instance
) -> None:
    # The model itself would end after its sentence, and go on after the first words of it.
    sentence = expected("count")
    for grammar, answer in (
        (f'root ::= "{sentence}" "!"{{3}}', f"{sentence}!!!"),
        ('root ::= "One two"', "One two"),
        (f'root ::= "{sentence}" "!"{{0,3}}', sentence),
    ):
        *_, last = chunks = await bench.ask(tiny, held(grammar))
        assert text_of(chunks) == answer
        assert last.finish_reason == "stop"
    *_, last = chunks = await bench.ask(tiny, held("root ::= [a-z]+", max_tokens=7))
    assert (last.finish_reason, last.completion_tokens) == ("length", 7)
    assert await bench.answer(tiny, "count") == sentence


async def test_characters_of_several_tokens_are_put_together(bench: Bench, tiny: Instance) -> None:
    chunks = await bench.ask(tiny, held('root ::= "<" [ж-я]{3} "🦙é中" [^ -~]{2} ">"', seed=1))
    text = text_of(chunks)
    assert len(text) == 10
    assert text[4:7] == "🦙é中"
    assert all("ж" <= letter <= "я" for letter in text[1:4])


async def test_tokens_that_stand_for_no_text_are_no_text(bench: Bench, tiny: Instance) -> None:
    request = held("root ::= .{40}", temperature=50, top_k=1000, top_p=1.0, min_p=0.0)
    for seed in range(3):
        chunks = await bench.ask(tiny, GenerateRequest(**_fields(request) | {"seed": seed}))
        assert chunks[-1].finish_reason == "stop"
        assert len(text_of(chunks)) == 40


def _fields(request: GenerateRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in GenerateRequest.__dataclass_fields__}


async def test_probabilities_are_the_model_s_own(bench: Bench, tiny: Instance) -> None:
    free = [lp for c in await bench.ask(tiny, held_free()) for lp in c.logprobs]
    chunks = await bench.ask(tiny, held('root ::= "No" | "no"', logprobs=2))
    (first, *_) = (lp for c in chunks for lp in c.logprobs)
    # The model wanted to say another word, and still does.
    assert first.top[0] == free[0].top[0]
    assert first.logprob < first.top[0][1]
    assert sum(math.exp(value) for _, value in first.top) <= 1 + 1e-5


def held_free() -> GenerateRequest:
    return GenerateRequest(
        messages=(Message(role="user", content="count"),), temperature=0, logprobs=2
    )


async def test_every_way_to_sample_obeys(bench: Bench, tiny: Instance) -> None:
    found = set()
    for more in (
        {"top_p": 0.01},
        {"top_k": 1, "min_p": 1.0},
        {"repeat_penalty": 1.9, "presence_penalty": 2.0, "frequency_penalty": 2.0},
        {"temperature": 100},
    ):
        request = held('root ::= [xyz]{5} "."', **{"temperature": 1, "seed": 3, **more})
        text = text_of(await bench.ask(tiny, request))
        assert set(text) <= set("xyz.")
        assert (len(text), text[-1]) == (6, ".")
        again = text_of(await bench.ask(tiny, request))
        assert text == again
        found.add(text)
    assert len(found) > 1


@pytest.mark.parametrize(
    "grammar",
    [
        # Deep enough to overflow the stack, were it read on an ordinary one.
        "root ::= r0\n"
        + "".join(f"r{i} ::= r{i + 1}\n" for i in range(12_000))
        + 'r12000 ::= "yes"',
        "root ::= r0\n"
        + "".join(f"r{i} ::= {'(' * 62}r{i + 1}{')' * 62}\n" for i in range(1050))
        + 'r1050 ::= "yes"',
        # More ways to go on than llguidance takes by itself.
        "root ::= " + " ".join(f'"{i}"?' for i in range(2000, 4500)) + ' "yes"',
    ],
    ids=["deep", "deepest", "wide"],
)
async def test_large_grammars_are_followed(bench: Bench, tiny: Instance, grammar: str) -> None:
    text = text_of(await bench.ask(tiny, held(grammar, max_tokens=12)))
    assert text.endswith("yes") or text.isdigit()
    assert bench.last(tiny).pid == tiny.pid


async def test_a_grammar_without_an_end_is_cut_off_and_one_that_takes_too_much_refused(
    bench: Bench, tiny: Instance
) -> None:
    *_, last = chunks = await bench.ask(tiny, held("root ::= [ab] root", max_tokens=9))
    assert (len(text_of(chunks)), last.finish_reason) == (9, "length")
    # Nothing can follow the "a": what is there so far is the answer.
    *_, last = chunks = await bench.ask(tiny, held('root ::= "a" [z-a] "b"'))
    assert (text_of(chunks), last.finish_reason) == ("a", "stop")
    # llguidance looks for what is certain to follow, which here never ends.
    with pytest.raises(
        InvalidRequest, match=r"grammar cannot be followed: .*items.*in one way only"
    ):
        await bench.ask(tiny, held('root ::= "a" root'))
    assert await bench.answer(tiny, "json") == expected("json")


async def test_a_client_that_goes_ends_its_answer(bench: Bench, tiny: Instance) -> None:
    async with bench.engines.generate(tiny.id, held("root ::= [a-z]*")) as chunks:
        async for _ in chunks:
            break
    async with asyncio.timeout(60):
        assert await bench.answer(tiny, "count") == expected("count")


async def test_a_draft_does_not_get_in_the_way(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "guessed"
    write_mlx(path)
    options = LoadOptions(draft_model="x", kv_cache_type="q8_0")
    instance = await bench.engines.load(model(path), options, draft=str(path))
    await bench.engines.ready(instance.id)
    for _ in range(2):
        request = held('root ::= "{" [a-c]{4} "}"')
        assert text_of(await bench.ask(instance, request))[::5] == "{}"
        assert await bench.answer(instance, "count") == expected("count")
    await bench.engines.unload(instance.id)


async def test_json_of_any_form_stays_json(bench: Bench, tiny: Instance) -> None:
    for question in ("json", "count"):
        asked = (Message(role="user", content=question),)
        request = GenerateRequest(messages=asked, json_schema={}, temperature=0, max_tokens=200)
        *_, last = chunks = await bench.ask(tiny, request)
        if last.finish_reason == "stop":
            assert isinstance(json.loads(text_of(chunks)), dict)
    assert text_of(await bench.ask(tiny, about("json"))) == expected("json")


class _Tokenizer:
    """A tokenizer that is only Python, as some models bring one."""


class _Odd:
    """One whose file llguidance cannot read."""

    class backend_tokenizer:
        """Says what it is made of."""

        @staticmethod
        def to_str() -> str:
            return "{}"


async def test_tokenizers_that_cannot_be_held_are_refused_in_words() -> None:
    for tokenizer, ends, error, words in (
        (_Tokenizer(), [1], InvalidRequest, r"no tokenizer\.json.*GGUF"),
        (_Odd(), [], InvalidRequest, r"no token that ends"),
        (_Odd(), [1], EngineFailed, r"does not take this model's tokenizer"),
    ):
        vocabulary = GrammarVocabulary(partial(make_vocabulary, tokenizer, ends))
        with pytest.raises(error, match=words):
            vocabulary.matcher(of_gbnf('root ::= "a"'))


async def test_without_llguidance_a_grammar_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(EngineMissing, match=r"llguidance.*not installed.*pip install"):
        GrammarVocabulary(lambda guide: guide).matcher(of_gbnf('root ::= "a"'))


async def test_following_a_grammar_is_watched_under_the_number_of_its_request() -> None:
    bounds = Bounds(lambda: False)
    seen: list[Bounded | None] = []

    def choose(*_: Any, **__: Any) -> int:
        seen.append(bounds.current)
        return 7

    mx = SimpleNamespace(array=lambda values, dtype: values, uint32=None)
    matcher: Any = SimpleNamespace(choose=choose)
    sampler = GrammarSampler(mx, matcher, lambda likely: likely, 0, bounds=bounds, number=5)
    assert sampler(None) == [7]
    (watched,) = seen
    assert watched is not None
    assert (watched.what, watched.number) == ("The grammar", 5)
    assert bounds.current is None
