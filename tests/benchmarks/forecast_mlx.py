"""The forecast of MLX models beside what really loading and filling them takes.

Small models are written, each is forecast from config.json and the headers of its weights, loaded
in an engine process, and read a prompt as long as its context. Prints a table, the median error and
the worst. The overhead is first measured on this machine, as a core does; nothing else is learned.
Ten minutes on two cores: MLX's CPU build reads slowly.

    python -m tests.benchmarks.forecast_mlx
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.demo.model_writer import write_mlx
from modeldeck.core.formats import mlx_folder
from modeldeck.core.memory import estimate, probe
from modeldeck.core.runtime.planning.calibration import calibrate
from modeldeck.core.schema import LoadOptions
from modeldeck.core.schema.overhead import ProcessOverhead
from tests.support.bench import Bench

MIB = 1 << 20
SIZES = (0, 32 * MIB, 256 * MIB)
CONTEXTS = (512, 2048)


def cases() -> Iterator[tuple[int, LoadOptions]]:
    """Sizes of models, and how they are loaded."""
    for size, context in product(SIZES, CONTEXTS):
        yield size, LoadOptions(context_length=context)
    for size in SIZES[:2]:
        yield size, LoadOptions(context_length=8192)
        yield size, LoadOptions(context_length=1024, kv_cache_type="q8_0")
        yield size, LoadOptions(context_length=1024, kv_cache_type="q4_0")
        yield size, LoadOptions(context_length=1024, batch_size=128)
        for parallel in (4, 8):
            yield size, LoadOptions(context_length=1024, parallel=parallel)


async def measure(
    bench: Bench, size: int, options: LoadOptions, overhead: ProcessOverhead, folder: Path
) -> tuple[int, int]:
    """The forecast and the peak, in bytes."""
    path = folder / f"{size}"
    if not path.exists():
        write_mlx(path, size_bytes=size)
    known = mlx_folder.read_folder(path)
    forecast = estimate.from_config(known.config, known.weights_bytes, options, overhead)
    instance = await bench.loaded(path, options)
    try:
        await bench.fill(instance)
        if (at_once := options.parallel or 1) > 1:
            await bench.fill_at_once(instance, at_once)
        await bench.engines.sample()
        peak = bench.engines.instances[instance.id].peak_bytes
    finally:
        await bench.engines.unload(instance.id)
    assert peak is not None
    return forecast.total_bytes, peak


async def main() -> None:
    """Measure and print."""
    bench = Bench(Settings())
    await bench.engines.open()
    errors = []
    try:
        with tempfile.TemporaryDirectory(prefix="modeldeck-forecast-") as name:
            overhead = await calibrate("mlx", bench.engines.plan, probe.process)
            for size, options in cases():
                forecast, peak = await measure(bench, size, options, overhead, Path(name))
                off = forecast - peak
                errors.append(abs(off) / peak)
                print(
                    f"{size // MIB:4} MiB  context {options.context_length:5}"
                    f"  {options.kv_cache_type or 'f16':4} batch {options.batch_size or 512:4}"
                    f"  {options.parallel or 1} at once"
                    f"  forecast {forecast / MIB:7.1f} peak {peak / MIB:7.1f} MiB"
                    f"  {100 * off / peak:+6.2f} % {off / MIB:+6.2f} MiB",
                    flush=True,
                )
    finally:
        await bench.engines.close()
    print(f"median {100 * statistics.median(errors):.2f} %, worst {100 * max(errors):.2f} %")


if __name__ == "__main__":
    asyncio.run(main())
