"""Forecasts of projectors: the same from a file and from its header, and near what a load takes."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from math import isqrt
from pathlib import Path

import pytest
from PIL import Image

from modeldeck.core.errors import EngineFailed
from modeldeck.core.formats import gguf_parser
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.llama import projector_plan
from modeldeck.core.runtime.engines.llama.engine import LlamaEngine
from modeldeck.core.runtime.engines.llama.projector import load_library
from modeldeck.core.runtime.engines.llama.projector_limits import IMAGE_PIXELS
from modeldeck.core.runtime.engines.llama.projector_plan import ProjectorPlan, ProjectorPlanner
from modeldeck.core.runtime.planning.planner import HeaderFile
from modeldeck.core.schema import Forecast, GenerateRequest, LoadOptions, Media, Message
from tests.support.bench import Bench, model
from tests.support.projector_kinds import KINDS, Tower
from tests.support.projectors import SeeingModel, write_projector, write_seeing_model

OPTIONS = LoadOptions(context_length=1024)
MIB = 1 << 20


def header(path: Path) -> HeaderFile:
    """What is known of a file that is not downloaded: its beginning and size."""
    data = path.read_bytes()[: gguf_parser.read(path).data_offset]
    return HeaderFile(name=path.name, key=path.name, data=data, size=path.stat().st_size)


def without_projector(forecast: Forecast) -> Forecast:
    total = forecast.total_bytes - forecast.projector_bytes
    return replace(forecast, total_bytes=total, projector_bytes=0)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_projector_is_an_item_of_its_own_before_the_download_as_well(
    bench: Bench, tmp_path: Path, kind: str
) -> None:
    seeing = write_seeing_model(tmp_path, kind)
    plain = await bench.engines.plan(seeing.path, OPTIONS)
    found = await bench.engines.plan(seeing.path, OPTIONS, None, seeing.projector)
    assert found.exact
    assert without_projector(found) == plain, "it changes nothing else"
    assert found.projector_bytes > gguf_parser.read(seeing.projector).weights_bytes
    parts = (header(seeing.path),)
    assert await bench.engines.plan(parts, OPTIONS, None, header(seeing.projector)) == found
    assert await bench.engines.plan(parts, OPTIONS, None, seeing.projector) == found
    off = replace(OPTIONS, vision=False)
    assert await bench.engines.plan(seeing.path, off, None, seeing.projector) == plain


async def test_what_is_read_in_one_piece_makes_the_models_own_buffers_larger(
    bench: Bench, tmp_path: Path
) -> None:
    """Gemma 3 evaluates an image at once: 1024 tokens here, where a batch has 512."""
    seeing = write_seeing_model(tmp_path, "gemma3", Tower(image=448, merge=1))
    plain = await bench.engines.plan(seeing.path, OPTIONS)
    found = await bench.engines.plan(seeing.path, OPTIONS, None, seeing.projector)
    assert found.compute_bytes > 1.5 * plain.compute_bytes


async def peak(bench: Bench, seeing: SeeingModel, size: tuple[int, int] | None = None) -> int:
    """The peak of a process that was asked about an image of this size."""
    found = model(seeing.path)
    if size is not None:
        found = replace(found, projector=str(seeing.projector))
    instance = await bench.engines.load(found, OPTIONS)
    try:
        await bench.engines.ready(instance.id)
        await bench.fill(bench.engines.instances[instance.id])
        if size is not None:
            file = io.BytesIO()
            Image.new("RGB", size, "teal").save(file, "PNG", compress_level=1)
            media = Media(kind="image", data=file.getvalue(), at=0)
            asked = Message(role="user", content="What?", media=(media,))
            await bench.ask(
                bench.engines.instances[instance.id],
                GenerateRequest(messages=(asked,), max_tokens=2, temperature=0),
            )
        await bench.engines.sample()
        return bench.engines.instances[instance.id].peak_bytes or 0
    finally:
        await bench.engines.unload(instance.id)


async def test_the_largest_image_takes_what_was_forecast(bench: Bench, tmp_path: Path) -> None:
    """The process itself is compared away: a calibration would tell what it takes here."""
    tower = Tower(image=336, width=256, feed_forward=1024, heads=4)
    seeing = write_seeing_model(tmp_path, "glm-edge", tower)
    forecast = await bench.engines.plan(seeing.path, OPTIONS, None, seeing.projector)
    side = isqrt(IMAGE_PIXELS)
    blind = await peak(bench, seeing)
    sighted = await peak(bench, seeing, (side, side))
    assert sighted - blind == pytest.approx(forecast.projector_bytes, abs=12 * MIB)


async def test_a_bad_projector_is_told_and_costs_one_plan(bench: Bench, tmp_path: Path) -> None:
    seeing = write_seeing_model(tmp_path, "llava")
    sound = await bench.engines.plan(seeing.path, OPTIONS, None, seeing.projector)
    other = write_projector(tmp_path / "other.gguf", "llava", Tower(out=352))
    with pytest.raises(EngineFailed, match="another model"):
        await bench.engines.plan(seeing.path, OPTIONS, None, other)
    data = seeing.projector.read_bytes()
    unknown = tmp_path / "unknown.gguf"
    at = data.index(b"clip.projector_type")
    unknown.write_bytes(data[:at] + data[at:].replace(b"mlp", b"new", 1))
    with pytest.raises(EngineFailed, match="unknown projector type: new"):
        await bench.engines.plan(seeing.path, OPTIONS, None, unknown)
    lacking = tmp_path / "lacking.gguf"
    lacking.write_bytes(data.replace(b"v.blk.1.attn_out.weight", b"v.blk.1.attn_xxx.weight"))
    with pytest.raises(EngineFailed, match="unable to find tensor"):
        await bench.engines.plan(seeing.path, OPTIONS, None, lacking)
    with pytest.raises(EngineFailed, match="architecture is llama"):
        await bench.engines.plan(seeing.path, OPTIONS, None, seeing.path)
    lacking.write_bytes(b"GGUF")
    with pytest.raises(EngineFailed, match="cannot be"):
        await bench.engines.plan(seeing.path, OPTIONS, None, lacking)
    assert await bench.engines.plan(seeing.path, OPTIONS, None, seeing.projector) == sound


def planned(seeing: SeeingModel) -> ProjectorPlan:
    """The plan of this process."""
    engine = LlamaEngine(Flag())
    engine.hello()
    planner = ProjectorPlanner(load_library(), engine._log)
    try:
        loaded = engine._loader.open(str(seeing.path), engine._loader.plan_parameters(OPTIONS))
        width = engine._c.llama_model_n_embd_inp(loaded)
        return planner.plan(loaded, width, str(seeing.projector), OPTIONS, cells=1024)
    finally:
        engine._loader.release()


async def test_a_libmtmd_without_the_constructor_loads_and_gives_the_same_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeing = write_seeing_model(tmp_path, "pixtral")
    usual = await asyncio.to_thread(planned, seeing)
    monkeypatch.setattr(projector_plan, "MAKE", "_missing")
    monkeypatch.setattr(projector_plan, "USAGE", "_missing")
    assert await asyncio.to_thread(planned, seeing) == usual
