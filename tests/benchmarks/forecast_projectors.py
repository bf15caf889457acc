"""Forecast against measurement with a projector: many kinds, each after its largest image.

Projectors of each kind are written with random weights (`tests.support.projectors`), each with a
text model that it fits. Both are forecast together and loaded; the context is filled with text, and
the model is asked twice about the largest image that is let in. The peak of the process is compared
with the forecast. What the process takes besides is measured first, as a core does for each engine.

    python -m tests.benchmarks.forecast_projectors              # all: about a minute and a half
    python -m tests.benchmarks.forecast_projectors gemma3 llava # some
    python -m tests.benchmarks.forecast_projectors --blocks 12 --width 1024
"""

from __future__ import annotations

import argparse
import asyncio
import io
import statistics
import tempfile
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path

from PIL import Image

from modeldeck.core.config.config import RuntimeSettings
from modeldeck.core.errors import DeckError
from modeldeck.core.formats import gguf_parser
from modeldeck.core.memory import probe
from modeldeck.core.runtime.engines.llama.projector_limits import image_limit
from modeldeck.core.runtime.engines.llama.projector_needs import largest_image
from modeldeck.core.runtime.planning.calibration import calibrate
from modeldeck.core.schema import Forecast, GenerateRequest, LoadOptions, Media, Message
from tests.support.bench import ANSWER, Bench, model
from tests.support.projector_kinds import KINDS, Tower
from tests.support.projectors import SeeingModel, write_seeing_model

MIB = 1 << 20
CONTEXT = 4096
IMAGE = {"gemma3": 448, "llava": 336, "glm-edge": 336, "idefics3": 364, "llama4": 336} | {
    "lfm2": 256,
    "qwen2vl": 560,
    "qwen2.5vl": 560,
}
"""Width of an image, or of a tile of one, where it is not 448."""
LONGEST_S = 289
"""Of a recording: more does not fit the context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredProjector:
    """What came of one load."""

    kind: str
    forecast: Forecast
    peak_bytes: int
    tokens: int
    """Of the question, nearly all of them the image's."""

    @property
    def off_bytes(self) -> int:
        """Forecast less peak."""
        return self.forecast.total_bytes - self.peak_bytes

    @property
    def error(self) -> float:
        """As a fraction of the peak."""
        return self.off_bytes / self.peak_bytes

    @property
    def row(self) -> str:
        """What is printed of it."""
        forecast = self.forecast
        return (
            f"{self.kind:10} {self.tokens:5} tokens:"
            f" projector {forecast.projector_bytes / MIB:6.1f}"
            f" forecast {forecast.total_bytes / MIB:6.1f} peak {self.peak_bytes / MIB:6.1f}"
            f" {self.off_bytes / MIB:+6.2f} MiB {100 * self.error:+5.2f} %"
        )


def tower(kind: str, width: int, blocks: int) -> Tower:
    """Sizes of a projector that takes some tens of megabytes."""
    return Tower(
        image=IMAGE.get(kind, 448),
        patch=16 if kind == "lfm2" else 14,
        width=width,
        feed_forward=6 * width,
        heads=width // 64,
        blocks=blocks,
        merge=4 if kind == "gemma3" else 2,
    )


def largest_media(seeing: SeeingModel, kind: str) -> Iterator[Media]:
    """The largest images that a projector is given, as files; or recordings.

    The one with the most tokens is not the one with the most pixels, which loses some of them when
    it is made smaller.
    """
    if KINDS[kind].hears:
        for seconds in (10, LONGEST_S):
            yield Media(kind="audio", data=silence(seconds), at=0)
        return
    limit = image_limit(gguf_parser.read(seeing.projector))
    sizes = [(isqrt(limit.pixels), isqrt(limit.pixels))] * 2
    if KINDS[kind].grows:
        t = seeing.tower
        sizes[0] = largest_image(limit.tokens, limit.tokens * (t.patch * t.merge) ** 2)
    for size, colour in zip(sizes, ("teal", "orange"), strict=True):
        file = io.BytesIO()
        Image.new("RGB", size, colour).save(file, "PNG", compress_level=1)
        yield Media(kind="image", data=file.getvalue(), at=0)


def silence(seconds: int) -> bytes:
    """A WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(bytes(2 * 16_000 * seconds))
    return file.getvalue()


async def measure(bench: Bench, folder: Path, kind: str, sizes: Tower) -> MeasuredProjector:
    """Forecast and load a projector of a kind, and have it read its largest image.

    Raises DeckError.
    """
    seeing = write_seeing_model(folder, kind, sizes)
    options = LoadOptions(context_length=CONTEXT)
    forecast = await bench.engines.plan(seeing.path, options, None, seeing.projector)
    instance = await bench.engines.load(
        replace(model(seeing.path), projector=str(seeing.projector)), options
    )
    try:
        instance = await bench.engines.ready(instance.id)
        await bench.fill(instance)
        tokens = 0
        for media in largest_media(seeing, kind):
            asked = Message(role="user", content="What is it?", media=(media,))
            request = GenerateRequest(messages=(asked,), max_tokens=ANSWER, temperature=0)
            async with bench.engines.generate(instance.id, request) as chunks:
                async for chunk in chunks:
                    tokens = max(tokens, chunk.prompt_tokens or 0)
        await bench.engines.sample()
        peak = bench.engines.instances[instance.id].peak_bytes or 0
    finally:
        await bench.engines.unload(instance.id)
    return MeasuredProjector(kind=kind, forecast=forecast, peak_bytes=peak, tokens=tokens)


async def run(kinds: Sequence[str], width: int, blocks: int) -> list[MeasuredProjector]:
    """Measure all and print what came of them."""
    found: list[MeasuredProjector] = []
    bench = Bench(RuntimeSettings())
    await bench.engines.open()
    try:
        bench.engines.set_overhead(await calibrate("llama.cpp", bench.engines.plan, probe.process))
        with tempfile.TemporaryDirectory(prefix="modeldeck-forecast-") as folder:
            for kind in kinds:
                try:
                    one = await measure(bench, Path(folder), kind, tower(kind, width, blocks))
                except DeckError as error:
                    print(f"{kind:10} not measured: {error.message[-160:]}", flush=True)
                    continue
                found.append(one)
                print(one.row, flush=True)
    finally:
        await bench.engines.close()
    return found


def summarize(found: Sequence[MeasuredProjector]) -> None:
    """Print median and worst."""
    if not found:
        return
    worst = max(found, key=lambda one: abs(one.error))
    median = statistics.median(abs(one.error) for one in found)
    print(
        f"{len(found)} kinds: median {100 * median:.2f} %, worst {100 * worst.error:+.2f} %"
        f" ({worst.off_bytes / MIB:+.1f} MiB, {worst.kind})"
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("kind", nargs="*")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--blocks", type=int, default=2)
    asked = parser.parse_args()
    summarize(asyncio.run(run(asked.kind or list(KINDS), asked.width, asked.blocks)))


if __name__ == "__main__":
    main()
