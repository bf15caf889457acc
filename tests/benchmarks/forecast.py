"""Forecast against measurement: what a load should take, and what its process took at most.

Small models of many architectures are written with random weights (`tests.support.architectures`),
each is forecast, loaded in an engine process, and read a prompt as long as its context. Prints a
table, the median error and the worst, and why an architecture cannot be had. Nothing that was
learned from earlier loads is applied, and the header alone must give the same forecast as the file.

    python tests/benchmarks/forecast.py              # all: about 20 minutes on two cores
    python tests/benchmarks/forecast.py --plain      # one load of every architecture: 4 minutes
    python tests/benchmarks/forecast.py gemma3 jamba # one load of each of these
    python tests/benchmarks/forecast.py --record     # as --plain, and keep it for the tests
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.errors import DeckError
from modeldeck.core.schema import KvCacheType, LoadOptions
from tests.support import recorded
from tests.support.architectures import Kind, Recipe, architectures, discover
from tests.support.bench import Bench
from tests.support.recorded import Recorded, record

MIB = 1 << 20
RECORD = Path(__file__).parents[1] / "core" / "runtime" / "architectures.json"
CACHES: tuple[KvCacheType, ...] = ("q8_0", "q4_0")
KINDS: tuple[Kind, ...] = ("F16", "Q8_0", "Q4_0")


def large() -> Recipe:
    """A llama of 230 MB."""
    return Recipe(
        architecture="llama", width=1024, layers=8, feed_forward=4096, heads=16, kv_heads=4
    )


@dataclass(frozen=True, slots=True)
class Case:
    """One load."""

    recipe: Recipe
    options: LoadOptions
    kind: Kind = "F16"

    @property
    def title(self) -> str:
        """Its row's first columns."""
        o = self.options
        flash = {None: "", True: " flash", False: " no flash"}[o.flash_attention]
        return (
            f"{self.recipe.architecture:14} {self.kind:4} width {self.recipe.width:4}"
            f" vocabulary +{self.recipe.extra_tokens:6} context {o.context_length:5}"
            f" {o.kv_cache_type or 'f16':4} batch {o.batch_size or 512:4}{flash}"
            f"{' mapped' if o.mmap else ''}{' copied' if o.mmap is False else ''}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of a load."""

    title: str
    recipe: Recipe
    forecast: int
    """Bytes."""
    peak: int
    """Bytes."""

    @property
    def error(self) -> float:
        """As a fraction of the peak."""
        return abs(self.forecast - self.peak) / self.peak

    @property
    def row(self) -> str:
        """What is printed of it."""
        off = self.forecast - self.peak
        return (
            f"{self.title:88} forecast {self.forecast / MIB:7.1f} peak {self.peak / MIB:7.1f} MiB"
            f"  {100 * off / self.peak:+6.2f} % {off / MIB:+6.2f} MiB"
        )


def plain(names: Iterable[str]) -> list[Case]:
    """A load of each architecture."""
    options = LoadOptions(context_length=2048)
    return [Case(Recipe(architecture=name), options) for name in names]


def matrix() -> Iterator[Case]:
    """The other cases: contexts, caches, flash attention, batches, precisions, vocabularies."""
    for name in ("llama", "gemma3", "qwen3moe", "deepseek2", "jamba", "mamba"):
        for length in (512, 8192):
            yield Case(Recipe(architecture=name), LoadOptions(context_length=length))
        for cache in CACHES:
            options = LoadOptions(context_length=4096, kv_cache_type=cache)
            yield Case(Recipe(architecture=name), options)
        options = LoadOptions(context_length=4096, flash_attention=False)
        yield Case(Recipe(architecture=name), options)
    tall = LoadOptions(context_length=32_768)
    yield Case(Recipe(architecture="llama"), tall)
    yield Case(Recipe(architecture="gemma3"), tall)
    yield Case(Recipe(architecture="mamba"), tall)
    for cached in get_args(KvCacheType):
        options = LoadOptions(context_length=2048, kv_cache_type=cached)
        yield Case(Recipe(architecture="llama"), options)
    for size in (64, 2048):
        options = LoadOptions(context_length=2048, batch_size=size)
        yield Case(Recipe(architecture="llama"), options)
    for tokens in (30_000, 150_000):
        for name in ("llama", "bert"):
            recipe = Recipe(architecture=name, extra_tokens=tokens)
            yield Case(recipe, LoadOptions(context_length=2048))
    for kind in KINDS:
        for mapped in (None, True, False):
            options = LoadOptions(context_length=1024, mmap=mapped)
            yield Case(large(), options, kind)
    options = LoadOptions(context_length=2048, flash_attention=False)
    yield Case(large(), options)


def recalled(recipe: Recipe, kept: Mapping[str, Recorded]) -> Recipe:
    """The recipe with what is recorded of its architecture, where its sizes are the same."""
    name, extra = recipe.architecture, recipe.extra_tokens
    if name not in kept or recipe != Recipe(architecture=name, extra_tokens=extra):
        return recipe
    return replace(kept[name].recipe(name), extra_tokens=extra)


async def measure(bench: Bench, case: Case, folder: Path, kept: Mapping[str, Recorded]) -> Measured:
    """The forecast and the peak of one case. Raises DeckError for one that fails."""
    engines = bench.engines
    path = folder / "model.gguf"
    small = LoadOptions(context_length=512)
    recipe = recalled(case.recipe, kept)
    recipe = await discover(recipe, path, lambda file: engines.plan(file, small))
    recipe.write(path, case.kind, header_only=True)
    remote = await engines.plan(path, case.options)
    recipe.write(path, case.kind)
    forecast = await engines.plan(path, case.options)
    assert remote == forecast, "the header alone gives another forecast"
    instance = await bench.loaded(path, case.options)
    try:
        await bench.fill(instance)
        await engines.sample()
        peak = engines.instances[instance.id].peak_bytes
    finally:
        await engines.unload(instance.id)
    assert peak is not None
    return Measured(title=case.title, recipe=recipe, forecast=forecast.total_bytes, peak=peak)


async def run(cases: list[Case], kept: Mapping[str, Recorded]) -> list[Measured]:
    """Measure all cases and print what came of them; `kept` spares questions to llama.cpp."""
    bench = Bench(Settings())
    await bench.engines.open()
    found: list[Measured] = []
    failed: list[str] = []
    try:
        with tempfile.TemporaryDirectory(prefix="modeldeck-forecast-") as name:
            for case in cases:
                started = time.monotonic()
                try:
                    one = await measure(bench, case, Path(name), kept)
                except DeckError as error:
                    failed.append(f"{case.recipe.architecture}: {error.message}")
                    continue
                found.append(one)
                print(f"{one.row}  {time.monotonic() - started:4.0f} s", flush=True)
    finally:
        await bench.engines.close()
    for line in failed:
        print(f"not measured: {line}")
    if found:
        summarize(found)
    return found


def summarize(found: list[Measured]) -> None:
    """Print the median error and the worst, by fraction and by bytes."""
    kinds = len({one.recipe.architecture for one in found})
    median = statistics.median(one.error for one in found)
    print(f"{len(found)} loads of {kinds} architectures, each forecast by its header alone as well")
    print(f"median error {100 * median:.2f} %")
    for kind, worst in (
        ("fraction", max(found, key=lambda one: one.error)),
        ("bytes", max(found, key=lambda one: abs(one.forecast - one.peak))),
    ):
        print(f"worst by {kind}: {worst.row}")
    over = [one for one in found if one.error > 0.03 and abs(one.forecast - one.peak) > 8e6]
    print(f"over 3 % and 8 MB: {len(over)}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("architecture", nargs="*")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--record", action="store_true", help=f"keep what was found in {RECORD}")
    asked = parser.parse_args()
    cases = plain(asked.architecture or architectures())
    if not (asked.architecture or asked.plain or asked.record):
        cases += matrix()
    kept = recorded.read(RECORD)
    found = asyncio.run(run(cases, {} if asked.record else kept))
    if asked.record:
        kept = kept if asked.architecture else {}
        kept |= {one.recipe.architecture: record(one.recipe, one.peak) for one in found}
        recorded.write(RECORD, kept)


if __name__ == "__main__":
    main()
