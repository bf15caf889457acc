"""A crash of an engine process over many requests at once."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from modeldeck.core.config.config import RuntimeSettings as Settings
from modeldeck.core.errors import EngineFailed, InvalidRequest
from modeldeck.core.schema import (
    Instance,
    InstanceState,
)
from tests.core.runtime.instance.many_requests.asked import Asked, idle
from tests.support.bench import Bench
from tests.support.scripted_engine import PIECE, open_gate
from tests.support.signals import suspend


async def killed(bench: Bench, instance: Instance, number: int = signal.SIGKILL) -> None:
    pid = bench.last(instance).pid
    assert pid is not None
    suspend(pid) if number == signal.SIGSTOP else os.kill(pid, number)


@pytest.mark.parametrize(
    ("number", "settings"),
    [
        (signal.SIGKILL, Settings(context_length=2048)),
        (signal.SIGSTOP, Settings(context_length=2048, silence_s=5)),
    ],
    ids=["killed", "silent"],
)
async def test_after_a_crash_what_has_shown_nothing_is_asked_again(
    bench: Bench, instance: Instance, tmp_path: Path, number: int
) -> None:
    writing = Asked(bench, instance, "say 5 hold")
    reading = Asked(bench, instance, "read 3 gate say 2")
    left = Asked(bench, instance, "hold")
    waiting = [Asked(bench, instance, "say 3") for _ in range(2)]
    await writing.until(text=5)
    await reading.until(state="prompt", prompt_read=2)
    await waiting[1].until(place=2)
    await killed(bench, instance, number)
    left.task.cancel()
    with pytest.raises(EngineFailed) as caught:
        await writing.answer()
    assert ("SIGKILL" if number == signal.SIGKILL else "sign of life") in str(caught.value)
    open_gate(tmp_path)
    assert await reading.answer() == PIECE * 2
    assert [await one.answer() for one in waiting] == [PIECE * 3] * 2
    assert len(reading.chunks) == 3
    again = await idle(bench, instance)
    assert (again.restarts, again.pid != instance.pid) == (1, True)


async def test_one_that_kills_its_engine_is_found_by_asking_it_alone_and_the_others_are_answered(
    bench: Bench, instance: Instance
) -> None:
    asked = [
        Asked(bench, instance, prompt)
        for prompt in ("read 200 say 2", "die", "read 200 say 3", "say 1")
    ]
    ends = await asyncio.gather(*(one.answer() for one in asked), return_exceptions=True)
    died = ends.pop(1)
    assert isinstance(died, EngineFailed)
    assert "this request alone" in died.message
    assert ends == [PIECE * 2, PIECE * 3, PIECE]
    assert (await idle(bench, instance)).restarts == 2


async def test_an_engine_that_goes_on_failing_fails_all_and_nobody_waits_for_ever(
    bench: Bench, instance: Instance
) -> None:
    asked = [Asked(bench, instance, prompt) for prompt in ("die", "die", "die", "hold")]
    ends = await asyncio.gather(*(one.answer() for one in asked), return_exceptions=True)
    assert [type(end) for end in ends] == [EngineFailed] * 4
    failed = await bench.until(instance, lambda i: i.state is InstanceState.FAILED)
    assert (failed.restarts, failed.requests, failed.running) == (2, 0, 0)


async def test_one_that_ran_alone_is_told_and_not_asked_again(
    bench: Bench, instance: Instance
) -> None:
    with pytest.raises(EngineFailed, match="SIGKILL"):
        await Asked(bench, instance, "die").answer()
    assert await Asked(bench, instance, "say 1").answer() == PIECE
    assert bench.last(instance).restarts == 1


async def test_a_stuck_request_is_told_and_the_others_are_asked_again(
    bench: Bench, instance: Instance, tmp_path: Path
) -> None:
    other, writing = Asked(bench, instance, "gate say 1"), Asked(bench, instance, "say 1 hold")
    await writing.until(text=1)
    stuck = Asked(bench, instance, "stuck")
    with pytest.raises(InvalidRequest, match="grammar took too long") as caught:
        await stuck.answer()
    assert "the model is loaded again" in caught.value.remedy
    with pytest.raises(EngineFailed) as told:
        await writing.answer()
    assert "another request" in told.value.message
    open_gate(tmp_path)
    assert await other.answer() == PIECE
    assert bench.last(instance).restarts == 1
