"""Requests and templates made to hold an engine up: refused in words, and the engine goes on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.demo.model_writer import expected, write_gguf, write_mlx
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime.instance import supervisor
from modeldeck.core.runtime.process import engine_process
from modeldeck.core.schema import GenerateRequest, Instance, InstanceState, Message, Tool
from tests.support.bench import PATIENCE_S, Bench, about

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARTS = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% for part in m['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{{ '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TEMPLATES = {
    "parts": PARTS,
    "nothing": "{% if messages[0].content == 'hello' %}hello{% endif %}",
    "loops": "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3,
    "product": "{{ 'x' * 10000000000 }}",
    "doubling": "{% set n = namespace(s='x') %}{% for i in range(99) %}"
    "{% set n.s = n.s ~ n.s %}{% endfor %}",
    "strict": "{% if messages[0].role not in ('system', 'user') %}"
    "{{ raise_exception('unknown role') }}{% endif %}{% for m in messages %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}{{ '<|assistant|>' }}",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    """Engines for all tests of this module."""
    bench = Bench(Settings(context_length=512, unload_grace_s=0))
    await bench.engines.open()
    yield bench
    await bench.engines.close()


@pytest.fixture(params=["gguf", "mlx"])
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def written(folder: Path, format: str, template: str) -> Path:
    """The tiny model with another chat template."""
    source = TEMPLATES[template]
    if format == "gguf":
        return write_gguf(folder / f"{template}.gguf", chat_template=source)[0]
    write_mlx(folder / template, chat_template=source)
    return folder / template


@pytest_asyncio.fixture(loop_scope="module")
async def tiny(bench: Bench, demo_models: Path, format: str) -> AsyncIterator[Instance]:
    name = "tiny-GGUF/tiny-F16.gguf" if format == "gguf" else "tiny-mlx"
    instance = await bench.loaded(demo_models / name)
    yield instance
    assert await bench.answer(instance, "count") == expected("count")
    assert (bench.last(instance).restarts, bench.last(instance).pid) == (0, instance.pid)
    await bench.engines.unload(instance.id)


def user(text: str, **more: Any) -> GenerateRequest:
    return GenerateRequest(messages=(Message(role="user", content=text),), **more)


CIRCLE: dict[str, Any] = {
    "allOf": [{"$ref": "#/$defs/a"}],
    "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
}


async def test_schemas_and_grammars_that_go_round_in_circles(bench: Bench, tiny: Instance) -> None:
    tool = Tool(name="t", parameters={"type": "object", "properties": {"x": {"type": {}}}})
    for request, words in (
        (user("count", json_schema=CIRCLE), "leads back to itself"),
        (user("count", json_schema={"type": {}}), "type must be"),
        (user("count", json_schema={"type": "array", "minItems": None}), "minItems must be"),
        (user("count", tools=(tool,), tool_choice="required"), "type must be"),
        (user("count", grammar='root ::= a\na ::= b\nb ::= a "x"'), "begins with itself"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            await bench.ask(tiny, request)


async def test_what_is_nested_too_deeply_costs_no_instance(bench: Bench, tiny: Instance) -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"items": schema}
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        await bench.ask(tiny, user("count", json_schema=schema))


async def test_a_megabyte_of_text_is_counted_in_time(bench: Bench, tiny: Instance) -> None:
    for text in ("a" * 900_000, " " * 900_000, "\U0001f999" * 80_000):
        with pytest.raises(InvalidRequest, match="maximum context length is 512 tokens"):
            await bench.ask(tiny, user(text))


async def test_a_template_that_takes_parts_is_given_parts(
    bench: Bench, tmp_path: Path, format: str
) -> None:
    instance = await bench.loaded(written(tmp_path, format, "parts"))
    chunks = await bench.ask(instance, about("Please count for me"))
    assert "".join(chunk.text for chunk in chunks) == expected("count")
    assert (chunks[-1].prompt_tokens or 0) > 5
    await bench.engines.unload(instance.id)


async def test_a_conversation_that_comes_to_no_text_is_refused(
    bench: Bench, tmp_path: Path, format: str
) -> None:
    instance = await bench.loaded(written(tmp_path, format, "nothing"))
    with pytest.raises(InvalidRequest, match="writes nothing of this conversation"):
        await bench.answer(instance, "count")
    assert await bench.ask(instance, about("hello"))
    assert bench.last(instance).restarts == 0
    await bench.engines.unload(instance.id)


async def test_a_developer_s_message_breaks_no_strict_template(
    bench: Bench, tmp_path: Path, format: str
) -> None:
    instance = await bench.loaded(written(tmp_path, format, "strict"))
    turns = (Message(role="developer", content="Be brief."), Message(role="user", content="count"))
    chunks = await bench.ask(instance, GenerateRequest(messages=turns, temperature=0))
    assert "".join(chunk.text for chunk in chunks) == expected("count")
    await bench.engines.unload(instance.id)


@pytest.mark.parametrize("template", ["loops", "product", "doubling"])
async def test_a_template_without_an_end_costs_the_request_only(
    bench: Bench, tmp_path: Path, format: str, template: str
) -> None:
    instance = await bench.loaded(written(tmp_path, format, template))
    with pytest.raises(InvalidRequest, match="chat template"):
        await bench.answer(instance, "count")
    plain = GenerateRequest(prompt="count", temperature=0, max_tokens=3)
    assert await bench.ask(instance, plain)
    assert (bench.last(instance).restarts, bench.last(instance).pid) == (0, instance.pid)
    assert instance.pid is not None
    await bench.engines.sample()
    assert (bench.last(instance).peak_bytes or 0) < 2 << 30
    await bench.engines.unload(instance.id)


async def test_a_cancellation_is_heard_while_a_template_runs(
    bench: Bench, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than the template may run: it would be refused, were the cancellation not heard.
    monkeypatch.setattr(supervisor, "CANCEL_S", PATIENCE_S)
    monkeypatch.setattr(engine_process, "END_S", PATIENCE_S)
    instance = await bench.loaded(written(tmp_path, format, "loops"))
    asked = asyncio.create_task(bench.answer(instance, "count"))
    await bench.until(instance, lambda i: i.state is InstanceState.BUSY)
    async with asyncio.timeout(PATIENCE_S):
        receipt = await bench.engines.unload(instance.id)
        assert await asked == ""  # cut short, and no refusal
    assert receipt.process_gone
    source = f"engine:{instance.id}"
    assert not any(name == source and "does not end" in text for name, _, text in bench.lines)
