"""Forecasts hold for architectures that keep very different things in memory.

`tests/benchmarks/forecast.py` measures many more; these are the kinds.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from core.config import Runtime as Settings
from core.demo.architectures import Recipe, discover
from core.demo.bench import Bench
from core.runtime.engines.llama_needs import Figures, work_bytes
from core.schema import GenerateRequest, LoadOptions

SMALL = LoadOptions(context_length=256)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(Settings())
    await bench.engines.open()
    yield bench
    await bench.engines.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("llama", LoadOptions(context_length=2048, flash_attention=False)),
        ("gemma3", LoadOptions(context_length=1024, kv_cache_type="q8_0")),  # a sliding window
        ("deepseek2", LoadOptions(context_length=1024)),  # compressed keys
        ("jamba", LoadOptions(context_length=1024, batch_size=128)),  # partly recurrent
    ],
)
async def test_the_peak_is_what_was_forecast(
    bench: Bench, tmp_path: Path, architecture: str, options: LoadOptions
) -> None:
    path = tmp_path / "model.gguf"
    recipe = Recipe(architecture=architecture)
    recipe = await discover(recipe, path, lambda file: bench.engines.plan(file, SMALL))
    recipe.write(path, header_only=True)
    remote = await bench.engines.plan(path, options)
    forecast = await bench.engines.plan(recipe.write(path), options)
    assert remote == forecast
    instance = await bench.loaded(path, options)
    length = instance.context_length or 0
    request = GenerateRequest(prompt="a" * (length - 5), max_tokens=4, temperature=0)
    await bench.ask(instance, request)
    await bench.engines.sample()
    peak = bench.engines.instances[instance.id].peak_bytes
    await bench.engines.unload(instance.id)
    assert peak is not None
    assert abs(forecast.total_bytes - peak) < max(0.03 * peak, 8 << 20)


@pytest.mark.parametrize(
    ("flash", "wide", "bits", "mib"),
    [(True, False, 16, 4), (False, False, 16, 64), (False, True, 32, 0), (True, False, 4.5, 2)],
)
def test_the_work_buffer_is_that_of_the_largest_product(
    flash: bool, wide: bool, bits: float, mib: int
) -> None:
    figures = Figures(
        cells=((4096, 3), (8192, 0)),
        batch=512,
        heads=16,
        outputs=0,
        width=1024,
        widest=4096,
        weight_bits=bits,
        flash=flash,
        cache_wide=wide,
    )
    assert work_bytes(figures) >> 20 == mib
