"""An answer that repeats itself without end, from the engine to its last piece."""

from __future__ import annotations

from pathlib import Path

import pytest

from modeldeck.core.config.config import RuntimeSettings
from tests.support.bench import Bench, about


@pytest.fixture
def settings() -> RuntimeSettings:
    return RuntimeSettings(context_length=4096, stop_loops=True)


@pytest.mark.parametrize("name", ["tiny-GGUF/tiny-F16.gguf", "tiny-mlx"])
async def test_the_last_piece_tells_that_it_was_cut_for_that(
    bench: Bench, demo_models: Path, name: str
) -> None:
    instance = await bench.loaded(demo_models / name)
    for topic, looped in (("loop", True), ("count", False)):
        async with bench.engines.generate(instance.id, about(topic)) as chunks:
            *_, last = [chunk async for chunk in chunks]
        assert (last.looped, last.finish_reason) == (looped, "length" if looped else "stop")
