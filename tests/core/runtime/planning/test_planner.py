"""llama.cpp's own plan: the same from a file, from its header, and in a real load."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from modeldeck.core.demo.model_writer import write_gguf
from modeldeck.core.errors import EngineFailed, ShuttingDown, StorageFailed
from modeldeck.core.formats import gguf_parser
from modeldeck.core.runtime.engines.llama.log import buffers
from modeldeck.core.runtime.engines.llama.needs import CELL_BYTES
from modeldeck.core.runtime.planning import planner
from modeldeck.core.runtime.planning.planner import HeaderFile
from modeldeck.core.schema import Forecast, LoadOptions
from tests.support.bench import PATIENCE_S, Bench, alive

LOGGED = 1 << 13
"""llama.cpp's log, which a plan is read from, tells hundredths of a MiB."""

OPTIONS = [
    LoadOptions(),
    LoadOptions(context_length=512),
    LoadOptions(context_length=4096, kv_cache_type="q8_0"),
    LoadOptions(context_length=1000, kv_cache_type="f32", flash_attention=False),
    LoadOptions(context_length=4096, batch_size=64, mmap=False),
]


def headers(*paths: Path) -> tuple[HeaderFile, ...]:
    """What is known of files that are not downloaded: their beginnings and sizes."""
    found = []
    for path in paths:
        data = path.read_bytes()[: gguf_parser.read(path).data_offset]
        found.append(HeaderFile(name=path.name, key=path.name, data=data, size=path.stat().st_size))
    return tuple(found)


@pytest.mark.parametrize("options", OPTIONS)
async def test_a_plan_says_what_a_load_takes(
    bench: Bench, tiny: Path, options: LoadOptions
) -> None:
    forecast = await bench.engines.plan(tiny, options)
    instance = await bench.loaded(tiny, options)
    taken = buffers([("debug", line) for line in bench.engines.log(instance.id)])
    assert forecast.exact
    assert forecast.kv_bytes == taken.kv_bytes > 0
    # Besides its buffers, llama.cpp takes a work buffer, and memory for each token's place.
    besides = forecast.compute_bytes - taken.compute_bytes - taken.output_bytes
    cells = CELL_BYTES * (instance.context_length or 0)
    assert cells - 2 * LOGGED <= besides <= cells + 2 * LOGGED + (17 << 20)
    assert forecast.weights_bytes == gguf_parser.read(tiny).weights_bytes
    assert forecast.total_bytes == sum(
        (
            forecast.weights_bytes,
            forecast.kv_bytes,
            forecast.compute_bytes,
            forecast.overhead_bytes,
        )
    )


async def test_the_measured_peak_stays_near_the_forecast(bench: Bench, demo_models: Path) -> None:
    path = demo_models / "padded-GGUF" / "padded-F16.gguf"
    options = LoadOptions(context_length=1024, mmap=False)
    forecast = await bench.engines.plan(path, options)
    instance = await bench.loaded(path, options)
    await bench.answer(instance, "count " + "bla " * 200)
    await bench.engines.sample()
    peak = bench.engines.instances[instance.id].peak_bytes
    assert peak is not None
    assert abs(peak - forecast.total_bytes) < 16 << 20


@pytest.mark.parametrize("options", OPTIONS)
async def test_the_header_alone_gives_the_same_plan(
    bench: Bench, demo_models: Path, options: LoadOptions
) -> None:
    path = demo_models / "padded-GGUF" / "padded-F16.gguf"
    assert await bench.engines.plan(headers(path), options) == await bench.engines.plan(
        path, options
    )


async def test_a_split_model_is_planned_from_all_its_headers(
    bench: Bench, demo_models: Path
) -> None:
    parts = sorted((demo_models / "tiny-split-GGUF" / "F16").glob("*.gguf"))
    whole = await bench.engines.plan(parts[0], LoadOptions())
    assert await bench.engines.plan(headers(*parts), LoadOptions()) == whole
    with pytest.raises(EngineFailed):
        await bench.engines.plan(headers(parts[0]), LoadOptions())


async def test_the_context_asked_for_is_lowered_to_the_setting_and_the_model(
    bench: Bench, tiny: Path
) -> None:
    unasked = await bench.engines.plan(tiny, LoadOptions())
    assert unasked == await bench.engines.plan(tiny, LoadOptions(context_length=2048))
    more = await bench.engines.plan(tiny, LoadOptions(context_length=8192))
    assert more.kv_bytes == pytest.approx(4 * unasked.kv_bytes, abs=4 * LOGGED)


async def test_an_embedding_model_is_planned(bench: Bench, demo_models: Path) -> None:
    path = demo_models / "tiny-embed-GGUF" / "tiny-embed-F16.gguf"
    assert (await bench.engines.plan(path, LoadOptions())).total_bytes


async def test_a_large_vocabulary_costs_the_process_more(
    bench: Bench, tiny: Path, tmp_path: Path
) -> None:
    (large,) = write_gguf(tmp_path / "large.gguf", "Q8_0", extra_tokens=20_000)
    small = await bench.engines.plan(tiny, LoadOptions())
    assert (await bench.engines.plan(large, LoadOptions())).overhead_bytes > small.overhead_bytes


async def test_a_header_that_kills_the_planner_costs_one_plan(
    bench: Bench, tiny: Path, tmp_path: Path
) -> None:
    (header,) = headers(tiny)
    key = b"llama.block_count"
    at = header.data.index(key) + len(key) + 4
    deadly = replace(header, data=header.data[:at] + bytes(4) + header.data[at + 4 :])
    sound = await bench.engines.plan(tiny, LoadOptions())
    with pytest.raises(EngineFailed, match="SIGABRT") as caught:
        await bench.engines.plan((deadly,), LoadOptions())
    assert any("GGML_ASSERT" in line for line in caught.value.details)
    assert await bench.engines.plan((header,), LoadOptions()) == sound


async def test_crowds_are_planned_one_after_the_other(bench: Bench, tiny: Path) -> None:
    lengths = [256 * n for n in range(1, 9)]
    plans = [bench.engines.plan(tiny, LoadOptions(context_length=n)) for n in lengths]
    found = [forecast.kv_bytes for forecast in await asyncio.gather(*plans)]
    whole = found[-1] / 8
    assert found == [pytest.approx(whole * n, abs=LOGGED) for n in range(1, 9)]


async def test_a_plan_that_is_called_off_leaves_the_next_one_right(
    bench: Bench, tiny: Path
) -> None:
    whole = await bench.engines.plan(tiny, LoadOptions())
    for _ in range(3):
        plan = asyncio.create_task(bench.engines.plan(tiny, LoadOptions(context_length=512)))
        await asyncio.sleep(0)  # it has begun, and cannot have ended
        plan.cancel()
        with pytest.raises(asyncio.CancelledError):
            await plan
    assert await bench.engines.plan(tiny, LoadOptions()) == whole


async def test_a_plan_that_never_ends_is_given_up(
    bench: Bench, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.engines.plan(tiny, LoadOptions())
    monkeypatch.setattr(planner, "PLAN_S", 0)
    with pytest.raises(EngineFailed, match="did not plan"):
        await bench.engines.plan(tiny, LoadOptions())
    monkeypatch.setattr(planner, "PLAN_S", 30)
    assert await bench.engines.plan(tiny, LoadOptions())


async def test_no_room_for_a_header_is_told(
    bench: Bench, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(StorageFailed):
        await bench.engines.plan(headers(tiny), LoadOptions())


async def test_nothing_is_left_in_the_temporary_folder(
    bench: Bench, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    await bench.engines.plan(headers(tiny), LoadOptions())
    assert os.listdir(tmp_path) == []


async def test_the_planner_goes_when_it_is_not_asked_and_comes_again(
    bench: Bench, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "WARM_S", 0.01)
    whole = await bench.engines.plan(tiny, LoadOptions())
    child = bench.engines._planner._process
    assert child is not None
    async with asyncio.timeout(PATIENCE_S):
        await child.wait()
    assert not alive(child.pid)
    assert await bench.engines.plan(tiny, LoadOptions()) == whole


async def test_nothing_is_planned_once_the_engines_are_closed(bench: Bench, tiny: Path) -> None:
    plans = [asyncio.create_task(bench.engines.plan(tiny, LoadOptions())) for _ in range(3)]
    await asyncio.sleep(0)  # they have begun: one has its turn, two wait for theirs
    await bench.engines.close()
    results = await asyncio.gather(*plans, return_exceptions=True)
    assert [type(result) for result in results] == [Forecast, ShuttingDown, ShuttingDown]
    assert bench.engines._planner._process is None
