"""Forecasts hold for several requests at once, whatever an architecture keeps of each of them.

`tests/benchmarks/forecast_parallel.py` measures all architectures; these are the kinds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.runtime.engines.llama.loader import TEXTS_AT_ONCE, longest_request, slots
from modeldeck.core.schema import Forecast, LoadOptions
from tests.support.bench import Bench
from tests.support.recorded import read
from tests.support.slots import Case, Filled, batches, filled

RECORDED = read(Path(__file__).with_name("architectures.json"))
KINDS = (
    *("llama", "qwen3moe", "deepseek2"),  # nothing of their own; experts; compressed keys
    *("gemma3", "gpt-oss"),  # a window for each request
    *("mamba", "rwkv7"),  # a state for each request
    *("jamba", "falcon-h1"),  # both
    *("qwen3next", "kimi-linear", "minimax-01"),  # one request takes a larger buffer than several
)
RECURRENT = KINDS[5:]
AT_ONCE = (1, 4, 8)
CONTEXT = 512
KIB, MIB = 1 << 10, 1 << 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(Settings())
    await bench.engines.open()
    yield bench
    await bench.engines.close()


def cases(folder: Path, name: str, options: list[LoadOptions]) -> list[Case]:
    path = folder / f"{name}.gguf"
    RECORDED[name].recipe(name).write(path)
    return [(str(path), each) for each in options]


async def planned(bench: Bench, some: list[Case]) -> list[Forecast]:
    return [await bench.engines.plan(Path(path), options) for path, options in some]


@pytest.mark.asyncio(loop_scope="module")
async def test_what_more_requests_take_is_what_llama_cpp_allocates(
    bench: Bench, tmp_path: Path
) -> None:
    # Small batches, so that a window with one of them is shorter than the context.
    options = [
        LoadOptions(context_length=CONTEXT, parallel=count, batch_size=128) for count in AT_ONCE
    ]
    some = [case for name in KINDS for case in cases(tmp_path, name, options)]
    forecasts, taken = await planned(bench, some), await filled(some)
    firsts = range(0, len(some), len(AT_ONCE))
    for first in firsts:
        for n in range(first, first + len(AT_ONCE)):
            what = some[n]
            assert taken[n].sequences == what[1].parallel
            assert taken[n].cells == CONTEXT, "they share the cells"
            assert forecasts[n].kv_bytes == pytest.approx(taken[n].kv_bytes, abs=16 * KIB), what
        for fewer, more in ((first, first + 1), (first + 1, first + 2)):
            if fewer == first and Path(some[first][0]).stem in RECURRENT:
                continue  # several of them have a further graph, which is not among the buffers
            forecast = forecasts[more].total_bytes - forecasts[fewer].total_bytes
            allocated = taken[more].allocated_bytes - taken[fewer].allocated_bytes
            assert forecast == pytest.approx(allocated, abs=MIB // 2), some[more]
    grown = {
        some[first][0]: forecasts[first + 2].kv_bytes - forecasts[first].kv_bytes
        for first in firsts
    }
    assert [Path(path).stem for path, more in grown.items() if not more] == list(KINDS[:3])


@pytest.mark.asyncio(loop_scope="module")
async def test_the_peak_with_eight_at_once_is_what_was_forecast(
    bench: Bench, tmp_path: Path
) -> None:
    length = 4 * CONTEXT  # so that batches are full
    (base,) = cases(tmp_path, "llama", [LoadOptions(context_length=length, parallel=1)])
    (forecast,), (alone,) = await planned(bench, [base]), await filled([base])
    besides = alone.peak_bytes - forecast.total_bytes
    for name in ("gemma3", "rwkv7", "qwen3next"):
        some = cases(tmp_path, name, [LoadOptions(context_length=length, parallel=8)])
        (forecast,), (taken,) = await planned(bench, some), await filled(some)
        expected = forecast.total_bytes + besides
        assert expected == pytest.approx(taken.peak_bytes, rel=0.01), name


@pytest.mark.asyncio(loop_scope="module")
async def test_cells_of_their_own_are_paid_for_and_shared_ones_are_not(
    bench: Bench, tmp_path: Path
) -> None:
    shared = LoadOptions(context_length=CONTEXT, parallel=4)
    own = LoadOptions(context_length=CONTEXT, parallel=4, cache_tokens=4 * CONTEXT)
    some = cases(tmp_path, "llama", [LoadOptions(context_length=CONTEXT), shared, own])
    alone, together, apart = await planned(bench, some)
    assert together.kv_bytes == alone.kv_bytes
    assert together.total_bytes - alone.total_bytes < 64 * KIB
    assert apart.kv_bytes == 4 * alone.kv_bytes
    instance = await bench.loaded(Path(some[2][0]), own)
    assert (instance.context_length, instance.cache_tokens) == (CONTEXT, 4 * CONTEXT)
    assert instance.parallel == 4
    await bench.engines.unload(instance.id)


@pytest.mark.parametrize(
    ("options", "embedding", "count"),
    [
        (LoadOptions(), False, 1),
        (LoadOptions(parallel=8), False, 8),
        (LoadOptions(parallel=8), True, TEXTS_AT_ONCE),
    ],
)
def test_a_context_has_a_sequence_for_each_request(
    options: LoadOptions, embedding: bool, count: int
) -> None:
    assert slots(options, embedding=embedding) == count
    assert slots(options, embedding=True, recurrent=True) == 1


@pytest.mark.parametrize(
    ("length", "trained", "found"),
    [(4096, 2048, 4096), (None, 2048, 2048), (None, 100_000, 8192), (None, 0, 1)],
)
def test_one_request_reaches_what_was_asked_for(
    length: int | None, trained: int, found: int
) -> None:
    options = LoadOptions(context_length=length, cache_tokens=1 << 20)
    assert longest_request(options, 8192, trained) == found


@pytest.mark.parametrize(("sequences", "cells"), [(1, 512), (4, 512), (8, 1024), (16, 512)])
def test_the_cells_are_filled_in_order_and_written_at_once(sequences: int, cells: int) -> None:
    held = dict.fromkeys(range(sequences), 0)
    for rows in batches(sequences, cells, 512):
        assert 0 < len(rows) <= 512
        for row in rows:
            assert row.position == held[row.sequence]
            held[row.sequence] += 1
    assert [row.output for row in rows] == [True] * sequences
    assert set(held.values()) == {cells // sequences}


def test_all_that_is_allocated_is_summed() -> None:
    taken = Filled(cells=1, sequences=1, kv_bytes=1, output_bytes=2, compute_bytes=4, peak_bytes=8)
    assert taken.allocated_bytes == 7


@pytest.mark.asyncio(loop_scope="module")
async def test_a_prompt_of_several_batches_is_read_where_one_without_an_output_aborts(
    bench: Bench, tmp_path: Path
) -> None:
    options = LoadOptions(context_length=CONTEXT, batch_size=64, parallel=4)
    ((path, _),) = cases(tmp_path, "chameleon", [options])
    instance = await bench.loaded(Path(path), options)
    await bench.fill(instance)
    await bench.fill_at_once(instance, 4)
    assert (bench.last(instance).context_used or 0) >= CONTEXT - 1
    await bench.engines.unload(instance.id)
