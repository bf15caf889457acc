"""Real llama.cpp on the tiny models: loading, answering, unloading."""

import asyncio
from pathlib import Path

import pytest

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.demo.model_writer import expected
from modeldeck.core.errors import Busy, Cancelled, Conflict, InvalidRequest, NotFound
from modeldeck.core.schema import GenerateRequest, InstanceState, LoadOptions, Message
from tests.support.bench import PATIENCE_S, Bench, about, alive, model

S = InstanceState
LONG = 16384
"""A context that an answer without an end does not fill before a test goes on."""


@pytest.mark.parametrize("name", ["tiny-GGUF/tiny-Q8_0.gguf", "padded-GGUF/padded-F16.gguf"])
async def test_other_quantizations_and_sizes_answer_the_same(
    bench: Bench, demo_models: Path, name: str
) -> None:
    instance = await bench.loaded(demo_models / name)
    assert await bench.answer(instance, "count") == expected("count")


async def test_a_split_model_is_loaded_from_its_first_part(bench: Bench, demo_models: Path) -> None:
    (first,) = (demo_models / "tiny-split-GGUF" / "F16").glob("*-00001-of-*.gguf")
    instance = await bench.loaded(first)
    assert await bench.answer(instance, "count") == expected("count")


@pytest.mark.parametrize(
    "options",
    [
        LoadOptions(flash_attention=False, mmap=False),
        LoadOptions(kv_cache_type="q8_0", batch_size=16),
        LoadOptions(context_length=300, threads=1, mlock=False),
    ],
)
async def test_load_options_change_how_not_what(
    bench: Bench, tiny: Path, options: LoadOptions
) -> None:
    instance = await bench.loaded(tiny, options)
    assert await bench.answer(instance, "Please count " + "bla " * 60) == expected("count")


async def test_a_template_that_refuses_is_told(bench: Bench, tiny: Path, tmp_path: Path) -> None:
    from modeldeck.core.demo.model_writer import write_gguf

    template = "{{ raise_exception('only one message') if messages|length > 1 else 'x' }}"
    (path,) = write_gguf(tmp_path / "strict.gguf", chat_template=template)
    instance = await bench.loaded(path)
    turns = (Message(role="user", content="a"), Message(role="user", content="b"))
    with pytest.raises(InvalidRequest, match="only one message"):
        await bench.ask(instance, GenerateRequest(messages=turns))
    (broken,) = write_gguf(tmp_path / "broken.gguf", chat_template="{% for %}")
    instance = await bench.loaded(broken)
    with pytest.raises(InvalidRequest, match="template"):
        await bench.answer(instance, "a")
    assert await bench.ask(instance, GenerateRequest(prompt="One", temperature=0, max_tokens=1))


async def test_a_model_without_a_template_is_asked_in_chatml_and_that_is_logged(
    bench: Bench, tmp_path: Path
) -> None:
    from modeldeck.core.demo.model_writer import write_gguf

    (path,) = write_gguf(tmp_path / "bare.gguf", chat_template=None)
    instance = await bench.loaded(path)
    assert (await bench.ask(instance, about("count")))[-1].finish_reason in ("stop", "length")
    source = f"engine:{instance.id}"
    assert (source, "warning", "the model brings no chat template; using ChatML") in bench.lines


async def test_embeddings_are_near_for_near_texts(bench: Bench, demo_models: Path) -> None:
    path = demo_models / "tiny-embed-GGUF" / "tiny-embed-F16.gguf"
    instance = await bench.loaded(path)
    vectors = await bench.engines.embed(instance.id, ["count one", "count two", "zzz"])
    assert [vector.tokens for vector in vectors] == [5, 2, 3]
    one, near, far = (vector.values for vector in vectors)

    def cosine(a: tuple[float, ...], b: tuple[float, ...]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert cosine(one, one) == pytest.approx(1, abs=1e-6)
    assert cosine(one, near) > cosine(one, far)
    with pytest.raises(InvalidRequest, match="embeddings"):
        await bench.answer(instance, "count")


async def test_a_long_text_is_embedded_piece_by_piece_where_its_last_token_stands_for_it(
    bench: Bench, tmp_path: Path
) -> None:
    from modeldeck.core.demo.model_writer import write_gguf

    (path,) = write_gguf(tmp_path / "last.gguf", pooling=3, chat_template=None)
    text = "count " * 200
    found = []
    for batch in (1024, 64):
        instance = await bench.loaded(path, LoadOptions(context_length=1024, batch_size=batch))
        found += await bench.engines.embed(instance.id, [text])
        with pytest.raises(InvalidRequest, match="1 to 1024 tokens"):
            await bench.engines.embed(instance.id, [text * 9])
        await bench.engines.unload(instance.id)
    whole, pieces = found
    assert whole.tokens == pieces.tokens > 64
    assert pieces.values == pytest.approx(whole.values, abs=5e-3)


async def test_a_text_model_gives_no_embeddings(bench: Bench, tiny: Path) -> None:
    instance = await bench.loaded(tiny)
    with pytest.raises(InvalidRequest, match="loaded for text"):
        await bench.engines.embed(instance.id, ["x"])
    assert await bench.answer(instance, "count") == expected("count")


# Life


async def test_a_life_in_records(bench: Bench, tiny: Path) -> None:
    accepted = await bench.engines.load(model(tiny), LoadOptions())
    assert (accepted.state, accepted.pid) == (S.STARTING, None)
    ready = await bench.engines.ready(accepted.id)
    assert ready.pid is not None
    assert alive(ready.pid)
    assert (ready.context_length, ready.progress, ready.idle_s) == (2048, 1.0, 0.0)
    assert ready.load_s
    stages = {change.stage for change in bench.changes}
    assert {"starting engine", "reading weights", "preparing context", ""} <= stages
    await bench.answer(ready, "count")
    await bench.engines.sample()
    sampled = bench.engines.instances[ready.id]
    assert sampled.measured_bytes
    assert sampled.private_bytes
    assert sampled.peak_bytes
    assert sampled.peak_bytes >= sampled.private_bytes
    assert sampled.idle_s is not None
    receipt = await bench.engines.unload(ready.id)
    assert receipt.process_gone
    assert receipt.before_bytes
    assert (receipt.after_bytes, receipt.freed_bytes) == (0, receipt.before_bytes)
    assert not alive(ready.pid)
    assert bench.states(accepted) == [S.STARTING, S.READY, S.BUSY, S.READY, S.STOPPING, S.STOPPED]
    assert bench.engines.instances == {}


async def test_a_model_is_loaded_once(bench: Bench, tiny: Path) -> None:
    first = await bench.engines.load(model(tiny), LoadOptions())
    again = await bench.engines.load(model(tiny), LoadOptions(context_length=512))
    assert again.id == first.id
    await bench.engines.ready(first.id)
    assert (await bench.engines.load(model(tiny), LoadOptions())).id == first.id
    assert len(bench.engines.instances) == 1


async def test_several_models_at_once_answer_at_the_same_time(
    bench: Bench, demo_models: Path
) -> None:
    paths = sorted((demo_models / "tiny-GGUF").glob("*.gguf"))
    instances = await asyncio.gather(*(bench.loaded(path) for path in paths))
    answers = await asyncio.gather(*(bench.answer(i, "count") for i in instances))
    assert answers == [expected("count")] * len(paths)
    receipts = await asyncio.gather(*(bench.engines.unload(i.id) for i in instances))
    assert all(receipt.process_gone for receipt in receipts)


async def test_requests_wait_for_each_other_and_stay_apart(bench: Bench, tiny: Path) -> None:
    instance = await bench.engines.load(model(tiny), LoadOptions())  # they may wait for the load
    topics = ["count", "long", "json", "llama", "count"]
    answers = await asyncio.gather(*(bench.answer(instance, topic) for topic in topics))
    assert answers == [expected(topic) for topic in topics]


async def test_a_slow_reader_gets_everything(bench: Bench, tiny: Path) -> None:
    instance = await bench.loaded(tiny)
    async with bench.engines.generate(instance.id, about("long")) as chunks:
        # Nothing is read until the engine has said all that is taken from it without a reader.
        await bench.until(instance, lambda i: i.state is S.BUSY)
        text = "".join([chunk.text async for chunk in chunks])
    assert text == expected("long")


async def test_a_cancelled_task_cancels_its_request(bench: Bench, tiny: Path) -> None:
    instance = await bench.loaded(tiny, LoadOptions(context_length=LONG))
    task = asyncio.create_task(bench.answer(instance, "loop"))
    await bench.until(instance, lambda i: i.state is S.BUSY)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await bench.answer(instance, "count") == expected("count")


@pytest.mark.parametrize("settings", [Settings(queue_length=2)])
async def test_too_many_requests_are_refused_and_a_place_that_is_left_is_taken(
    bench: Bench, tiny: Path
) -> None:
    instance = await bench.loaded(tiny)
    async with bench.engines.generate(instance.id, about("loop")) as running:
        await anext(running)
        first = asyncio.create_task(bench.answer(instance, "count"))
        second = asyncio.create_task(bench.answer(instance, "json"))
        await bench.until(instance, lambda i: i.requests == 3)
        with pytest.raises(Busy):
            await bench.answer(instance, "llama")
        first.cancel()
        await bench.until(instance, lambda i: i.requests == 2)
        third = asyncio.create_task(bench.answer(instance, "llama"))
        await bench.until(instance, lambda i: i.requests == 3)
    assert (await second, await third) == (expected("json"), expected("llama"))


async def test_unloading_lets_a_running_answer_end(bench: Bench, tiny: Path) -> None:
    instance = await bench.loaded(tiny)
    async with bench.engines.generate(instance.id, about("long")) as chunks:
        text = (await anext(chunks)).text
        unloading = asyncio.create_task(bench.engines.unload(instance.id))
        await bench.until(instance, lambda i: i.state is S.STOPPING)
        with pytest.raises(Conflict):
            await bench.answer(instance, "count")
        text += "".join([chunk.text async for chunk in chunks])
    assert text == expected("long")
    assert (await unloading).process_gone


@pytest.mark.parametrize("settings", [Settings(context_length=LONG, unload_grace_s=0)])
async def test_unloading_cancels_an_answer_that_does_not_end_and_refuses_what_waits(
    bench: Bench, tiny: Path
) -> None:
    instance = await bench.loaded(tiny)
    running = asyncio.create_task(bench.ask(instance, about("loop")))
    await bench.until(instance, lambda i: i.state is S.BUSY)
    waiting = asyncio.create_task(bench.answer(instance, "count"))
    await bench.until(instance, lambda i: i.requests == 2)
    receipt = await bench.engines.unload(instance.id)
    assert receipt.process_gone
    with pytest.raises(Conflict):
        await waiting
    assert (await running)[-1].finish_reason == "cancelled"


async def test_unloading_twice_gives_one_receipt(bench: Bench, tiny: Path) -> None:
    instance = await bench.loaded(tiny)
    one, two = await asyncio.gather(*(bench.engines.unload(instance.id) for _ in range(2)))
    assert one == two
    with pytest.raises(NotFound):
        await bench.engines.unload(instance.id)


async def test_unloading_goes_on_when_nobody_waits_for_it(bench: Bench, tiny: Path) -> None:
    instance = await bench.loaded(tiny)
    unloading = asyncio.create_task(bench.engines.unload(instance.id))
    await bench.until(instance, lambda i: i.state is S.STOPPING)
    unloading.cancel()
    await bench.until(instance, lambda i: i.state is S.STOPPED)


@pytest.mark.parametrize("hold", [False, True], ids=["before it starts", "while it loads"])
async def test_a_load_is_cancelled_at_once(bench: Bench, tiny: Path, hold: bool) -> None:
    instance = await bench.engines.load(model(tiny), LoadOptions())
    waiting = asyncio.create_task(bench.engines.ready(instance.id))
    pid = None
    if hold:
        pid = (await bench.until(instance, lambda i: i.pid is not None)).pid
    receipt = await bench.engines.unload(instance.id)
    assert receipt.process_gone
    with pytest.raises(Cancelled):
        await waiting
    assert bench.states(instance) == [S.STARTING, S.STOPPING, S.STOPPED]
    assert pid is None or not alive(pid)
    assert await bench.answer(await bench.loaded(tiny), "count") == expected("count")


async def test_an_idle_instance_is_unloaded(bench: Bench, tiny: Path) -> None:
    instance = await bench.loaded(tiny, LoadOptions(idle_ttl_s=0.05))
    await bench.until(instance, lambda i: i.state is S.STOPPED)
    assert instance.pid is not None
    assert not alive(instance.pid)
    assert bench.engines.instances == {}


async def test_the_idle_time_of_a_live_instance_counts_from_its_change(
    bench: Bench, tiny: Path
) -> None:
    instance = await bench.loaded(tiny)
    told = bench.engines.change(instance.id, {"pinned": True, "idle_ttl_s": 3600})
    assert (told.options.pinned, told.options.idle_ttl_s) == (True, 3600)
    assert bench.last(instance) == told
    with pytest.raises(InvalidRequest):
        bench.engines.change(instance.id, {"idle_ttl_s": -1})
    bench.engines.change(instance.id, {"idle_ttl_s": 0.05})
    assert await bench.answer(instance, "count") == expected("count"), "a pin holds it"
    bench.engines.change(instance.id, {"pinned": False})
    await bench.until(instance, lambda i: i.state is S.STOPPED)
    with pytest.raises(NotFound):
        bench.engines.change(instance.id, {"pinned": False})


async def test_a_busy_instance_is_not_idle(bench: Bench, tiny: Path) -> None:
    instance = await bench.loaded(tiny, LoadOptions(idle_ttl_s=0.2, context_length=4096))
    chunks = await bench.ask(
        instance, GenerateRequest(prompt="Please loop", temperature=0, max_tokens=3000)
    )
    assert chunks[-1].finish_reason in ("length", "stop")
    await bench.until(instance, lambda i: i.state is S.STOPPED)


async def test_closing_ends_every_engine_and_takes_no_more(
    bench: Bench, tiny: Path, demo_models: Path
) -> None:
    from modeldeck.core.errors import ShuttingDown

    first = await bench.loaded(tiny)
    second = await bench.loaded(
        demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf", LoadOptions(context_length=LONG)
    )
    running = asyncio.create_task(bench.ask(second, about("loop")))
    await bench.until(second, lambda i: i.state is S.BUSY)
    async with asyncio.timeout(PATIENCE_S):
        await bench.engines.close()
    assert first.pid is not None
    assert second.pid is not None
    assert not alive(first.pid)
    assert not alive(second.pid)
    assert (await running)[-1].finish_reason == "cancelled"
    with pytest.raises(ShuttingDown):
        await bench.engines.load(model(tiny), LoadOptions())


async def test_unknown_instances_are_not_found(bench: Bench) -> None:
    for call in (bench.engines.ready, bench.engines.unload, bench.engines.remove):
        with pytest.raises(NotFound):
            await call("nobody")
    with pytest.raises(NotFound):
        bench.engines.log("nobody")
    with pytest.raises(NotFound):
        async with bench.engines.generate("nobody", about("x")):
            pass
