"""Requests with images to a real engine process, as the core sends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.runtime import request_limits
from modeldeck.core.schema import Chunk, GenerateRequest, Instance, LoadOptions, TokenQuery
from tests.support.bench import PATIENCE_S, Bench, about, model
from tests.support.engine_talk import EngineTalk
from tests.support.engine_turns import LIKELIEST, Told, alike
from tests.support.pictures import image, picture, seen
from tests.support.projectors import SeeingModel, write_seeing_model

LONG = "The cat sat on the mat and looked at the moon for a long while. " * 2


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> SeeingModel:
    return write_seeing_model(tmp_path_factory.mktemp("models"), "qwen2vl")


@pytest.fixture
def settings() -> Settings:
    return Settings(context_length=2048)


@pytest.fixture
async def bench(settings: Settings) -> AsyncIterator[Bench]:
    bench = Bench(settings)
    await bench.engines.open()
    yield bench
    await bench.engines.close()


async def loaded(bench: Bench, seeing: SeeingModel, **options: Any) -> Instance:
    found = replace(model(seeing.path), projector=str(seeing.projector))
    options = {"parallel": 4, "threads": 1, **options}
    instance = await bench.engines.load(found, LoadOptions(**options))
    async with asyncio.timeout(PATIENCE_S):
        return await bench.engines.ready(instance.id)


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def told(chunks: list[Chunk]) -> Told:
    """An answer, to compare with another one that shared its batches with other requests."""
    return Told(text=text(chunks), logprobs=[one for chunk in chunks for one in chunk.logprobs])


async def test_a_large_image_passes_and_counts_in_the_usage(
    bench: Bench, seeing: SeeingModel
) -> None:
    instance = await loaded(bench, seeing)
    assert instance.media == ("image",)
    large = picture("red", (2500, 2500), "BMP")
    assert len(large) > 16 << 20, "more than a frame of text may have"
    asked = seen(LONG, image(picture("red", (300, 300)), 9), image(large, 20), max_tokens=4)
    query = TokenQuery(request=asked, count_only=True)
    count = (await bench.engines.tokenize(instance.id, query)).count
    assert count > 2000
    with pytest.raises(InvalidRequest, match="maximum context length is 2048"):
        await bench.ask(instance, asked)
    small = seen(LONG, image(picture("red", (300, 300)), 9), max_tokens=4)
    first = (await bench.ask(instance, small))[-1]
    second = (await bench.ask(instance, replace(small, max_tokens=5)))[-1]
    assert first.prompt_tokens == second.prompt_tokens
    assert first.cached_tokens == 0
    assert second.cached_tokens == (first.prompt_tokens or 0) - 1


async def test_a_request_that_is_cancelled_while_its_image_is_read_harms_no_other(
    bench: Bench, seeing: SeeingModel
) -> None:
    instance = await loaded(bench, seeing)
    stays = replace(about(LONG), max_tokens=200, logprobs=LIKELIEST)
    alone = told(await bench.ask(instance, stays))
    other = asyncio.create_task(bench.ask(instance, stays))
    reads = asyncio.Event()

    def note(**changes: Any) -> None:
        if changes.get("why", "").startswith("reads image"):
            assert changes["state"] == "prompt"
            reads.set()

    large = seen("a", image(picture("red", (900, 900))))
    async with bench.engines.generate(instance.id, large, note=note) as _:
        async with asyncio.timeout(PATIENCE_S):
            await reads.wait()  # from here on it is being encoded
    async with asyncio.timeout(PATIENCE_S):
        assert alike(told(await other), alone)
    again = await bench.ask(instance, seen("a", image(picture("red", (60, 60))), max_tokens=4))
    assert again[-1].finish_reason == "length"
    assert bench.last(instance).pid == instance.pid


async def test_a_count_of_images_is_cancelled_while_they_are_taken_in(
    bench: Bench, seeing: SeeingModel
) -> None:
    instance = await loaded(bench, seeing)
    file = picture("red", (1500, 1500), "PNG")
    images = [image(file + bytes(n)) for n in range(60)]  # each is taken in anew: seconds for all
    query = TokenQuery(request=seen("a", *images), count_only=True)
    writer = asyncio.create_task(bench.ask(instance, replace(about(LONG), max_tokens=200)))
    gone = asyncio.create_task(bench.engines.tokenize(instance.id, query))
    few = TokenQuery(request=seen("a", images[0]), count_only=True)
    await bench.engines.tokenize(instance.id, TokenQuery(text="a"))  # the engine has both by then
    gone.cancel()
    async with asyncio.timeout(PATIENCE_S):
        assert (await bench.engines.tokenize(instance.id, few)).count > 1000
        assert (await writer)[-1].completion_tokens
    assert gone.cancelled()
    assert bench.last(instance).pid == instance.pid


async def test_images_at_once_are_answered_as_alone(bench: Bench, seeing: SeeingModel) -> None:
    instance = await loaded(bench, seeing)
    requests = [
        seen(LONG + colour, image(picture(colour), 12), max_tokens=8, logprobs=LIKELIEST)
        for colour in ("red", "green", "white", "black", "yellow")
    ]
    alone = [told(await bench.ask(instance, request)) for request in requests]
    at_once = await asyncio.gather(*(bench.ask(instance, request) for request in requests))
    assert all(map(alike, map(told, at_once), alone))


async def test_an_engine_that_was_built_without_the_library_reads_text_and_warns(
    bench: Bench, seeing: SeeingModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTMD_CPP_LIB", str(tmp_path))  # where llama-cpp-python looks for it
    instance = await loaded(bench, seeing)
    assert instance.media == ()
    (warning,) = bench.last(instance).warnings
    assert "reads text only: llama-cpp-python was built without libmtmd" in warning
    assert await bench.answer(instance, "hello")
    with pytest.raises(InvalidRequest, match=r"messages\[0\].content\[1\] cannot be read.*libmtmd"):
        await bench.ask(instance, seen("a", image(picture())))


async def test_what_is_left_out_is_not_loaded(bench: Bench, seeing: SeeingModel) -> None:
    instance = await loaded(bench, seeing, vision=False)
    assert (instance.media, instance.warnings) == ((), ())
    with pytest.raises(InvalidRequest, match=r"loaded without its projector.*vision=false"):
        await bench.ask(instance, seen("a", image(picture())))


async def test_mlx_says_that_it_reads_text_only(demo_models: Path) -> None:
    async with EngineTalk.start("mlx", demo_models / "tiny-mlx") as talk:
        (number,) = talk.ask(seen("hello", image(picture())))
        await talk.end_of(number)
        message = talk.failed(number).error.message
        assert message.startswith("The image at messages[0].content[1] cannot be read: MLX")


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (seen("a", *[image(b"1")] * 101), "There are 101 images and recordings; 100 are the most"),
        (seen("a", image(b"")), "There is nothing in the image at messages[0].content[1]"),
        (seen("a", image(b"1", 2)), "stands beyond its message"),
        (seen("a", *[image(bytes(33 << 20))] * 2), "have 66 MiB; 64 are the most"),
    ],
    ids=["many", "empty", "beyond", "large"],
)
def test_images_are_limited_before_they_are_sent(request_: GenerateRequest, why: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request_limits.check_request(request_)
    assert why in str(caught.value)
