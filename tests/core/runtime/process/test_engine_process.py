"""An engine process that is started or ended while its caller is cancelled."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from modeldeck.core.errors import EngineFailed
from modeldeck.core.runtime.process import engine_process
from modeldeck.core.runtime.process.engine_log import LogLevel
from modeldeck.core.runtime.process.engine_process import EngineProcess
from modeldeck.core.runtime.process.messages import PROTOCOL
from modeldeck.core.schema import Engine

PATIENCE_S = 60.0
NO_ENGINE: Engine = "none"  # type: ignore[assignment]  # a child that ends after its hello


def ignore(_level: LogLevel, _text: str) -> None:
    """Take a log line."""


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """No process and no task may be left behind."""
    before = children()
    yield
    assert children() <= before
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture
def mute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children that never say hello, and end with their input."""
    program = tmp_path / "mute"
    program.write_text("#!/bin/sh\nexec cat >/dev/null\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))


@pytest.mark.usefixtures("mute")
@pytest.mark.parametrize("steps", range(8))
@pytest.mark.parametrize("cancellations", [1, 2])
async def test_a_start_that_is_cancelled_leaves_nothing(steps: int, cancellations: int) -> None:
    """At any step of asyncio's making of the process, and once more while it is ended."""
    start = asyncio.create_task(EngineProcess.start(NO_ENGINE, ignore))
    for _ in range(steps):
        await asyncio.sleep(0)
    for _ in range(cancellations):
        start.cancel()
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait({start})
    assert start.cancelled()


async def test_a_process_is_ended_when_the_wait_for_it_is_cancelled() -> None:
    process = await EngineProcess.start("llama.cpp", ignore)
    end = asyncio.create_task(process.end())
    await asyncio.sleep(0)
    end.cancel()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait({end})
    assert end.cancelled()
    assert process.gone


async def test_a_process_that_is_killed_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little time it had to end by itself: on a busy machine it is gone a little later."""
    process = await EngineProcess.start("llama.cpp", ignore)
    monkeypatch.setattr(engine_process, "END_S", 0)
    assert await process.end()


async def test_a_child_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_process, "PROTOCOL", PROTOCOL + 1)
    with pytest.raises(EngineFailed, match="another version") as caught:
        await EngineProcess.start("llama.cpp", ignore)
    assert "Start modeldeck again" in caught.value.remedy


async def test_an_engine_that_does_not_exist_says_so() -> None:
    with pytest.raises(EngineFailed, match="There is no engine 'none'"):
        await EngineProcess.start(NO_ENGINE, ignore)
