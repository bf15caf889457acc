"""Forecast against measurement with several requests at once: 1, 4 and 8 by default.

Small models of many architectures are written with random weights (`tests.support.architectures`),
each is forecast and loaded for so many requests at once, all cells of its KV cache are filled by
them, and the peak of the process is compared with the forecast. Where more than 1 % is left
untouched, they are also filled behind one beginning that all share: some models take memory for
each of those who share a cell. The larger peak counts. What the process takes besides is measured
first, as a core does for each engine (`core/runtime/planning/calibration.py`).

    python -m tests.benchmarks.forecast_parallel                  # all: about 25 minutes
    python -m tests.benchmarks.forecast_parallel gemma3 jamba     # some
    python -m tests.benchmarks.forecast_parallel --requests       # through an engine, as clients do
    python -m tests.benchmarks.forecast_parallel --context 8192 --at-once 1 16
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from modeldeck.core.config.config import RuntimeSettings
from modeldeck.core.errors import DeckError
from modeldeck.core.memory import probe
from modeldeck.core.runtime.planning.calibration import calibrate
from modeldeck.core.schema import Forecast, LoadOptions
from tests.support import recorded
from tests.support.bench import Bench
from tests.support.slots import filled

MIB = 1 << 20
RECORD = Path(__file__).parents[1] / "core" / "runtime" / "architectures.json"
BASE = "llama"
"""The architecture whose load by one request tells what the process takes besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of one load."""

    architecture: str
    parallel: int
    forecast: Forecast
    besides_bytes: int
    """What the process takes beyond the overhead in the forecast."""
    peak_bytes: int

    @property
    def off_bytes(self) -> int:
        """Forecast less peak."""
        return self.forecast.total_bytes + self.besides_bytes - self.peak_bytes

    @property
    def error(self) -> float:
        """As a fraction of the peak."""
        return self.off_bytes / self.peak_bytes

    @property
    def cell(self) -> str:
        """What is printed of it."""
        forecast, peak = self.forecast, self.peak_bytes / MIB
        return (
            f"{self.parallel:2} at once: KV {forecast.kv_bytes / MIB:6.2f}"
            f" compute {forecast.compute_bytes / MIB:5.1f} peak {peak:6.1f}"
            f" {self.off_bytes / MIB:+5.2f} MiB {100 * self.error:+5.2f} %"
        )


UNTOUCHED = 0.01
"""Share of the forecast above which it is looked for in another way of filling the cells."""


async def peak(
    bench: Bench, path: Path, options: LoadOptions, expected: int, *, requests: bool
) -> int:
    """The peak of a process whose cells are full. Raises DeckError.

    `expected` is the peak in bytes that is forecast.
    """
    if not requests:
        (found,) = await filled([(str(path), options)])
        if (options.parallel or 1) == 1 or found.peak_bytes >= (1 - UNTOUCHED) * expected:
            return found.peak_bytes
        try:
            (shared,) = await filled([(str(path), options)], shared=True)
        except DeckError:
            return found.peak_bytes  # cells of a window do not hold all that
        return max(found.peak_bytes, shared.peak_bytes)
    instance = await bench.loaded(path, options)
    try:
        await bench.fill(instance)
        await bench.fill_at_once(instance, options.parallel or 1)
        await bench.engines.sample()
        return bench.engines.instances[instance.id].peak_bytes or 0
    finally:
        await bench.engines.unload(instance.id)


async def measure(
    bench: Bench, names: Sequence[str], at_once: Sequence[int], context: int, *, requests: bool
) -> list[Measured]:
    """Measure all loads and print what came of them."""
    kept = recorded.read(RECORD)
    found: list[Measured] = []
    besides = 0
    if requests:
        bench.engines.set_overhead(await calibrate("llama.cpp", bench.engines.plan, probe.process))
    with tempfile.TemporaryDirectory(prefix="modeldeck-forecast-") as folder:
        path = Path(folder) / "model.gguf"
        for name, parallel in _loads(names, at_once, base=not requests):
            options = LoadOptions(context_length=context, parallel=parallel)
            kept[name].recipe(name).write(path)
            try:
                forecast = await bench.engines.plan(path, options)
                expected = forecast.total_bytes + besides
                taken = await peak(bench, path, options, expected, requests=requests)
            except DeckError as error:
                print(f"{name:16} not measured: {error.message[-80:]}", flush=True)
                continue
            besides = besides or (0 if requests else taken - forecast.total_bytes)
            one = Measured(
                architecture=name,
                parallel=parallel,
                forecast=forecast,
                besides_bytes=besides,
                peak_bytes=taken,
            )
            found.append(one)
            print(f"{name:16} {one.cell}", flush=True)
    return found


def _loads(
    names: Sequence[str], at_once: Sequence[int], *, base: bool
) -> Iterator[tuple[str, int]]:
    if base:
        yield BASE, 1
    for name in names:
        for parallel in at_once:
            if not base or (name, parallel) != (BASE, 1):
                yield name, parallel


def summarize(found: Sequence[Measured]) -> None:
    """Print median and worst for each number of requests at once."""
    for parallel in sorted({one.parallel for one in found}):
        some = [one for one in found if one.parallel == parallel]
        worst = max(some, key=lambda one: abs(one.error))
        median = statistics.median(abs(one.error) for one in some)
        print(
            f"{parallel:2} at once, {len(some)} architectures: median {100 * median:.2f} %,"
            f" worst {100 * worst.error:+.2f} % ({worst.off_bytes / MIB:+.1f} MiB,"
            f" {worst.architecture})"
        )


async def run(
    names: Sequence[str], at_once: Sequence[int], context: int, *, requests: bool
) -> list[Measured]:
    """Measure with an open bench."""
    bench = Bench(RuntimeSettings())
    await bench.engines.open()
    try:
        return await measure(bench, names, at_once, context, requests=requests)
    finally:
        await bench.engines.close()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("architecture", nargs="*")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--requests", action="store_true", help="ask an engine, as clients do")
    asked = parser.parse_args()
    names = asked.architecture or list(recorded.read(RECORD))
    summarize(asyncio.run(run(names, asked.at_once, asked.context, requests=asked.requests)))


if __name__ == "__main__":
    main()
