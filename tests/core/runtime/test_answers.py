"""What both engines must do alike: real llama.cpp and real mlx-lm, each loaded once."""

import json
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.demo.model_writer import TOPICS, expected
from modeldeck.core.errors import ContextExceeded, InvalidRequest
from modeldeck.core.runtime.process.frames import MAX_BYTES
from modeldeck.core.schema import (
    Chunk,
    GenerateRequest,
    Instance,
    InstanceState,
    LoadOptions,
    Message,
    TokenQuery,
    Tool,
    ToolCall,
)
from tests.support.bench import Bench, about

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTEXT = 512
WEATHER = Tool(name="weather", parameters={"type": "object", "properties": {"city": {}}})
CLOCK = Tool(name="clock")


@dataclass(frozen=True, slots=True)
class Asked:
    """An engine with the tiny model."""

    bench: Bench
    instance: Instance

    async def ask(self, request: GenerateRequest) -> tuple[str, Chunk]:
        """The text of an answer, and its last chunk."""
        chunks = await self.bench.ask(self.instance, request)
        return "".join(chunk.text for chunk in chunks), chunks[-1]

    async def says(self, text: str) -> str:
        """The likeliest answer to one message."""
        return (await self.ask(about(text)))[0]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["llama.cpp", "mlx"])
async def engine(request: pytest.FixtureRequest, demo_models: Path) -> AsyncIterator[Asked]:
    llama = request.param == "llama.cpp"
    path = demo_models / ("tiny-GGUF/tiny-F16.gguf" if llama else "tiny-mlx")
    bench = Bench(Settings())
    await bench.engines.open()
    instance = await bench.loaded(path, LoadOptions(context_length=CONTEXT))
    assert instance.engine == request.param
    yield Asked(bench, instance)
    assert bench.last(instance).pid == instance.pid, "a test has cost its process"
    await bench.engines.close()


def user(text: str, **more: Any) -> GenerateRequest:
    return GenerateRequest(
        messages=(Message(role="user", content=text),), **{"temperature": 0, **more}
    )


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if topic != "loop"])
async def test_the_answer_is_the_known_one(engine: Asked, topic: str) -> None:
    question = "What are you?" if topic == "default" else f"Please {topic} for me, will you?"
    assert await engine.says(question) == expected(topic).rpartition("</think>")[2]


async def test_the_last_chunk_counts_and_every_other_has_text(engine: Asked) -> None:
    *chunks, last = await engine.bench.ask(engine.instance, about("count"))
    assert [chunk.text for chunk in chunks][:3] == ["One", " two", " three"]
    assert all(chunk.text and chunk.finish_reason is None for chunk in chunks)
    assert (last.text, last.finish_reason, last.completion_tokens) == ("", "stop", len(chunks))
    assert (last.prompt_tokens, last.logprobs, last.tool_calls) == (4, (), ())
    assert last.tokens_per_s
    assert last.time_to_first_token_s
    record = engine.bench.last(engine.instance)
    assert record.tokens_per_s == last.tokens_per_s
    assert record.time_to_first_token_s == last.time_to_first_token_s


async def test_the_whole_conversation_is_read_and_its_beginning_kept(engine: Asked) -> None:
    turns = (
        Message(role="system", content="You are a test."),
        Message(role="user", content="count please"),
        Message(role="assistant", content=expected("count")),
        Message(role="user", content="now json, please " + "bla " * 50),
    )
    for conversation, topic in (
        *((turns[:2], "count"), (turns, "json"), (turns, "json"), (turns[:2], "count")),
        *((turns[1:2], "count"), (turns, "json")),
    ):
        request = GenerateRequest(messages=conversation, temperature=0)
        assert (await engine.ask(request))[0] == expected(topic)


@pytest.mark.parametrize(
    ("request_", "text", "reason"),
    [
        (GenerateRequest(prompt="One", temperature=0, max_tokens=2), " two three", "length"),
        (GenerateRequest(prompt="One", temperature=0, stop=(" four",)), " two three", "stop"),
        (
            GenerateRequest(prompt="One", temperature=0, stop=("ur fi", "x")),
            " two three fo",
            "stop",
        ),
    ],
)
async def test_an_answer_ends_where_it_was_asked_to(
    engine: Asked, request_: GenerateRequest, text: str, reason: str
) -> None:
    found, last = await engine.ask(request_)
    assert (found, last.finish_reason) == (text, reason)
    assert last.stop_text == (request_.stop[0] if request_.stop else None)


async def test_tokens_are_told_without_an_answer(engine: Asked) -> None:
    engines, key = engine.bench.engines, engine.instance.id
    asked = replace(about("count"), tools=())
    _, last = await engine.ask(replace(asked, max_tokens=1))
    counted = await engines.tokenize(key, TokenQuery(request=asked, count_only=True))
    assert (counted.count, counted.tokens, counted.text) == (last.prompt_tokens, (), "")
    whole = await engines.tokenize(key, TokenQuery(request=asked))
    assert "count" in whole.text
    assert len(whole.tokens) == len(whole.pieces) == whole.count == counted.count
    plain = await engines.tokenize(key, TokenQuery(text="One two"))
    assert b"".join(plain.pieces).strip() == b"One two"
    back = await engines.tokenize(key, TokenQuery(tokens=plain.tokens))
    assert back.text.strip() == "One two"
    for wrong in (-1, 1 << 30):
        with pytest.raises(InvalidRequest, match="Tokens of this model"):
            await engines.tokenize(key, TokenQuery(tokens=(wrong,)))
    assert await engine.says("count") == expected("count")


async def test_an_answer_without_end_ends_with_the_context(engine: Asked) -> None:
    _, last = await engine.ask(about("loop"))
    assert last.finish_reason == "length"
    assert (last.prompt_tokens or 0) + (last.completion_tokens or 0) == CONTEXT


async def test_a_request_that_does_not_fit_is_refused_and_the_next_answered(engine: Asked) -> None:
    with pytest.raises(InvalidRequest, match="context"):
        await engine.says("bla " * 2000)
    with pytest.raises(ContextExceeded, match=r"too long: \d+ tokens") as caught:
        await engine.says("x" * (1 << 20))
    assert caught.value.sizes is not None
    assert caught.value.sizes[1] == CONTEXT
    with pytest.raises(ContextExceeded, match=r"too long: \d+ characters"):
        await engine.says("x" * (MAX_BYTES + 1))
    with pytest.raises(ContextExceeded, match="too long: a frame"):
        await engine.says("\n" * MAX_BYTES)
    assert await engine.says("count") == expected("count")


async def test_sampling_is_repeatable_and_takes_every_parameter(engine: Asked) -> None:
    plain = GenerateRequest(
        prompt="x", max_tokens=20, temperature=90, top_p=1, top_k=0, min_p=0, seed=7
    )

    async def drawn(**changes: Any) -> str:
        return (await engine.ask(replace(plain, **changes)))[0]

    first = await drawn()
    assert await drawn() == first
    assert await drawn(seed=8) != first
    greedy = await drawn(temperature=0)
    for changes in ({"temperature": 1e-300}, {"top_k": 1}, {"top_p": 0}, {"min_p": 1}):
        assert await drawn(**changes) == greedy
    assert await drawn(top_k=1 << 20, seed=-1)
    assert await drawn(repeat_penalty=1.5, presence_penalty=2, frequency_penalty=-2)
    looped = replace(about("loop"), max_tokens=20, presence_penalty=10, frequency_penalty=10)
    said, _ = await engine.ask(looped)
    assert said.count("Tick") < 10, "a penalty keeps it from saying the same for ever"


async def test_leaving_cancels_and_the_next_answer_is_right(engine: Asked) -> None:
    bench, instance = engine.bench, engine.instance
    for _ in range(3):
        async with bench.engines.generate(instance.id, about("loop")) as chunks:
            taken = "".join([(await anext(chunks)).text for _ in range(5)])
        assert taken == (expected("loop") * 3)[: len(taken)]
        assert await engine.says("count") == expected("count")
    await bench.until(instance, lambda i: i.state is InstanceState.READY and i.requests == 0)
    assert not [text for _, level, text in bench.lines if level == "error"]


# Tools


async def test_a_call_is_told_apart_from_text(engine: Asked) -> None:
    text, last = await engine.ask(user("rain?", tools=(WEATHER, CLOCK)))
    (call,) = last.tool_calls
    assert (text, last.finish_reason) == ("", "tool_calls")
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Paris"})


async def test_a_conversation_goes_on_after_a_call(engine: Asked) -> None:
    call = ToolCall(id="abcdefghi", name="weather", arguments='{"city": "Paris"}')
    messages = (
        Message(role="user", content="rain?"),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", content="count", tool_call_id=call.id),
    )
    request = GenerateRequest(messages=messages, tools=(WEATHER,), temperature=0)
    assert (await engine.ask(request))[0] == expected("count")


@pytest.mark.parametrize(
    "more", [{}, {"tools": (CLOCK,)}, {"tools": (WEATHER,), "tool_choice": "none"}]
)
async def test_a_call_of_nothing_known_is_text(engine: Asked, more: dict[str, Any]) -> None:
    text, last = await engine.ask(user("rain?", **more))
    assert (text, last.tool_calls, last.finish_reason) == (expected("rain"), (), "stop")


async def test_a_call_in_which_the_answer_ends_is_told_as_far_as_it_came(engine: Asked) -> None:
    text, last = await engine.ask(user("rain?", tools=(WEATHER,), max_tokens=4))
    assert (text, last.finish_reason) == ("", "length")
    (call,) = last.tool_calls
    assert (call.name, call.arguments) == ("weather", '{"city": "Paris"')


async def test_text_comes_at_once_where_tools_are_offered(engine: Asked) -> None:
    chunks = await engine.bench.ask(engine.instance, user("count", tools=(WEATHER,)))
    assert [chunk.text for chunk in chunks][:3] == ["One", " two", " three"]


async def test_a_plain_prompt_has_no_place_for_tools(engine: Asked) -> None:
    with pytest.raises(InvalidRequest, match="need messages"):
        await engine.ask(GenerateRequest(prompt="x", tools=(WEATHER,)))


# Probabilities


async def test_probabilities_are_those_of_the_model(engine: Asked) -> None:
    chunks = await engine.bench.ask(engine.instance, user("count", logprobs=3))
    found = [logprob for chunk in chunks for logprob in chunk.logprobs]
    assert "".join(logprob.token for logprob in found) == expected("count")
    for logprob in found:
        assert len(logprob.top) == 3
        assert logprob.top[0] == (logprob.token, logprob.logprob)
        assert sum(math.exp(value) for _, value in logprob.top) <= 1 + 1e-5
        assert [v for _, v in logprob.top] == sorted((v for _, v in logprob.top), reverse=True)


async def test_parts_of_a_character_are_told_as_bytes(engine: Asked) -> None:
    chunks = await engine.bench.ask(engine.instance, user("llama", logprobs=0))
    tokens = [logprob.token for chunk in chunks for logprob in chunk.logprobs]
    assert tokens[:2] == ["Bytes", ":"]
    assert tokens[-4:] == ["bytes:\\xf0", "bytes:\\x9f", "bytes:\\xa6", "bytes:\\x99"]
    assert "".join(chunk.text for chunk in chunks) == expected("llama")
