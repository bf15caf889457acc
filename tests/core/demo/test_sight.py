"""The demo's model that sees: what it answers about pictures, through the whole of an engine."""

from __future__ import annotations

import doctest
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from modeldeck.core.config.config import RuntimeSettings
from modeldeck.core.demo import vocabulary
from modeldeck.core.demo.projector import QUESTION, Colour, picture
from modeldeck.core.demo.vocabulary import COLOURS, expected, seen
from modeldeck.core.schema import GenerateRequest, LoadOptions, Media, Message
from tests.support.bench import Bench, model


class Seeing:
    """The model, loaded."""

    def __init__(self, bench: Bench, instance_id: str) -> None:
        self._bench = bench
        self._id = instance_id

    async def answer(self, *messages: Message, temperature: float = 0.0) -> str:
        instance = self._bench.engines.instances[self._id]
        request = GenerateRequest(messages=messages, temperature=temperature, max_tokens=30, seed=1)
        return "".join(chunk.text for chunk in await self._bench.ask(instance, request))


@pytest.fixture
async def seeing(demo_models: Path) -> AsyncIterator[Seeing]:
    folder = demo_models / "tiny-see-GGUF"
    bench = Bench(RuntimeSettings())
    await bench.engines.open()
    try:
        found = replace(
            model(folder / "tiny-see-F16.gguf"),
            projector=str(folder / "mmproj-tiny-see-F32.gguf"),
        )
        instance = await bench.engines.load(found, LoadOptions(context_length=2048))
        instance = await bench.engines.ready(instance.id)
        assert instance.media == ("image",)
        yield Seeing(bench, instance.id)
    finally:
        await bench.engines.close()


def asked(*pictures: bytes, text: str = QUESTION) -> Message:
    media = tuple(Media(kind="image", data=data, at=0) for data in pictures)
    return Message(role="user", content=text, media=media)


async def test_it_tells_the_colour_and_counts(seeing: Seeing) -> None:
    colours: tuple[Colour, ...] = ("red", "green", "blue")
    assert colours == COLOURS
    shown = [(colours[count % 3], count) for count in range(10)] + [("blue", 1), ("red", 1)]
    for colour, count in shown:
        data = picture(colour, count, seed=count)
        assert await seeing.answer(asked(data)) == seen(colour, count)


async def test_neither_words_nor_size_nor_chance_change_what_it_sees(seeing: Seeing) -> None:
    green = picture("green", 5)
    assert await seeing.answer(asked(green, text="count " * 300)) == "5 green squares"
    assert await seeing.answer(asked(green), temperature=1.0) == "5 green squares"
    assert await seeing.answer(asked(picture("blue", 7, cell=200))) == "7 blue squares"
    file = io.BytesIO()
    Image.open(io.BytesIO(green)).resize((97, 97)).convert("RGB").save(file, "JPEG", quality=90)
    assert await seeing.answer(asked(file.getvalue())) == "5 green squares"


async def test_all_pictures_of_a_conversation_count(seeing: Seeing) -> None:
    one, two = picture("red", 3), picture("red", 2)
    assert await seeing.answer(asked(one, two)) == "5 red squares"
    told = Message(role="assistant", content="3 red squares")
    assert await seeing.answer(asked(one), told, asked(two, text="And now?")) == "5 red squares"
    assert await seeing.answer(asked(one), told, asked(text="And now?")) == "3 red squares"


async def test_without_a_picture_it_answers_as_the_others(seeing: Seeing) -> None:
    assert await seeing.answer(asked(text="Please count.")) == expected("count")
    assert await seeing.answer(asked(text="3 red squares")) == expected("default")


def test_a_picture_is_the_same_on_every_run() -> None:
    assert picture("red", 3) == picture("red", 3) != picture("red", 3, seed=1)
    assert Image.open(io.BytesIO(picture("red", 3, cell=10))).size == (40, 40)


def test_docs() -> None:
    assert not doctest.testmod(vocabulary).failed
