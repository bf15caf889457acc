"""Verbs of the queue while the journal's disk is really full: refused, and nothing is half done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING

import pytest

from modeldeck.core.downloads import journal
from modeldeck.core.errors import NotEnoughDisk
from modeldeck.core.hub_cache.stores import CacheStores
from modeldeck.core.schema import Download

if TYPE_CHECKING:
    from tests.core.conftest import SmallDisk
    from tests.core.downloads.conftest import Rig

PADDED = "deck/padded-GGUF"
TINY = "deck/tiny-GGUF"
SLOW, FAST = 500_000, 50_000_000
"""Bytes per second at which the padded model takes a minute, and a second."""


@pytest.fixture
async def full(rig: Rig, small_disk: SmallDisk) -> AsyncIterator[SmallDisk]:
    """The disk that the rig's journal lies on; the cache lies elsewhere."""
    await rig.close()
    rig.folder = small_disk.path
    await rig.open()
    yield small_disk
    small_disk.make_room()


def moves(job: Download) -> bool:
    return job.state == "downloading" and job.received_bytes > 0


async def begun(rig: Rig) -> Download:
    rig.downloads.set_limit(SLOW)
    return await rig.until((await rig.start(PADDED)).id, moves)


async def goes_on(rig: Rig, disk: SmallDisk, job: Download) -> None:
    """Assert that the job comes to its end by itself once there is room."""
    disk.make_room()
    rig.downloads.set_limit(None)
    done = await rig.until(job.id, lambda j: j.state == "completed")
    assert done.error is None


@pytest.mark.parametrize("verb", ["pause", "cancel", "discard"])
async def test_a_job_that_cannot_be_stopped_for_good_goes_on(
    rig: Rig, full: SmallDisk, verb: str
) -> None:
    job, downloads = await begun(rig), rig.downloads
    full.fill()
    with pytest.raises(NotEnoughDisk):
        await {
            "pause": partial(downloads.pause, job.id),
            "cancel": partial(downloads.cancel, job.id),
            "discard": partial(downloads.cancel, job.id, discard=True),
        }[verb]()
    await goes_on(rig, full, job)


async def test_a_job_that_has_to_wait_for_its_turn_is_queued_all_the_same(
    rig: Rig, full: SmallDisk
) -> None:
    job = await begun(rig)
    await rig.downloads.set_jobs_at_once(1)
    other = await rig.start(TINY)
    assert rig.downloads.jobs[other.id].state == "queued"
    full.fill()
    with pytest.raises(NotEnoughDisk):
        await rig.downloads.move(other.id, "first")
    assert rig.downloads.jobs[job.id].position < rig.downloads.jobs[other.id].position
    full.make_room()
    await rig.downloads.move(other.id, "first")
    full.fill()
    await rig.downloads.set_jobs_at_once(2)
    await rig.downloads.set_jobs_at_once(1)
    await goes_on(rig, full, job)
    assert (await rig.until(other.id, lambda j: j.state == "completed")).error is None


async def test_a_limit_that_cannot_be_written_is_not_in_force(rig: Rig, full: SmallDisk) -> None:
    job = await begun(rig)
    await rig.downloads.set_job_limit(job.id, FAST)
    full.fill()
    with pytest.raises(NotEnoughDisk):
        await rig.downloads.set_job_limit(job.id, 1)
    await goes_on(rig, full, job)
    assert rig.downloads.jobs[job.id].rate_limit_bytes_per_s == FAST


async def test_what_is_discarded_makes_the_room_that_noting_it_takes(
    rig: Rig, small_disk: SmallDisk
) -> None:
    await rig.close()
    rig.folder = small_disk.path
    rig.shelves = CacheStores(small_disk.path / "hub", small_disk.path / "files")
    rig.cache = rig.shelves.hub
    await rig.open()
    rig.downloads.set_limit(20_000)
    job = await rig.until((await rig.start(TINY)).id, moves)
    while not (await journal.DownloadJournal(rig.store).read())[1]:  # noqa: ASYNC110  # no event tells
        await asyncio.sleep(0.01)  # until something is durable, and claimed
    await rig.downloads.pause(job.id)  # which gives back the room of what did not come
    small_disk.fill()
    stopped = await rig.downloads.cancel(job.id, discard=True)
    assert stopped.state == "canceled"
    assert stopped.received_bytes == 0
    assert not [name for name in rig.stray() if name.endswith(".incomplete")]
    small_disk.make_room()


async def test_the_journal_is_read_when_it_cannot_be_tidied(
    rig: Rig, full: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = await rig.start(TINY), await rig.start("deck/tiny-embed-GGUF")
    for job in (old, new):
        await rig.until(job.id, lambda j: j.state == "completed")
    monkeypatch.setattr(journal, "KEPT_COMPLETED", 1)
    full.fill()
    jobs, _ = await journal.DownloadJournal(rig.store).read()
    assert len(jobs) == 1
    monkeypatch.undo()
    assert len((await journal.DownloadJournal(rig.store).read())[0]) == 2
