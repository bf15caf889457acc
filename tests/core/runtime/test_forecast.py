"""Forecasts hold for architectures that keep very different things in memory.

`tests/benchmarks/forecast.py` measures many more; these are the kinds.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_asyncio

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.errors import EngineFailed
from modeldeck.core.memory import probe
from modeldeck.core.runtime.engines.llama.graph import Graph, graph_of
from modeldeck.core.runtime.engines.llama.needs import EvaluationShape, besides_bytes, work_bytes
from modeldeck.core.runtime.planning.calibration import calibrate
from modeldeck.core.schema import LoadOptions
from modeldeck.core.schema.overhead import SHIPPED
from tests.support.architectures import Recipe, discover
from tests.support.bench import Bench
from tests.support.recorded import read, record, write

SMALL = LoadOptions(context_length=256)
RECORDED = read(Path(__file__).with_name("architectures.json"))
"""What `tests/benchmarks/forecast.py --record` found."""


def near(forecast: int, peak: int, slack: int) -> bool:
    """Whether a forecast is as good as promised."""
    return abs(forecast - peak) < max(0.03 * peak, slack)


async def complete(bench: Bench, architecture: str, path: Path, extra_tokens: int) -> Recipe:
    """A recorded recipe, and what llama.cpp has to say about it now."""
    recipe = replace(RECORDED[architecture].recipe(architecture), extra_tokens=extra_tokens)
    return await discover(recipe, path, lambda file: bench.engines.plan(file, SMALL))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(Settings())
    await bench.engines.open()
    yield bench
    await bench.engines.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def besides(bench: Bench) -> int:
    """What a process takes on this machine beyond what is shipped, as a core measures it."""
    measured = await calibrate("llama.cpp", bench.engines.plan, probe.process)
    return measured.base_bytes - SHIPPED["llama.cpp"].base_bytes


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("architecture", "options", "tokens"),
    [
        ("llama", LoadOptions(context_length=2048, flash_attention=False), 0),
        ("gemma3", LoadOptions(context_length=1024, kv_cache_type="q8_0"), 0),  # a sliding window
        ("deepseek2", LoadOptions(context_length=1024), 0),  # compressed keys, and experts
        ("mamba", LoadOptions(context_length=1024), 0),  # recurrent
        ("jamba", LoadOptions(context_length=1024, batch_size=128), 0),  # partly recurrent
        ("qwen35", LoadOptions(context_length=1024), 0),  # graphs that take more than the model
        ("bert", LoadOptions(context_length=1024), 10_000),  # reads only
    ],
)
async def test_the_peak_is_what_was_forecast(
    bench: Bench,
    besides: int,
    tmp_path: Path,
    architecture: str,
    options: LoadOptions,
    tokens: int,
) -> None:
    path = tmp_path / "model.gguf"
    recipe = await complete(bench, architecture, path, tokens)
    recipe.write(path, header_only=True)
    remote = await bench.engines.plan(path, options)
    forecast = await bench.engines.plan(recipe.write(path), options)
    assert remote == forecast
    instance = await bench.loaded(path, options)
    await bench.fill(instance)
    await bench.engines.sample()
    peak = bench.engines.instances[instance.id].peak_bytes
    await bench.engines.unload(instance.id)
    assert peak is not None
    assert near(forecast.total_bytes + besides, peak, 3_000_000)


@pytest.mark.asyncio(loop_scope="module")
async def test_every_architecture_is_forecast_as_it_was_measured(
    bench: Bench, tmp_path: Path
) -> None:
    options = LoadOptions(context_length=2048, threads=1)
    found: dict[str, int] = {}
    for architecture, known in RECORDED.items():

        async def plan(path: Path, architecture: str = architecture) -> None:
            found[architecture] = (await bench.engines.plan(path, options)).total_bytes

        # One question to llama.cpp, and more where it has changed its mind.
        await discover(known.recipe(architecture), tmp_path / "model.gguf", plan)
    peaks = {name: known.peak_bytes for name, known in RECORDED.items()}
    off = {name: found[name] - peaks[name] for name in peaks}
    assert {name: off[name] for name in off if not near(found[name], peaks[name], 3_000_000)} == {}
    assert len(peaks) > 140


@pytest.mark.asyncio(loop_scope="module")
async def test_a_recipe_is_found_by_asking_and_is_the_same_from_its_record(
    bench: Bench, tmp_path: Path
) -> None:
    recipe = Recipe(architecture="granite_swa")
    path = tmp_path / "model.gguf"
    await discover(recipe, path, lambda file: bench.engines.plan(file, SMALL))
    assert recipe.shapes["blk.3.attn_q.weight"] == (256, 256)
    write(tmp_path / "kept.json", {"granite_swa": record(recipe, 1)})
    assert read(tmp_path / "kept.json")["granite_swa"].recipe("granite_swa") == recipe


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("architecture", "why"),
    [("clip", "CLIP cannot be used"), ("gptj", "unsupported"), ("eagle3", "another model")],
)
async def test_what_is_no_language_model_is_told(
    bench: Bench, tmp_path: Path, architecture: str, why: str
) -> None:
    recipe, path = Recipe(architecture=architecture), tmp_path / "model.gguf"
    with pytest.raises(EngineFailed, match=why):
        await discover(recipe, path, lambda file: bench.engines.plan(file, SMALL))


def test_where_llama_cpp_does_not_tell_of_its_graphs_they_are_estimated() -> None:
    assert graph_of(SimpleNamespace(_lib=SimpleNamespace()), None, 1, 1) is None
    figures = EvaluationShape(
        cells=((2048, 4),),
        batch=512,
        heads=4,
        outputs=0,
        output_width=896,
        vocabulary=640,
        sequences=1,
        widest=512,
        weight_bits=16,
        flash=True,
        cache_wide=False,
    )
    told = Graph(work_bytes=1 << 19, bytes=418_256, table_bytes=20 << 10)
    estimate = besides_bytes(figures)
    assert besides_bytes(replace(figures, sequences=4)) - estimate == 3 * 12 * 640
    assert besides_bytes(replace(figures, graph=told)) == pytest.approx(estimate, rel=0.1)


@pytest.mark.parametrize(
    ("flash", "wide", "bits", "mib"),
    [(True, False, 16, 4), (False, False, 16, 64), (False, True, 32, 0), (True, False, 4.5, 2)],
)
def test_the_work_buffer_is_that_of_the_largest_product(
    flash: bool, wide: bool, bits: float, mib: int
) -> None:
    figures = EvaluationShape(
        cells=((4096, 3), (8192, 0)),
        batch=512,
        heads=16,
        outputs=0,
        output_width=1024,
        vocabulary=640,
        sequences=1,
        widest=4096,
        weight_bits=bits,
        flash=flash,
        cache_wide=wide,
    )
    assert work_bytes(figures) >> 20 == mib
