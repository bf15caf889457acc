"""What the catalog shows of newer files on the Hub, of benchmarks, and of other tools' models."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.schema import Host, Instance, InstanceState, Model, ModelSpeed
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.catalog.columns import speed_words
from modeldeck.tui.dashboard.screens.catalog.rows import RowContext, standing
from tests.support.ollama_store import write_model
from tests.support.process import CoreProcess
from tests.tui.dashboard.conftest import opens
from tests.tui.dashboard.screens.steps import TINY, downloaded, fetched, go, loaded, model

OLLAMA = "qwen2.5-coder:7b"


@pytest.fixture
def republished(hub: DemoHub) -> Iterator[Any]:
    """Publishes the repository of tiny with another file; as it was, at the end."""
    before = next(each for each in hub.repositories if each.repo == "deck/tiny-GGUF")
    other = before.file("tiny-F16.gguf")
    assert other is not None
    newer = tuple(
        replace(other, path=f.path) if f.path == "tiny-Q8_0.gguf" else f for f in before.files
    )
    last = "2026-11-27T09:00:00.000Z"
    yield lambda: hub.publish(replace(before, revision="b2" * 20, files=newer, last_modified=last))
    hub.publish(before)


async def test_newer_files_are_shown_until_they_are_fetched(screen: Any, republished: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await go(at, TINY)
        republished()
        await at.press(*":check updates", "enter")
        await at.sees("downloaded↑", "↑ new files 27 Nov · d gets them")
        await at.until(lambda: any("newer files of 1 of 1" in m.text for m in at.app.messages))
        await at.press("d")
        await at.until(lambda: "downloaded↑" not in at.text and "new files" not in at.text)
        # Neither is drawn while they are downloaded.
        await at.until(lambda: (found := model(at)) is not None and found.revision == "b2" * 20)
        await at.until(lambda: downloaded(at))


async def test_a_benchmark_asks_before_it_loads_and_shows_its_figures(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await go(at, TINY)
        await at.press("b")
        await at.sees("is not loaded. Load it for the benchmark?", "n esc leave it unloaded")
        await at.press("y")
        await at.sees(" tok/s, prompt ")
        await at.until(lambda: at.state.bench is not None and at.state.bench.result is not None)


async def test_files_of_ollama_are_not_deleted(demo_models: Path, hub: DemoHub) -> None:
    with tempfile.TemporaryDirectory(prefix="md-") as folder:
        weights = demo_models / "tiny-GGUF" / "tiny-Q8_0.gguf"
        store = Path(folder) / "ollama"
        blob = write_model(store, "registry.ollama.ai/library/qwen2.5-coder/7b", weights)
        own = {
            "MODELDECK_HOME": f"{folder}/home",
            "HF_HOME": f"{folder}/hf",
            "HF_ENDPOINT": hub.url,
            "OLLAMA_MODELS": str(store),
            "MODELDECK_CATALOG_ALSO_FROM": "ollama",
        }
        with CoreProcess({**os.environ, **own}) as core:
            async with opens(core)("catalog") as at:
                await go(at, OLLAMA)
                await at.sees("from ollama")
                await at.press("x")
                words = f"belong to Ollama: `ollama rm {OLLAMA}` deletes"
                await at.until(lambda: any(words in m.text for m in at.app.messages))
                await at.press("d")
                await at.until(lambda: any("already (Ollama)" in m.text for m in at.app.messages))
                await at.press("v")
                await at.until(lambda: any("1 file verified" in m.text for m in at.app.messages))
                await at.press("l")
                await at.until(lambda: len(loaded(at)) == 1)
        assert blob.read_bytes() == weights.read_bytes()


def test_a_benchmark_outranks_the_last_answer() -> None:
    listed = Model(id="m", unique="m", name="m", format="gguf", source="cache")
    instance = Instance(
        id="i", model_id="m", unique="m", state=InstanceState.READY, engine="llama.cpp",
        tokens_per_s=31.04,
    )  # fmt: skip
    host = Host(id="h", name="h", version="0", started_at="", pid=1, platform="linux")
    now = standing(State(host=host, instances={"i": instance}), {})
    assert speed_words(listed, RowContext()) == ""
    assert speed_words(listed, now) == "~31.0"
    speed = ModelSpeed(
        tokens_per_s=28.0, prompt_tokens_per_s=None, context_length=512, revision=None, at=""
    )
    assert speed_words(replace(listed, measured=speed), now) == "28.0"
