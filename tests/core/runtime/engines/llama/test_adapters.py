"""LoRA adapters and draft models, in both engines."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.demo.model_writer import expected, write_gguf, write_mlx
from modeldeck.core.errors import EngineFailed
from modeldeck.core.schema import GenerateRequest, Instance, KvCacheType, LoadOptions, Lora, Message
from tests.support.adapters import write_gguf_adapter, write_mlx_adapter
from tests.support.bench import Bench, about, model

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENGINES = ["llama.cpp", "mlx"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(Settings(context_length=1024))
    await bench.engines.open()
    yield bench
    await bench.engines.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with adapters, and with models of another shape and another vocabulary."""
    folder = tmp_path_factory.mktemp("made")
    write_gguf_adapter(folder / "adapter.gguf")
    write_gguf_adapter(folder / "stranger.gguf", architecture="qwen2")
    write_mlx_adapter(folder / "adapter-mlx")
    write_gguf(folder / "larger.gguf", size_bytes=8 << 20)
    write_mlx(folder / "larger-mlx", size_bytes=8 << 20)
    write_gguf(folder / "other.gguf", "Q8_0", extra_tokens=1000)
    write_mlx(folder / "other-mlx", extra_tokens=3)
    return folder


def tiny(engine: str, demo_models: Path) -> Path:
    gguf = demo_models / "tiny-GGUF" / "tiny-F16.gguf"
    return gguf if engine == "llama.cpp" else demo_models / "tiny-mlx"


def named(engine: str, folder: Path, name: str) -> Path:
    return folder / (f"{name}.gguf" if engine == "llama.cpp" else f"{name}-mlx")


async def loaded(
    bench: Bench, path: Path, options: LoadOptions, draft: Path | None = None
) -> Instance:
    instance = await bench.engines.load(
        model(path), options, draft=None if draft is None else str(draft)
    )
    return await bench.engines.ready(instance.id)


# Adapters


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_adapter_changes_the_answer_and_its_scale_how_much(
    bench: Bench, demo_models: Path, made: Path, engine: str
) -> None:
    adapter = str(named(engine, made, "adapter"))
    path = tiny(engine, demo_models)
    for scale, topic in ((1.0, "json"), (0.0, "count")):
        options = LoadOptions(loras=(Lora(path=adapter, scale=scale),))
        instance = await loaded(bench, path, options)
        assert await bench.answer(instance, "count") == expected(topic)
        assert await bench.answer(instance, "llama") == expected("llama")
        await bench.engines.unload(instance.id)


async def test_adapters_add_up(bench: Bench, demo_models: Path, made: Path, tmp_path: Path) -> None:
    further = write_gguf_adapter(tmp_path / "further.gguf", asked="llama", answered="think")
    loras = (Lora(path=str(made / "adapter.gguf")), Lora(path=str(further)))
    instance = await loaded(bench, tiny("llama.cpp", demo_models), LoadOptions(loras=loras))
    assert await bench.answer(instance, "count") == expected("json")
    assert await bench.answer(instance, "llama") == "done"  # after its thought
    await bench.engines.unload(instance.id)


async def test_adapters_are_in_the_plan(bench: Bench, demo_models: Path, made: Path) -> None:
    path, adapter = tiny("llama.cpp", demo_models), made / "adapter.gguf"
    plain = await bench.engines.plan(path, LoadOptions())
    options = LoadOptions(loras=(Lora(path=str(adapter)),))
    with_it = await bench.engines.plan(path, options)
    assert with_it.weights_bytes == plain.weights_bytes + adapter.stat().st_size


@pytest.mark.parametrize(
    ("engine", "name", "why"),
    [
        ("llama.cpp", "missing.gguf", "no adapter at"),
        ("llama.cpp", "stranger.gguf", "arch mismatch"),
        ("llama.cpp", "other.gguf", "to be 'adapter'"),
        ("mlx", "missing", "no adapter_config.json"),
        ("mlx", "other-mlx", "no adapter_config.json"),
    ],
)
async def test_what_is_no_adapter_of_this_model_is_refused_in_words(
    bench: Bench, demo_models: Path, made: Path, engine: str, name: str, why: str
) -> None:
    options = LoadOptions(loras=(Lora(path=str(made / name)),))
    with pytest.raises(EngineFailed, match=why):
        await loaded(bench, tiny(engine, demo_models), options)


async def test_an_adapter_of_another_shape_is_refused_in_words(bench: Bench, made: Path) -> None:
    options = LoadOptions(loras=(Lora(path=str(made / "adapter.gguf")),))
    with pytest.raises(EngineFailed, match="shape"):
        await loaded(bench, made / "larger.gguf", options)
    options = LoadOptions(loras=(Lora(path=str(made / "adapter-mlx")),))
    with pytest.raises(EngineFailed, match="refused the adapter"):
        await loaded(bench, made / "larger-mlx", options)


async def test_mlx_takes_one_adapter(bench: Bench, demo_models: Path, made: Path) -> None:
    lora = Lora(path=str(made / "adapter-mlx"))
    with pytest.raises(EngineFailed, match="one adapter"):
        await loaded(bench, demo_models / "tiny-mlx", LoadOptions(loras=(lora, lora)))


# Drafts

TALKS: list[GenerateRequest] = [
    about("count"),
    about("llama"),
    about("long"),
    GenerateRequest(messages=(Message(role="user", content="loop"),), temperature=0, max_tokens=33),
    GenerateRequest(
        messages=(Message(role="user", content="count"),), temperature=0, stop=(" six",)
    ),
    GenerateRequest(
        messages=(Message(role="user", content="loop"),),
        temperature=0,
        max_tokens=12,
        presence_penalty=0.5,
    ),
    about("count"),
]


@pytest.mark.parametrize(
    ("engine", "cache"), [("llama.cpp", None), ("llama.cpp", "q8_0"), ("mlx", "q8_0")]
)
async def test_a_draft_changes_no_answer(
    bench: Bench, demo_models: Path, made: Path, engine: str, cache: KvCacheType | None
) -> None:
    draft = tiny(engine, demo_models)
    # mlx is slow on a CPU: there the model guesses for itself, and says less.
    path = made / "larger.gguf" if engine == "llama.cpp" else draft
    talks = TALKS if engine == "llama.cpp" else TALKS[3:]
    plain = LoadOptions(kv_cache_type=cache)
    with_draft = LoadOptions(kv_cache_type=cache, draft_model="draft", draft_tokens=5)
    answers = []
    for options, guess in ((plain, None), (with_draft, draft)):
        instance = await loaded(bench, path, options, guess)
        found = []
        for request in talks:
            *chunks, last = await bench.ask(instance, request)
            text = "".join(chunk.text for chunk in chunks)
            found.append((text, last.finish_reason, last.completion_tokens, last.prompt_tokens))
        answers.append(found)
        await bench.engines.unload(instance.id)
    assert answers[0] == answers[1]
    assert answers[0][-1][0] == expected("count")


async def test_a_draft_that_guesses_wrong_changes_no_answer(
    bench: Bench, demo_models: Path, made: Path
) -> None:
    # With the adapter the model answers another topic than its draft guesses.
    options = LoadOptions(
        loras=(Lora(path=str(made / "adapter.gguf")),), draft_model="x", draft_tokens=3
    )
    path = tiny("llama.cpp", demo_models)
    instance = await loaded(bench, path, options, demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf")
    for _ in range(2):
        assert await bench.answer(instance, "count") == expected("json")
        assert await bench.answer(instance, "long") == expected("long")
    await bench.engines.unload(instance.id)


async def test_a_draft_obeys_grammars_and_tells_probabilities(
    bench: Bench, demo_models: Path, made: Path
) -> None:
    options = LoadOptions(draft_model="x")
    path = tiny("llama.cpp", demo_models)
    instance = await loaded(bench, made / "larger.gguf", options, path)
    request = GenerateRequest(
        messages=(Message(role="user", content="count"),),
        temperature=0,
        grammar='root ::= "One two" [a-z ]{0,12}',
        logprobs=1,
    )
    chunks = await bench.ask(instance, request)
    assert "".join(chunk.text for chunk in chunks) == expected("count")[:19]
    tokens = [logprob.token for chunk in chunks for logprob in chunk.logprobs]
    assert "".join(tokens) == expected("count")[:19]
    await bench.engines.unload(instance.id)


async def test_a_draft_is_in_the_plan(bench: Bench, demo_models: Path, made: Path) -> None:
    path, draft = made / "larger.gguf", tiny("llama.cpp", demo_models)
    plain = await bench.engines.plan(path, LoadOptions())
    both = await bench.engines.plan(path, LoadOptions(draft_model="x"), str(draft))
    alone = await bench.engines.plan(draft, LoadOptions())
    assert both.weights_bytes == plain.weights_bytes + alone.weights_bytes
    assert both.kv_bytes == plain.kv_bytes + alone.kv_bytes
    assert both.compute_bytes > plain.compute_bytes


@pytest.mark.parametrize(
    ("engine", "name", "why"),
    [
        ("llama.cpp", "other.gguf", "another vocabulary"),
        ("llama.cpp", "missing.gguf", "draft model: There is no file"),
        ("llama.cpp", "adapter.gguf", "draft model"),
        ("mlx", "other-mlx", "another vocabulary"),
        ("mlx", "missing", "draft model: There is no folder"),
    ],
)
async def test_a_draft_that_cannot_guess_is_refused_in_words(
    bench: Bench, demo_models: Path, made: Path, engine: str, name: str, why: str
) -> None:
    options = LoadOptions(draft_model="x")
    with pytest.raises(EngineFailed, match=why):
        await loaded(bench, tiny(engine, demo_models), options, made / name)
