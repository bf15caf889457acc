"""Downloads and the room on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldeck.core.errors import (
    NotEnoughDisk,
)
from tests.core.downloads.test_queue import PADDED, TINY, is_moving

if TYPE_CHECKING:
    from tests.core.downloads.conftest import Rig


async def test_not_enough_disk_is_said_before_the_first_byte(rig: Rig) -> None:
    rig.free = 1 << 20
    with pytest.raises(NotEnoughDisk, match="GB are needed"):
        await rig.start(PADDED)
    assert not rig.downloads.jobs
    assert rig.stray() == []
    assert rig.fetched("padded-F16.gguf") == []


async def test_room_is_promised_to_one_job_only(rig: Rig) -> None:
    rig.hold()
    small = sum(file.size_bytes for file in rig.files(TINY))
    rig.disk = sum(file.size_bytes for file in rig.files(PADDED)) + small // 2
    job = await rig.start(PADDED)
    with pytest.raises(NotEnoughDisk):
        await rig.start(TINY)
    await rig.until(job.id, is_moving)
    with pytest.raises(NotEnoughDisk):
        await rig.start(TINY)
    await rig.downloads.cancel(job.id)
    rig.let_go()
    assert (await rig.ended((await rig.start(TINY)).id)).state == "completed"


async def test_running_out_of_disk_pauses_with_everything_kept(rig: Rig) -> None:
    await rig.reopen(disk_floor_bytes=1 << 30)
    rig.free = 10 << 30
    rig.downloads.set_limit(2_000_000)
    job = await rig.start(PADDED)
    await rig.until(job.id, is_moving)
    rig.free = 1 << 20
    paused = await rig.ended(job.id)
    assert paused.state == "paused"
    assert paused.error is not None
    assert paused.error.code == "not_enough_disk"
    assert paused.error.remedy
    assert paused.received_bytes > 1 << 20
    with pytest.raises(NotEnoughDisk):
        await rig.downloads.resume(job.id)
    assert rig.downloads.jobs[job.id].state == "paused"
    rig.downloads.set_limit(None)
    rig.hub.clear_log()
    rig.free = 10 << 30  # and no call has to say so
    assert (await rig.until(job.id, lambda j: j.state == "completed")).error is None
    assert rig.came_once("padded-F16.gguf", paused.total_bytes - paused.received_bytes)


async def test_a_job_that_waits_for_room_can_be_held_and_waits_over_a_restart(rig: Rig) -> None:
    await rig.reopen(disk_floor_bytes=1 << 30)
    rig.free = 10 << 30
    rig.downloads.set_limit(2_000_000)
    job = await rig.start(PADDED)
    await rig.until(job.id, is_moving)
    rig.free = 1 << 20
    await rig.ended(job.id)
    await rig.reopen()
    assert (waits := rig.downloads.jobs[job.id]).state == "paused"
    assert waits.error is not None
    held = await rig.downloads.pause(job.id)
    assert (held.state, held.error) == ("paused", None)
    rig.free = 10 << 30
    await rig.reopen()
    assert rig.downloads.jobs[job.id].state == "paused"
    assert (await rig.downloads.resume(job.id)).state in ("queued", "downloading")
