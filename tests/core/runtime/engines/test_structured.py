"""Answers with a form: grammars, JSON schemas, calls of tools, by both engines."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no types
import pytest
import pytest_asyncio

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.demo.model_writer import expected, write_gguf
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import (
    Chunk,
    GenerateRequest,
    Instance,
    LoadOptions,
    Message,
    Tool,
)
from tests.support.bench import Bench

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEATHER = Tool(
    name="weather",
    description="Tells the weather.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
    },
)
CLOCK = Tool(name="clock")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    """Engines for all tests of this module: each of them leaves them as they were."""
    bench = Bench(Settings(context_length=2048))
    await bench.engines.open()
    yield bench
    await bench.engines.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiny_gguf(bench: Bench, demo_models: Path) -> Instance:
    return await bench.loaded(demo_models / "tiny-GGUF" / "tiny-F16.gguf")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tiny_mlx(bench: Bench, demo_models: Path) -> Instance:
    return await bench.loaded(demo_models / "tiny-mlx")


@pytest.fixture(params=["gguf", "mlx"])
def tiny(request: pytest.FixtureRequest, tiny_gguf: Instance, tiny_mlx: Instance) -> Instance:
    return tiny_gguf if request.param == "gguf" else tiny_mlx


def user(text: str, **more: Any) -> GenerateRequest:
    return GenerateRequest(messages=(Message(role="user", content=text),), **more)


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


# Grammars and schemas


async def test_a_grammar_rules_what_the_model_says(bench: Bench, tiny: Instance) -> None:
    request = user("count", grammar='root ::= "yes" | "no"', temperature=0)
    chunks = await bench.ask(tiny, request)
    assert text_of(chunks) in ("yes", "no")
    assert chunks[-1].finish_reason == "stop"
    assert await bench.answer(tiny, "count") == expected("count")


async def test_a_grammar_that_agrees_with_the_model_changes_nothing(
    bench: Bench, tiny: Instance
) -> None:
    request = user("count", grammar='root ::= [A-Za-z ]+ ";"', temperature=0)
    assert text_of(await bench.ask(tiny, request)) == expected("count")


JSON = r"""
root ::= object
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws (member ("," ws member)*)? "}" ws
member ::= string ":" ws value
array ::= "[" ws (value ("," ws value)*)? "]" ws
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" ws
number ::= "-"? ("0" | [1-9] [0-9]{0,9}) ("." [0-9]+)? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""


async def test_a_grammar_with_rules_within_themselves_is_followed(
    bench: Bench, tiny: Instance
) -> None:
    whole = 0
    for seed in range(8):
        more = {"temperature": 2.0, "seed": seed} if seed else {"temperature": 0}
        chunks = await bench.ask(tiny, user("json", grammar=JSON, max_tokens=300, **more))
        if chunks[-1].finish_reason == "stop":
            assert isinstance(json.loads(text_of(chunks)), dict)
            whole += 1
    assert whole


SCHEMAS: list[dict[str, Any]] = [
    {},
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3, "maximum": 90}}},
    {
        "type": "object",
        "properties": {
            "kind": {"enum": ["one", 'two"\\', 3, None]},
            "list": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
            "size": {"type": "number", "minimum": 0, "maximum": 1},
            "text": {"type": "string", "minLength": 1, "maxLength": 5},
        },
        "required": ["kind", "list", "size", "text"],
        "additionalProperties": False,
    },
    {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "string", "pattern": "^[a-f]{2,3}-\\d$"},
                    "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]},
                },
                "required": ["value", "next"],
            }
        },
        "$ref": "#/$defs/node",
    },
]


@pytest.mark.parametrize("schema", SCHEMAS)
async def test_every_answer_fits_its_schema(
    bench: Bench, tiny: Instance, schema: dict[str, Any]
) -> None:
    for seed in range(5):
        request = user("x", json_schema=schema, temperature=1.5, seed=seed, max_tokens=400)
        chunks = await bench.ask(tiny, request)
        if chunks[-1].finish_reason == "length":
            continue  # it is free to go on, and this model does not know when to stop
        found = json.loads(text_of(chunks))
        jsonschema.validate(found, schema)
        assert isinstance(found, dict)


@pytest.mark.parametrize(
    "request_",
    [
        user("x", grammar='root ::= "a'),
        user("x", grammar='root ::= root "a"'),
        user("x", grammar="root ::= " + "(" * 5000 + '"a"' + ")" * 5000),
        user("x", grammar='root ::= "a"{100000}'),
        user("x", grammar='root ::= ("a"? "b"?)*'),
        user("x", json_schema={"type": "string", "minLength": 100_000}),
        user("x", json_schema={"type": "integer", "multipleOf": 123456789}),
        user("x", regex="(?=a)a"),
        user("x", json_schema={"$ref": "#"}),
        user("x", json_schema={"$ref": "https://example.org/schema"}),
        user("x", json_schema={"type": "string", "pattern": "^(?=a).*$"}),
        user("x", tools=(WEATHER,), tool_choice="clock"),
        GenerateRequest(prompt="x", tools=(WEATHER,)),
    ],
)
async def test_what_would_crash_an_engine_is_refused_and_the_next_answered(
    bench: Bench, tiny: Instance, request_: GenerateRequest
) -> None:
    with pytest.raises(InvalidRequest):
        await bench.ask(tiny, request_)
    assert bench.last(tiny).pid == tiny.pid
    assert await bench.answer(tiny, "json") == expected("json")


async def test_a_grammar_of_many_ways_is_followed_in_time(bench: Bench, tiny: Instance) -> None:
    # Each "a" may be followed by a "b", a "c" or neither at the end: two to the power of "a"s.
    grammar = 'root ::= s\ns ::= "a" s | "a" s "b" | "a" s "c" | "a"'
    request = user("x", grammar=grammar, temperature=0, max_tokens=200)
    text = text_of(await bench.ask(tiny, request))
    assert set(text) <= set("abc")
    assert await bench.answer(tiny, "json") == expected("json")


async def test_a_regular_expression_rules_the_whole_answer(bench: Bench, tiny: Instance) -> None:
    for seed in range(3):
        request = user("count", regex="[0-9]{3}-(ab|cd)", temperature=1.5, seed=seed)
        chunks = await bench.ask(tiny, request)
        assert re.fullmatch("[0-9]{3}-(ab|cd)", text_of(chunks))
        assert chunks[-1].finish_reason == "stop"


# Tools


@pytest.mark.parametrize(
    ("choice", "names"), [("required", {"weather", "clock"}), ("clock", {"clock"})]
)
async def test_a_call_can_be_required(
    bench: Bench, tiny: Instance, choice: str, names: set[str]
) -> None:
    request = user("count", tools=(WEATHER, CLOCK), tool_choice=choice, seed=1, max_tokens=300)
    last = (await bench.ask(tiny, request))[-1]
    assert last.finish_reason == "tool_calls"
    assert {call.name for call in last.tool_calls} <= names
    for call in last.tool_calls:
        assert isinstance(json.loads(call.arguments), dict)


async def test_a_schema_beside_tools_leaves_the_model_the_choice(
    bench: Bench, tiny: Instance
) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    called = set()
    for seed in range(12):
        request = user("count", tools=(WEATHER, CLOCK), json_schema=schema, seed=seed)
        *_, last = chunks = await bench.ask(tiny, replace(request, temperature=2.0, max_tokens=200))
        called.add(last.finish_reason == "tool_calls")
        if last.finish_reason == "stop":
            jsonschema.validate(json.loads(text_of(chunks)), schema)
        for call in last.tool_calls:
            assert isinstance(json.loads(call.arguments), dict)
    assert called == {True, False}


async def test_a_model_without_a_place_for_tools_says_so(bench: Bench, tmp_path: Path) -> None:
    (path,) = write_gguf(tmp_path / "plain.gguf", chat_template="{{ messages[0].content }}")
    instance = await bench.loaded(path)
    with pytest.raises(InvalidRequest, match="no place for tools"):
        await bench.ask(instance, user("x", tools=(WEATHER,)))
    await bench.engines.unload(instance.id)


# Probabilities


async def test_options_do_not_matter_to_any_of_it(bench: Bench, demo_models: Path) -> None:
    path = demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf"
    instance = await bench.loaded(path, LoadOptions(flash_attention=False, batch_size=16))
    request = user("count", grammar='root ::= "no"', temperature=0, logprobs=1, repeat_penalty=1.5)
    assert text_of(await bench.ask(instance, request)) == "no"
    await bench.engines.unload(instance.id)
