"""Files that are not the model that they seem to be are called what they are."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modeldeck.core.config.config import Config, HubSettings, RuntimeSettings
from modeldeck.core.config.paths import locate
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.model_writer import write_mlx
from modeldeck.core.demo.repository import demo_repo
from modeldeck.core.errors import Corrupt, DeckError, EngineFailed
from modeldeck.core.formats import gguf_parser, mlx_folder
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.llama.log import EngineLog, failure
from modeldeck.core.schema import ModelSeed
from modeldeck.core.service.deck import Deck
from tests.support.bench import PATIENCE_S

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 12345\n"
)


def image_model() -> bytes:
    """The header of an image model in GGUF, as ComfyUI's tools write it, and its one tensor."""
    key, value = b"general.architecture", b"flux"
    text = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(value)) + value
    name = b"double_blocks.0.img_attn.proj.weight"
    tensor = struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, 32, 0, 0)
    data = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + text + tensor
    return data + bytes(-len(data) % 32) + bytes(128)


@pytest.fixture
async def deck(home: Path, tmp_path: Path) -> AsyncIterator[Deck]:
    """A deck before a hub with an image model and a pointer that was uploaded as the model."""
    images, pointers = tmp_path / "images", tmp_path / "pointers"
    for folder, data in ((images, image_model()), (pointers, POINTER)):
        folder.mkdir()
        (folder / "m-F16.gguf").write_bytes(data)
    repos = (demo_repo("deck/flux-GGUF", images), demo_repo("deck/pointer-GGUF", pointers))
    with DemoHub.in_thread(repos) as hub:
        config = Config(hub=HubSettings(endpoint=hub.url), runtime=RuntimeSettings(calibrate=False))
        async with Deck(locate(), config) as deck:
            with deck.feed.subscribe() as news:
                async with asyncio.timeout(PATIENCE_S):
                    async for _ in news.batches():
                        if deck.state.runtimes:
                            break
            yield deck


async def test_an_image_model_is_known_before_it_is_fetched(deck: Deck) -> None:
    fit = await deck.models.fit("deck/flux-GGUF:F16")
    assert fit.verdict == "refused"
    assert fit.reason is not None
    assert "makes images or video (flux)" in fit.reason
    assert "ComfyUI" in fit.reason


async def test_a_pointer_on_the_hub_is_known_before_it_is_fetched(deck: Deck) -> None:
    fit = await deck.models.fit("deck/pointer-GGUF:F16")
    assert fit.reason is not None
    assert "Git LFS pointer" in fit.reason
    assert "git lfs pull" in fit.reason


async def test_an_image_model_on_disk_is_called_one(deck: Deck, tmp_path: Path) -> None:
    path = tmp_path / "flux.gguf"
    await asyncio.to_thread(path.write_bytes, image_model())
    model = await deck.models.create(ModelSeed(unique=str(path)), "test")
    assert "makes images" in str((await deck.models.fit(model.id)).reason)


def test_what_llama_cpp_says_of_an_image_model_is_put_into_words() -> None:
    log = EngineLog(Flag())
    for name, told in (("flux", "makes images or video (flux)"), ("new", "architecture: 'new'")):
        log.lines[:] = [("error", f"error loading model: unknown model architecture: '{name}'")]
        error = failure("llama.cpp refused the model", log)
        assert isinstance(error, EngineFailed)
        assert told in error.message
        assert error.remedy
        assert error.details


async def test_a_pointer_in_a_clone_is_called_one(deck: Deck, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    await asyncio.to_thread(path.write_bytes, POINTER)
    with pytest.raises(Corrupt, match="Git LFS pointer") as refused:
        gguf_parser.read(path)
    assert "git lfs pull" in refused.value.remedy
    with pytest.raises(DeckError, match="Git LFS pointer"):
        await deck.models.create(ModelSeed(unique=str(path)), "test")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", mlx_folder.TOKENIZER_CONFIG])
def test_a_pointer_in_a_clone_of_an_mlx_model_is_called_one(tmp_path: Path, name: str) -> None:
    write_mlx(tmp_path)
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(Corrupt, match="Git LFS pointer"):
        mlx_folder.read_folder(tmp_path)
