"""What goes wrong on the way: the job goes on, or says why not, and nothing wrong is kept."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldeck.core.schema import Download
from tests.core.downloads.conftest import EARLY

if TYPE_CHECKING:
    from tests.core.downloads.conftest import Rig

PADDED = "deck/padded-GGUF"
NAME = "padded-F16.gguf"
MIB = 1 << 20


async def fetched_whole(rig: Rig) -> Download:
    """The padded model, downloaded; what was published has the right hash."""
    file = rig.files(PADDED)[0]
    done = await rig.ended((await rig.start(PADDED)).id)  # joins the job that runs
    assert (done.state, done.error) == ("completed", None)
    content = await asyncio.to_thread(rig.cache.blob(PADDED, file.blob).read_bytes)
    assert hashlib.sha256(content).hexdigest() == file.blob
    assert not rig.cache.partial(PADDED, file.blob).exists()
    return done


@pytest.mark.parametrize("kind", ["reset", "truncate"])
async def test_a_broken_connection_costs_nothing_that_arrived(rig: Rig, kind: str) -> None:
    getattr(rig.hub.faults, kind)(10 * MIB, times=2, path=NAME)
    done = await fetched_whole(rig)
    sent = rig.fetched(NAME)
    assert [start for start, _ in sent].count(0) == 1
    # What lay in the sockets when the connection broke may come again.
    assert done.total_bytes <= sum(size for _, size in sent) <= done.total_bytes + 2 * 4 * MIB


async def test_a_stalled_connection_is_given_up(rig: Rig) -> None:
    await rig.reopen(stall_s=2)
    rig.hub.faults.stall(10 * MIB, path=NAME)
    await fetched_whole(rig)
    assert [start for start, _ in rig.fetched(NAME)].count(0) == 1


async def test_a_signed_url_that_expired_is_asked_for_anew(rig: Rig) -> None:
    # One connection, which breaks once the link has expired, however slow this machine is.
    await rig.reopen(connections=1)
    rig.hub.faults.stall(10 * MIB, path=NAME)
    job = await rig.start(PADDED)
    await rig.until(job.id, lambda j: j.received_bytes > MIB)
    rig.hub.expire_links()
    rig.hub.faults.cut()
    await fetched_whole(rig)
    asked = [e.status for e in rig.hub.log if e.origin == "hub" and e.file.endswith(NAME)]
    assert asked == [302, 302]
    assert not rig.hub.leaks


async def test_a_signed_url_that_is_refused_is_tried_again(rig: Rig) -> None:
    rig.hub.link_lifetime_s = -1
    job = await rig.start(PADDED)
    failed = await rig.ended(job.id)
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error.code == "hub_unavailable"
    rig.hub.link_lifetime_s = 60
    await fetched_whole(rig)


async def test_a_server_without_ranges_sends_it_all_and_the_start_is_skipped(rig: Rig) -> None:
    rig.hub.ranges = False
    rig.hub.faults.reset(10 * MIB, path=NAME)
    received = list[int]()
    rig.on_change = lambda job: received.append(job.received_bytes)
    await fetched_whole(rig)
    assert [start for start, _ in rig.fetched(NAME)] == [0, 0]
    assert received == sorted(received)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 408])
async def test_a_busy_hub_is_tried_again(rig: Rig, status: int) -> None:
    rig.hub.faults.status(status, times=2, retry_after_s=0, path=NAME)
    await fetched_whole(rig)


async def test_a_hub_that_stays_away_is_waited_for_and_the_job_goes_on_by_itself(
    rig: Rig,
) -> None:
    rig.hold()
    job = await rig.start(PADDED)
    await rig.until(job.id, lambda j: j.received_bytes > MIB)
    rig.hub.online = False
    waiting = await rig.until(job.id, lambda j: j.error is not None)
    assert waiting.state == "downloading"
    assert waiting.error is not None
    assert waiting.error.code == "hub_unavailable"
    assert waiting.error.remedy
    rig.let_go()
    rig.hub.clear_log()
    rig.hub.online = True
    done = await rig.ended(job.id)
    assert (done.state, done.error) == ("completed", None)
    assert rig.came_once(NAME, job.total_bytes - waiting.received_bytes)


async def test_cancel_ends_the_waiting_for_a_hub_that_stays_away(rig: Rig) -> None:
    await rig.reopen(retry_wait_s=3600)
    rig.hub.online = False
    job = await rig.start(PADDED)
    await rig.until(job.id, lambda j: j.error is not None)
    assert (await rig.downloads.cancel(job.id)).state == "canceled"


async def test_a_file_that_is_gone_says_so_at_once(rig: Rig) -> None:
    gone = rig.files("deck/tiny-GGUF")
    job = await rig.start(PADDED, gone)
    failed = await rig.ended(job.id)
    assert failed.error is not None
    assert failed.error.code == "not_found"
    asked = [exchange.path for exchange in rig.hub.log if exchange.status == 404]
    assert sorted(asked) == sorted(set(asked))
    assert asked


# Content that is not what was promised


async def test_a_flipped_byte_is_found_and_the_file_fetched_once_more(rig: Rig) -> None:
    rig.hub.faults.flip(EARLY, path=NAME)
    done = await fetched_whole(rig)
    assert rig.came_once(NAME, 2 * done.total_bytes)


async def test_corrupt_content_is_never_published_and_never_kept(rig: Rig) -> None:
    job = await rig.start("deck/corrupt-GGUF")
    failed = await rig.ended(job.id)
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error.code == "corrupt"
    assert failed.verified_bytes < failed.total_bytes
    assert [name for name in rig.stray() if "refs" in name or "snapshots/" in name] == []
    assert [name for name in rig.stray() if "/blobs/" in name] == []
    await rig.downloads.remove(job.id)
    assert rig.stray() == []


@pytest.mark.parametrize("change", ["blob", "size_bytes"])
async def test_a_file_that_differs_from_its_listing_is_refused(rig: Rig, change: str) -> None:
    file = rig.files(PADDED)[0]
    other = {
        "blob": replace(file, blob="0" * 64),
        "size_bytes": replace(file, size_bytes=file.size_bytes + 1),
    }
    job = await rig.start(PADDED, [other[change]])
    failed = await rig.ended(job.id)
    assert failed.error is not None
    assert failed.error.code == "corrupt"
    assert rig.fetched(NAME) == []


# What lies on disk


async def half(rig: Rig) -> Download:
    """The padded model's job, paused on the way: its one connection stalls until then."""
    await rig.reopen(connections=1)
    rig.hub.faults.stall(6 * MIB, path=NAME)
    job = await rig.start(PADDED)
    await rig.until(job.id, lambda j: j.received_bytes > 4 * MIB)
    paused = await rig.downloads.pause(job.id)
    rig.hub.faults.clear()
    rig.hub.clear_log()
    return paused


async def test_a_partial_that_was_damaged_is_fetched_anew(rig: Rig) -> None:
    paused = await half(rig)
    with rig.cache.partial(PADDED, rig.files(PADDED)[0].blob).open("r+b") as partial:
        partial.seek(2 * MIB)
        partial.write(b"damage")
    await rig.downloads.resume(paused.id)
    await fetched_whole(rig)
    assert rig.came_once(NAME, 2 * paused.total_bytes - paused.received_bytes)


async def test_a_partial_that_was_cut_goes_on_from_where_it_ends(rig: Rig) -> None:
    paused = await half(rig)
    os.truncate(rig.cache.partial(PADDED, rig.files(PADDED)[0].blob), 3 * MIB)
    await rig.downloads.resume(paused.id)
    await fetched_whole(rig)
    assert rig.came_once(NAME, paused.total_bytes - 3 * MIB)


async def test_what_was_not_synced_is_not_believed(rig: Rig) -> None:
    """A power loss: the partial is long, and what lies beyond the claim never reached the disk."""
    paused = await half(rig)
    await rig.close()
    path = rig.cache.partial(PADDED, rig.files(PADDED)[0].blob)
    with path.open("ab") as partial:
        partial.write(bytes(4 * MIB))
    await rig.open()
    await rig.downloads.resume(paused.id)
    await fetched_whole(rig)
    assert rig.came_once(NAME, paused.total_bytes - paused.received_bytes)


async def test_a_full_disk_pauses_the_job(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    write, limit = os.pwrite, 8 * MIB

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if offset + len(data) > limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    await rig.reopen(connections=1)  # several would meet the limit before the first comes there
    job = await rig.start(PADDED)
    paused = await rig.ended(job.id)
    assert (paused.state, paused.error and paused.error.code) == ("paused", "not_enough_disk")
    assert paused.received_bytes > 4 * MIB
    monkeypatch.undo()
    rig.hub.clear_log()
    await rig.downloads.resume(job.id)
    await fetched_whole(rig)
    assert rig.came_once(NAME, paused.total_bytes - paused.received_bytes)


async def test_a_cache_that_cannot_be_written_says_where(rig: Rig) -> None:
    rig.cache.root.mkdir()
    rig.cache.repo(PADDED).write_text("in the way")
    failed = await rig.ended((await rig.start(PADDED)).id)
    assert failed.error is not None
    assert failed.error.code == "storage_failed"
    assert str(rig.cache.repo(PADDED)) in failed.error.message


async def test_a_folder_that_leads_out_of_the_cache_is_not_written_through(
    rig: Rig, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    rig.cache.repo(PADDED).mkdir(parents=True)
    (rig.cache.repo(PADDED) / "blobs").symlink_to(outside)
    failed = await rig.ended((await rig.start(PADDED)).id)
    assert failed.error is not None
    assert failed.error.code == "storage_failed"
    assert list(outside.iterdir()) == []
