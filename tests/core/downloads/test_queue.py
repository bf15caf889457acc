"""The queue against the demo hub: what is published, and what a person can do to a job."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import snapshot_download

from modeldeck.core.demo.hub import STRANGER, TOKEN
from modeldeck.core.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    ShuttingDown,
)
from modeldeck.core.schema import Download, RepoFile

if TYPE_CHECKING:
    from tests.core.downloads.conftest import Rig

PADDED = "deck/padded-GGUF"
TINY = "deck/tiny-GGUF"
MLX = "deck/tiny-mlx"
FAST = 50_000_000


def is_moving(job: Download) -> bool:
    return job.received_bytes > 1 << 20


@pytest.mark.parametrize("repo", [TINY, PADDED, "deck/tiny-split-GGUF", MLX])
async def test_what_is_downloaded_is_what_the_hub_has(rig: Rig, repo: str) -> None:
    revision, files = rig.repo(repo)
    job = await rig.start(repo, files)
    assert job.state == "queued"
    done = await rig.ended(job.id)
    assert (done.state, done.error) == ("completed", None)
    assert done.received_bytes == done.verified_bytes == done.total_bytes
    assert done.total_bytes == sum(file.size_bytes for file in files)
    assert {file.state for file in done.files} == {"completed"}
    await rig.hub_agrees(repo)
    folder = await asyncio.to_thread(
        snapshot_download, repo, cache_dir=rig.cache.root, local_files_only=True
    )
    assert os.path.basename(folder) == revision
    for file in files:
        found = rig.cache.pointer(repo, revision, file.path).stat()
        assert found.st_size == file.size_bytes
    assert not rig.hub.leaks


async def test_states_come_in_order_and_progress_never_goes_back(rig: Rig) -> None:
    rig.downloads.set_limit(FAST // 2)
    job = await rig.start(PADDED)
    await rig.ended(job.id)
    states = list(dict.fromkeys(change.state for change in rig.changes))
    assert states == ["queued", "downloading", "verifying", "completed"]
    received = [change.received_bytes for change in rig.changes]
    assert received == sorted(received)
    assert any(change.rate_bytes_per_s for change in rig.changes)
    assert all(change.verified_bytes <= change.received_bytes for change in rig.changes)
    assert rig.changes[-1].rate_bytes_per_s is None


async def test_the_files_are_there_before_the_job_is_completed(rig: Rig) -> None:
    revision, files = rig.repo(MLX)
    there: list[bool] = []

    def look(job: Download) -> None:
        if job.state == "completed":
            there.extend(rig.cache.pointer(MLX, revision, f.path).exists() for f in files)

    rig.on_change = look
    await rig.ended((await rig.start(MLX, files)).id)
    assert there == [True] * len(files)


async def test_nothing_is_visible_before_all_of_it_is_verified(rig: Rig) -> None:
    """All parts of a split model but one are verified while that one still comes."""
    files = rig.files("deck/tiny-split-GGUF")
    last = max(files, key=lambda file: file.blob)
    rig.hub.faults.stall(last.size_bytes // 2, path=last.path)
    job = await rig.start("deck/tiny-split-GGUF", files)
    rest = job.total_bytes - last.size_bytes
    await rig.until(job.id, lambda j: j.verified_bytes >= rest and j.received_bytes > rest)
    shown = [name for name in rig.stray() if "/snapshots/" in name or "/refs" in name]
    blobs = [name for name in rig.stray() if "/blobs/" in name]
    assert shown == []
    assert len(blobs) == len(files)
    assert all(name.endswith(".modeldeck.incomplete") for name in blobs)
    rig.hub.faults.clear()
    assert (await rig.ended(job.id)).state == "completed"


async def test_cancel_keeps_what_arrived_and_the_next_start_goes_on_from_there(rig: Rig) -> None:
    rig.hold()
    job = await rig.start(PADDED)
    await rig.until(job.id, is_moving)
    canceled = await rig.downloads.cancel(job.id)
    assert canceled.state == "canceled"
    kept = canceled.received_bytes
    assert kept > 1 << 20
    partial = rig.cache.partial(PADDED, rig.files(PADDED)[0].blob).stat()
    assert partial.st_size >= kept
    assert partial.st_blocks * 512 < kept + (1 << 20), "room for the rest was given back"
    rig.let_go()
    again = await rig.start(PADDED)
    assert (again.id, again.received_bytes) == (job.id, kept)
    assert (await rig.ended(job.id)).state == "completed"
    assert rig.sent("padded-F16.gguf") >= job.total_bytes
    assert [start for start, _ in rig.fetched("padded-F16.gguf")].count(0) == 1
    await rig.hub_agrees(PADDED)


async def test_cancel_with_discard_leaves_no_file_behind(rig: Rig) -> None:
    rig.hold()
    job = await rig.start(PADDED)
    await rig.until(job.id, is_moving)
    canceled = await rig.downloads.cancel(job.id, discard=True)
    assert (canceled.state, canceled.received_bytes) == ("canceled", 0)
    assert rig.stray() == []


async def test_cancel_stops_a_transfer_that_hangs(rig: Rig) -> None:
    rig.hold()
    job = await rig.start(PADDED)
    await rig.until(job.id, is_moving)
    assert (await rig.downloads.cancel(job.id)).state == "canceled"
    assert (await rig.downloads.cancel(job.id)).state == "canceled"


async def test_a_completed_job_stays_completed(rig: Rig) -> None:
    job = await rig.ended((await rig.start(TINY)).id)
    for verb in (rig.downloads.cancel, rig.downloads.pause, rig.downloads.resume):
        assert (await verb(job.id)).state == "completed"
    await rig.downloads.cancel(job.id, discard=True)
    await rig.hub_agrees(TINY)


async def test_pause_and_resume(rig: Rig) -> None:
    rig.hold()
    job = await rig.start(PADDED)
    await rig.until(job.id, is_moving)
    paused = await rig.downloads.pause(job.id)
    assert (paused.state, paused.rate_bytes_per_s) == ("paused", None)
    assert (await rig.downloads.pause(job.id)).state == "paused"
    rig.let_go()
    rig.hub.clear_log()
    assert (await rig.downloads.resume(job.id)).state == "queued"
    assert (await rig.ended(job.id)).state == "completed"
    assert rig.came_once("padded-F16.gguf", paused.total_bytes - paused.received_bytes)


async def test_a_second_start_joins_the_first(rig: Rig) -> None:
    rig.hub.rate_bytes_per_s = FAST
    first, second = await asyncio.gather(rig.start(PADDED), rig.start(PADDED))
    assert first.id == second.id
    await rig.ended(first.id)
    assert rig.came_once("padded-F16.gguf", first.total_bytes, first.total_bytes // 2)


async def test_content_that_two_jobs_want_is_fetched_once(rig: Rig) -> None:
    rig.hub.rate_bytes_per_s = FAST
    jobs = [await rig.start(PADDED, label=label) for label in ("A", "B")]
    assert jobs[0].id != jobs[1].id
    assert [(await rig.ended(job.id)).state for job in jobs] == ["completed"] * 2
    assert rig.came_once("padded-F16.gguf", jobs[0].total_bytes, jobs[0].total_bytes // 2)


async def test_discarding_one_job_leaves_another_what_it_needs(rig: Rig) -> None:
    rig.hold()
    first, second = [await rig.start(PADDED, label=label) for label in ("A", "B")]
    await rig.until(first.id, is_moving)
    await rig.downloads.cancel(first.id, discard=True)
    rig.let_go()
    assert (await rig.ended(second.id)).state == "completed"
    assert [start for start, _ in rig.fetched("padded-F16.gguf")].count(0) == 1


async def test_so_many_jobs_at_once_and_the_others_in_their_order(rig: Rig) -> None:
    await rig.reopen(jobs_at_once=1)
    rig.hold()
    repos = [PADDED, TINY, "deck/tiny-embed-GGUF"]
    jobs = [await rig.start(repo) for repo in repos]
    assert [rig.downloads.jobs[job.id].state for job in jobs][1:] == ["queued", "queued"]
    rig.let_go()
    for job in jobs:
        assert (await rig.ended(job.id)).state == "completed"
    began = [change.id for change in rig.changes if change.state == "downloading"]
    assert list(dict.fromkeys(began)) == [job.id for job in jobs]


async def test_a_job_that_is_moved_first_runs_in_place_of_another(rig: Rig) -> None:
    await rig.reopen(jobs_at_once=1)
    rig.hold()
    big = await rig.start(PADDED)
    await rig.until(big.id, is_moving)
    small = await rig.start(TINY)
    assert (await rig.downloads.move(small.id, "first")).position < big.position
    kept = rig.downloads.jobs[big.id]
    assert (kept.state, kept.rate_bytes_per_s) == ("queued", None)
    rig.let_go()
    assert (await rig.ended(small.id)).state == "completed"
    assert rig.changes[-1].state != "completed" or rig.changes[-1].id == small.id
    assert (await rig.ended(big.id)).state == "completed"
    assert kept.received_bytes > 1 << 20
    assert [start for start, _ in rig.fetched("padded-F16.gguf")].count(0) == 1


async def test_the_order_survives_a_restart(rig: Rig) -> None:
    await rig.reopen(jobs_at_once=1)
    rig.hold()
    jobs = [await rig.start(repo) for repo in (PADDED, TINY, "deck/tiny-embed-GGUF")]
    await rig.downloads.move(jobs[2].id, "up")
    await rig.downloads.move(jobs[0].id, "down")
    wanted = [jobs[2].id, jobs[0].id, jobs[1].id]
    await rig.close()
    rig.changes.clear()
    rig.let_go()
    await rig.open()
    for job in jobs:
        assert (await rig.ended(job.id)).state == "completed"
    began = [change.id for change in rig.changes if change.state == "downloading"]
    assert list(dict.fromkeys(began)) == wanted
    with pytest.raises(Conflict):
        await rig.downloads.move(jobs[0].id, "first")


async def test_what_a_running_job_was_told_is_kept_when_it_ends(rig: Rig) -> None:
    rig.hold()
    first, second = [await rig.start(PADDED, label=label) for label in ("A", "B")]
    await rig.until(first.id, is_moving)
    await rig.downloads.move(first.id, "last")
    rig.let_go()
    assert (await rig.ended(first.id)).position > second.position
    await rig.ended(second.id)
    await rig.reopen()
    assert rig.downloads.jobs[first.id].position > second.position


async def test_a_job_keeps_its_limit_over_a_restart(rig: Rig) -> None:
    rig.hold()
    job = await rig.start(PADDED)
    assert (await rig.downloads.set_job_limit(job.id, 5_000)).rate_limit_bytes_per_s == 5_000
    with pytest.raises(InvalidRequest):
        await rig.downloads.set_job_limit(job.id, 0)
    await rig.reopen()
    assert rig.downloads.jobs[job.id].rate_limit_bytes_per_s == 5_000
    await rig.downloads.cancel(job.id)
    assert (await rig.start(PADDED)).rate_limit_bytes_per_s == 5_000
    assert (await rig.downloads.set_job_limit(job.id, None)).rate_limit_bytes_per_s is None
    with pytest.raises(NotFound):
        await rig.downloads.set_job_limit("none", 5_000)


async def test_the_number_of_jobs_at_once_changes_while_they_run(rig: Rig) -> None:
    await rig.reopen(jobs_at_once=1)
    rig.hold()
    jobs = [await rig.start(repo) for repo in (PADDED, TINY)]
    await rig.downloads.set_jobs_at_once(2)
    for job in jobs:
        await rig.until(job.id, lambda j: j.state == "downloading")
    await rig.downloads.set_jobs_at_once(1)
    assert [rig.downloads.jobs[job.id].state for job in jobs] == ["downloading", "queued"]


async def test_what_was_under_way_goes_on_after_a_restart_and_what_was_paused_waits(
    rig: Rig,
) -> None:
    rig.hold()
    running = await rig.start(PADDED)
    await rig.until(running.id, is_moving)
    paused = await rig.start(TINY)
    await rig.downloads.pause(paused.id)
    rig.let_go()
    await rig.reopen()
    assert rig.downloads.jobs[paused.id].state == "paused"
    assert (await rig.ended(running.id)).state == "completed"
    assert [start for start, _ in rig.fetched("padded-F16.gguf")].count(0) == 1
    assert (await rig.downloads.resume(paused.id)).state in ("queued", "downloading")
    assert (await rig.ended(paused.id)).state == "completed"
    await rig.reopen()
    assert {job.state for job in rig.downloads.jobs.values()} == {"completed"}


async def test_removing_a_job_forgets_it_and_its_partials(rig: Rig) -> None:
    rig.hold()
    job = await rig.start(PADDED)
    await rig.until(job.id, is_moving)
    with pytest.raises(Conflict):
        await rig.downloads.remove(job.id)
    await rig.downloads.cancel(job.id)
    await rig.downloads.remove(job.id)
    assert rig.stray() == []
    assert not rig.downloads.jobs
    with pytest.raises(NotFound):
        await rig.downloads.cancel(job.id)
    await rig.reopen()
    assert not rig.downloads.jobs


async def test_a_closed_queue_takes_nothing_new(rig: Rig) -> None:
    await rig.downloads.close()
    with pytest.raises(ShuttingDown):
        await rig.start(TINY)
    await rig.downloads.open()


async def test_a_caller_that_hangs_up_leaves_no_job_between_two_states(rig: Rig) -> None:
    rig.hold()
    job = await rig.start(PADDED)
    await rig.until(job.id, is_moving)
    call = asyncio.create_task(rig.downloads.cancel(job.id))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert rig.downloads.jobs[job.id].state == "canceled"


async def test_a_bug_is_reported_and_the_job_does_not_look_alive(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    monkeypatch.setattr(rig.cache, "set_ref", broken)
    job = await rig.start(TINY)
    failed = await rig.ended(job.id)
    assert failed.state == "failed"
    assert failed.error is not None
    assert "ZeroDivisionError" in failed.error.message
    monkeypatch.undo()
    await rig.downloads.resume(job.id)
    assert (await rig.ended(job.id)).state == "completed"
    assert [type(context["exception"].__cause__) for context in seen] == [ZeroDivisionError]


BAD = [
    {"path": "../outside.gguf"},
    {"path": "/etc/passwd"},
    {"path": "a\\b.gguf"},
    {"path": "CON.gguf"},
    {"blob": "../../" + "0" * 58},
    {"blob": "A" * 64},
    {"blob": "0" * 40},
    {"size_bytes": -1},
]


@pytest.mark.parametrize("change", BAD, ids=str)
async def test_names_that_lead_out_of_the_cache_are_refused(
    rig: Rig, change: dict[str, Any]
) -> None:
    file = RepoFile(path="model.gguf", size_bytes=1, blob="0" * 64, lfs=True)
    with pytest.raises(InvalidRequest):
        await rig.start(TINY, [replace(file, **change)])
    assert not rig.downloads.jobs
    assert rig.stray() == []


# Gated repositories


@pytest.mark.parametrize("token", [None, STRANGER])
async def test_a_gated_repository_says_what_to_do(rig: Rig, token: str | None) -> None:
    rig.token = token
    failed = await rig.ended((await rig.start("deck/gated-GGUF")).id)
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error.code == "gated"
    assert "hf auth login" in failed.error.remedy
    rig.token = TOKEN
    await rig.downloads.resume(failed.id)
    assert (await rig.ended(failed.id)).state == "completed"
    assert not rig.hub.leaks
    assert any(exchange.authorization for exchange in rig.hub.log)
