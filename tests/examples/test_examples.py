"""The examples do what they say, on a real core with real models."""

from __future__ import annotations

import asyncio
import runpy
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.client import Client
from modeldeck.core.demo.model_writer import expected
from modeldeck.core.schema.state import State
from tests.support.process import CoreProcess

HERE = Path(__file__).parent
TINY = "deck/tiny-GGUF:Q8_0"
EMBED = "deck/tiny-embed-GGUF:F16"


def example(name: str) -> dict[str, Any]:
    """What an example defines; its `main` is not run."""
    return runpy.run_path(str(HERE / f"{name}.py"))


def is_here(model_id: str, state: State) -> bool:
    """Whether a model is downloaded."""
    return state.models[model_id].downloaded


@pytest.fixture
async def client(shared_core: CoreProcess) -> AsyncIterator[Client]:
    async with Client(url=shared_core.url) as client:
        yield client


async def test_ask_then_tidy_up(
    client: Client, shared_core: CoreProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await example("ask")["ask"](client, TINY, "Please count.") == expected("count")
    assert "bytes came back" in capsys.readouterr().out
    # Loaded again, so that its files are in use.
    assert await example("structured")["structured"](client, TINY) in (True, False)
    await example("tidy")["main"](shared_core.url, TINY)
    told = capsys.readouterr().out
    assert "would free" in told
    assert "in use" in told or "loaded" in told
    model = await client.model(TINY)
    assert not model.downloaded


async def test_structured(client: Client) -> None:
    called = example("structured")
    for name in (TINY, EMBED):
        model, _ = await client.download(name)
        await client.feed.until(partial(is_here, model.id))
    assert isinstance((await called["called"](client, TINY))["place"], str)
    assert await called["near"](client, EMBED, "count one", "count one") == pytest.approx(1)


def test_an_error_is_words_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="No core answers"):
        asyncio.run(example("tidy")["main"]("http://127.0.0.1:9", TINY))
