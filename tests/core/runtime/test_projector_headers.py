"""Spoiled projectors: the load works, or fails in words, and whatever happens the core lives."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from modeldeck.core.errors import DeckError, EngineFailed
from modeldeck.core.schema import GenerateRequest, LoadOptions
from tests.support.bench import PATIENCE_S, Bench, model
from tests.support.pictures import image, picture, recording, seen, tone
from tests.support.projector_kinds import KINDS
from tests.support.projector_mutations import spoiled, with_number
from tests.support.projectors import write_seeing_model, write_text_model

OPTIONS = LoadOptions(context_length=1024, parallel=1, threads=1)


def question(kind: str) -> GenerateRequest:
    media = recording(tone(1.0)) if KINDS[kind].hears else image(picture("red", (300, 200)))
    return seen("what", media, max_tokens=2)


async def outcome(bench: Bench, text: Path, projector: Path, kind: str) -> str:
    """How a load and a question about an image end; what is no `DeckError` is raised."""
    found = replace(model(text), projector=str(projector))
    instance = await bench.engines.load(found, OPTIONS)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await bench.engines.ready(instance.id)
    except DeckError as error:
        return "refused" if error.message else "without words"
    try:
        await bench.ask(instance, question(kind))
    except EngineFailed:
        return "died"
    except DeckError as error:
        return "not answered" if error.message else "without words"
    finally:
        await bench.engines.unload(instance.id)
    return "answered"


async def check(bench: Bench, folder: Path, count: int, seed: int) -> list[str]:
    texts: dict[str, Path] = {}
    found = []
    path = folder / "mmproj.gguf"
    for one in spoiled(folder / "plain", count, seed):
        if one.kind not in texts:
            texts[one.kind] = write_text_model(folder / one.kind / "model.gguf", one.kind)
        path.write_bytes(one.data)
        found.append(await outcome(bench, texts[one.kind], path, one.kind))
        assert found[-1] not in ("died", "without words"), f"{one.kind}: {one.what}"
    return found


async def test_a_spoiled_header_is_refused_or_does_no_harm(bench: Bench, tmp_path: Path) -> None:
    found = await check(bench, tmp_path, 13, seed=5)
    assert {"refused", "answered"} <= set(found)


@pytest.mark.slow
async def test_two_hundred_spoiled_headers_do_no_harm(bench: Bench, tmp_path: Path) -> None:
    found = await check(bench, tmp_path, 200, seed=6)
    assert found.count("refused") > 50
    assert found.count("answered") > 50


async def test_what_would_abort_is_refused_in_words_by_plan_and_load(
    bench: Bench, tmp_path: Path
) -> None:
    hearing = write_seeing_model(tmp_path, "ultravox")
    assert await outcome(bench, hearing.path, hearing.projector, "ultravox") == "answered"
    data = with_number(hearing.projector.read_bytes(), "clip.audio.projector.stack_factor", 8)
    hearing.projector.write_bytes(data)
    with pytest.raises(EngineFailed, match="its stack factor is 8"):
        await bench.engines.plan(hearing.path, OPTIONS, None, hearing.projector)
    instance = await bench.engines.load(
        replace(model(hearing.path), projector=str(hearing.projector)), OPTIONS
    )
    with pytest.raises(EngineFailed, match=r"its stack factor is 8.*vision=false"):
        await bench.engines.ready(instance.id)
    blind = replace(OPTIONS, vision=False)
    assert (await bench.engines.plan(hearing.path, blind, None, hearing.projector)).exact
