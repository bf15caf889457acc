"""The end of an instance is told to those who wait for it, whatever fails on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.schema import InstanceState, LoadOptions
from tests.support.bench import PATIENCE_S, Bench, alive, model

S = InstanceState


@pytest.fixture
async def bugs() -> list[dict[str, Any]]:
    """What reaches the exception handler of the loop."""
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    return seen


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(Settings(context_length=512))
    await bench.engines.open()
    yield bench
    async with asyncio.timeout(PATIENCE_S):
        await bench.engines.close()


@pytest.fixture
def tiny(demo_models: Path) -> Path:
    return demo_models / "tiny-GGUF" / "tiny-F16.gguf"


@pytest.mark.parametrize("error", [OSError(5, "io"), ZeroDivisionError("a bug")])
async def test_a_process_that_cannot_be_measured_is_ended_all_the_same(
    bench: Bench, tiny: Path, bugs: list[dict[str, Any]], error: Exception
) -> None:
    def broken(_: int) -> None:
        raise error

    instance = await bench.loaded(tiny)
    assert instance.pid is not None
    bench.engines._measure_process = broken
    async with asyncio.timeout(PATIENCE_S):
        receipt = await bench.engines.unload(instance.id)
    assert receipt.process_gone
    assert (receipt.before_bytes, receipt.freed_bytes) == (None, None)
    assert not alive(instance.pid)
    assert bench.last(instance).state is S.STOPPED
    assert [context["exception"] for context in bugs] == (
        [error] if isinstance(error, ZeroDivisionError) else []
    )


async def test_whoever_is_told_may_fail_and_the_instance_ends_all_the_same(
    bench: Bench, tiny: Path, bugs: list[dict[str, Any]]
) -> None:
    instance = await bench.loaded(tiny)
    assert instance.pid is not None

    def broken(_: object) -> None:
        raise ZeroDivisionError("a bug")

    bench.engines._on_change = broken
    async with asyncio.timeout(PATIENCE_S):
        assert (await bench.engines.unload(instance.id)).process_gone
    assert not alive(instance.pid)
    assert not bench.engines.instances
    assert bugs


async def test_those_who_wait_for_the_end_are_told_when_the_end_itself_fails(
    bench: Bench, tmp_path: Path, bugs: list[dict[str, Any]]
) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF and nothing else")
    said = bench.engines._on_log

    def broken(source: str, level: Any, text: str) -> None:
        if text.startswith("failed"):
            raise ZeroDivisionError("a bug")
        said(source, level, text)

    bench.engines._on_log = broken
    instance = await bench.engines.load(model(bad), LoadOptions())
    supervisor = bench.engines._supervisors[instance.id]
    async with asyncio.timeout(PATIENCE_S):
        assert (await supervisor.ended()).process_gone
        while not bugs:  # noqa: ASYNC110  # the handler of a loop sets no event
            await asyncio.sleep(0.01)
