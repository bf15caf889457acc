import doctest
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.demo.model_writer import write_mlx
from modeldeck.core.formats import gguf_parser
from modeldeck.core.formats.mlx_folder import MlxConfig, read_folder
from modeldeck.core.memory import estimate
from modeldeck.core.memory.estimate import (
    from_config,
    from_header,
    from_size,
    judge,
    kv_cache_bytes,
)
from modeldeck.core.schema import Forecast, GenerateRequest, LoadOptions, memory, overhead
from tests.support.bench import Bench

GIB = 1 << 30
LOGGED = 1 << 13
"""llama.cpp's log, which a plan is read from, tells hundredths of a MiB."""


def test_the_worked_numbers_hold() -> None:
    for module in (estimate, memory, overhead):
        result = doctest.testmod(module)
        assert result.attempted
        assert not result.failed


def forecast(total: int, exact: bool = True) -> Forecast:
    return Forecast(
        total_bytes=total,
        weights_bytes=total,
        kv_bytes=0,
        compute_bytes=0,
        overhead_bytes=0,
        exact=exact,
    )


def test_requests_at_once_share_the_tokens_of_the_cache() -> None:
    config = MlxConfig(
        layers=2, kv_heads=2, head_length=64, context_length=8192, window=256,
        layer_types=("full_attention", "sliding_attention"),
    )  # fmt: skip
    alone = from_config(config, 0, LoadOptions(context_length=4096))
    shared = from_config(config, 0, LoadOptions(context_length=4096, parallel=4))
    own = from_config(config, 0, LoadOptions(context_length=4096, parallel=4, cache_tokens=16384))
    a_token = 2 * 2 * 64 * 2
    assert alone.kv_bytes == a_token * (4096 + 768)
    steps = 4 * 256  # the cache of each grows by as many tokens
    assert shared.kv_bytes == a_token * (4096 + steps + 4 * 768), "each has a window of its own"
    assert own.kv_bytes == a_token * (16384 + steps + 4 * 768)
    assert alone.compute_bytes == shared.compute_bytes == own.compute_bytes


@pytest.mark.parametrize(
    ("needed", "available", "reserve", "verdict"),
    [
        (3 * GIB, 4 * GIB, GIB, "fits"),
        (3 * GIB + 1, 4 * GIB, GIB, "tight"),
        (4 * GIB, 4 * GIB, GIB, "tight"),
        (4 * GIB + 1, 4 * GIB, GIB, "too large"),
        (1, 0, GIB, "too large"),
        (4 * GIB, 4 * GIB, 0, "fits"),
        (GIB, None, GIB, "unknown"),
        (None, 4 * GIB, GIB, "unknown"),
    ],
)
def test_the_verdict(needed: int | None, available: int | None, reserve: int, verdict: str) -> None:
    given = None if needed is None else forecast(needed)
    fit = judge(given, available, reserve)
    assert fit.verdict == verdict
    assert (fit.forecast, fit.available_bytes) == (given, available)
    assert (fit.reason is None) == (verdict == "fits")


@pytest.mark.parametrize(
    ("on_gpu", "free", "gpu_free", "verdict", "says"),
    [
        # 10 GiB in all; what is on the GPU need not be free in the machine.
        (8 * GIB, 4 * GIB, 8 * GIB, "fits", None),
        (8 * GIB, 2 * GIB, 8 * GIB, "tight", "that is kept for the system."),
        (8 * GIB, GIB, 8 * GIB, "too large", "1.0 GiB more would have to be free."),
        (8 * GIB, 4 * GIB, 6 * GIB, "too large", "2.0 GiB more would have to be free on the GPU."),
        (8 * GIB, 4 * GIB, None, "unknown", "The free memory of the GPU is not known."),
        (0, 11 * GIB, None, "fits", None),
        (None, 99 * GIB, 99 * GIB, "unknown", "to the GPU is not known: it is not told."),
        (None, GIB, 0, "unknown", "to the GPU is not known: it is not told."),
    ],
)
def test_each_memory_is_judged_by_itself_and_not_by_a_made_up_share(
    on_gpu: int | None, free: int, gpu_free: int | None, verdict: str, says: str | None
) -> None:
    unknown = "it is not told" if on_gpu is None else ""
    given = replace(forecast(10 * GIB), gpu_bytes=on_gpu, gpu_unknown=unknown)
    fit = judge(given, free, GIB, gpu_free)
    assert fit.verdict == verdict
    assert (fit.reason or "").endswith(says or "")
    assert (fit.reason is None) == (says is None)


def test_a_forecast_of_an_earlier_version_is_read() -> None:
    old = (
        b'{"total_bytes":9,"weights_bytes":9,"kv_bytes":0,"compute_bytes":0,"overhead_bytes":0,'
        b'"exact":true,"gpu_bytes":4,"correction_bytes":0,"samples":0}'
    )
    found = msgspec.json.decode(old, type=Forecast)
    assert (found.gpu_bytes, found.machine_bytes, found.devices) == (4, 5, ())
    lost = replace(found, gpu_bytes=None, gpu_unknown="it is not told")
    assert msgspec.json.decode(msgspec.json.encode(lost), type=Forecast) == lost
    assert lost.machine_bytes is None


def test_a_refusal_tells_what_is_missing_and_an_estimate_is_marked() -> None:
    fit = judge(forecast(6 * GIB, exact=False), 4 * GIB, GIB)
    assert fit.reason == "2.0 GiB more would have to be free."
    assert not fit.exact


@pytest.mark.parametrize("type_", estimate.BITS_PER_VALUE)
def test_a_cache_grows_with_its_type(type_: str) -> None:
    per_value = kv_cache_bytes((1,), 64, 64, 256, type_) / (256 * 128)
    assert per_value == estimate.BITS_PER_VALUE[type_] / 8


async def test_the_formula_comes_near_the_engines_own_plan(demo_models: Path) -> None:
    bench = Bench(Settings())
    try:
        for name in ("tiny-GGUF/tiny-F16.gguf", "padded-GGUF/padded-F16.gguf"):
            path = demo_models / name
            for options in (
                LoadOptions(context_length=512),
                LoadOptions(context_length=4096, kv_cache_type="q8_0"),
                LoadOptions(),
            ):
                exact = await bench.engines.plan(path, options)
                guess = from_header(gguf_parser.read(path), options, path.stat().st_size)
                assert not guess.exact
                assert guess.kv_bytes == pytest.approx(exact.kv_bytes, abs=LOGGED)
                assert guess.total_bytes == pytest.approx(exact.total_bytes, rel=0.05)
    finally:
        await bench.engines.close()


def test_the_size_alone_gives_the_weights_and_the_process() -> None:
    guess = from_size(GIB)
    assert guess.weights_bytes == GIB
    assert guess.total_bytes > GIB
    assert not guess.exact


LLAMA = MlxConfig(
    layers=32,
    heads=32,
    kv_heads=8,
    head_length=128,
    embedding_length=4096,
    feed_forward_length=14336,
    vocab_size=128_256,
    context_length=131_072,
)
TOKEN = 2 * 8 * 128 * 2
"""Bytes that one layer of it keeps per token."""


@pytest.mark.parametrize(
    ("changes", "context", "kv"),
    [
        ({}, 8192, 32 * TOKEN * 8192),
        ({}, 8000, 32 * TOKEN * 8192),
        ({"value_bytes": 4}, 8192, 2 * 32 * TOKEN * 8192),
        ({"latent_length": 576}, 8192, 32 * 576 * 2 * 8192),
        ({"layers": None}, 8192, 0),
        (
            {"window": 1024, "layer_types": ("sliding_attention", "full_attention") * 16},
            8192,
            16 * TOKEN * (8192 + 1024 + 512),
        ),
        ({"window": 1024, "layer_types": ("sliding_attention",) * 32}, 512, 32 * TOKEN * 512),
        (
            {"layer_types": ("linear_attention",) * 24 + ("full_attention",) * 8},
            4096,
            8 * TOKEN * 4096,
        ),
        ({"window": 1024}, 4096, 32 * TOKEN * 4096),
    ],
)
def test_the_cache_of_an_mlx_model(changes: dict[str, Any], context: int, kv: int) -> None:
    found = from_config(replace(LLAMA, **changes), 5 * GIB, LoadOptions(context_length=context))
    assert found.kv_bytes == kv
    parts = (found.kv_bytes, found.weights_bytes, found.compute_bytes, found.overhead_bytes)
    assert found.total_bytes == sum(parts)
    assert not found.exact


def test_options_change_the_forecast_of_an_mlx_model() -> None:
    plain = from_config(LLAMA, GIB, LoadOptions())
    assert plain.kv_bytes == 32 * TOKEN * 8192, "not the 131072 it was trained for"
    small = from_config(LLAMA, GIB, LoadOptions(kv_cache_type="q4_0", batch_size=128))
    assert small.kv_bytes == plain.kv_bytes * 4.5 / 16
    assert small.compute_bytes == plain.compute_bytes / 4


@pytest.mark.parametrize(("size", "context", "batch"), [(0, 512, 512), (0, 2048, 128)])
async def test_the_formula_comes_near_what_mlx_takes(
    tmp_path: Path, size: int, context: int, batch: int
) -> None:
    write_mlx(tmp_path / "model", size_bytes=size)
    folder = read_folder(tmp_path / "model")
    options = LoadOptions(context_length=context, batch_size=batch)
    forecast = from_config(folder.config, folder.weights_bytes, options)
    bench = Bench(Settings())
    instance = await bench.loaded(tmp_path / "model", options)
    prompt = GenerateRequest(prompt="x" * (context - 4), temperature=0, max_tokens=3)
    await bench.ask(instance, prompt)
    await bench.engines.sample()
    peak = bench.last(instance).peak_bytes
    await bench.engines.close()
    assert peak == pytest.approx(forecast.total_bytes, rel=0.15)
