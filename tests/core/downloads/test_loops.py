"""The loops of the queue go on after a turn that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from modeldeck.core.errors import StorageFailed
from modeldeck.core.schema import Download

if TYPE_CHECKING:
    from tests.core.downloads.conftest import Rig

PADDED = "deck/padded-GGUF"
ERRORS = (StorageFailed("no"), OSError(5, "io"), ZeroDivisionError("a bug"))


@pytest.fixture
async def bugs() -> list[dict[str, Any]]:
    """What reaches the exception handler of the loop."""
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    return seen


async def test_progress_is_told_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, bugs: list[dict[str, Any]]
) -> None:
    table, errors = rig.downloads._table, list(ERRORS)
    tell = table.announce_progress

    def failing(now: float) -> None:
        if errors:
            raise errors.pop()
        tell(now)

    monkeypatch.setattr(table, "announce_progress", failing)
    rig.downloads.set_limit(1_000_000)
    job = await rig.start(PADDED)
    await rig.until(job.id, lambda j: j.rate_bytes_per_s is not None)
    assert not errors
    rig.downloads.set_limit(None)
    assert (await rig.ended(job.id)).state == "completed"
    assert [type(context["exception"]) for context in bugs] == [ZeroDivisionError]


async def test_a_job_that_waits_for_room_is_tried_again_after_any_failure(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, bugs: list[dict[str, Any]]
) -> None:
    guard, errors = rig.downloads._disk_space, list(ERRORS)
    retry: Callable[[str], Awaitable[None]] = guard._retry

    async def failing(job_id: str) -> None:
        if errors:
            raise errors.pop()
        await retry(job_id)

    monkeypatch.setattr(guard, "_retry", failing)
    rig.free = 100 << 20
    rig.downloads.set_limit(1_000_000)
    job = await rig.until((await rig.start(PADDED)).id, lambda j: j.received_bytes > 0)
    await rig.reopen(disk_floor_bytes=rig.free + 1)
    monkeypatch.setattr(rig.downloads._disk_space, "_retry", failing)
    paused = await rig.until(job.id, lambda j: j.state == "paused")
    assert paused.error is not None
    retry = rig.downloads._retry
    rig.free = 200 << 20
    assert (await rig.until(job.id, lambda j: j.state == "completed")).error is None
    assert not errors


async def test_whoever_is_told_may_fail_and_the_job_goes_on(
    rig: Rig, bugs: list[dict[str, Any]]
) -> None:
    def broken(_: Download) -> None:
        raise ZeroDivisionError("a bug")

    rig.on_change = broken
    job = await rig.start(PADDED)
    async with asyncio.timeout(120):
        while rig.downloads.jobs[job.id].state != "completed":  # noqa: ASYNC110  # a state without an event
            await asyncio.sleep(0.01)
    assert bugs
