"""`kill -9` of a process that downloads, at chosen points; another one goes on and finishes."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import Process
from typing import TYPE_CHECKING

import msgspec
import pytest

from modeldeck.core.downloads.job_records import DownloadJob, DurableRanges
from modeldeck.core.downloads.journal import DownloadJournal
from modeldeck.core.downloads.ranges import covered
from modeldeck.core.storage.database import Database
from tests.core.downloads.conftest import EARLY

if TYPE_CHECKING:
    from tests.core.downloads.conftest import Rig

PADDED = "deck/padded-GGUF"
NAME = "padded-F16.gguf"
MIB = 1 << 20

CONNECTIONS = 4

STOP_BYTES = 3 * MIB
"""What each connection of the child brings before it stands still, in a part of at least 4 MiB."""

CHILD = """
import asyncio, itertools, os, pathlib, signal, sys
import msgspec
from modeldeck.core.hub_cache import layout
from modeldeck.core.config.config import DownloadSettings as Settings
from modeldeck.core.downloads.transfer import written_ranges, partial_file as partial
from modeldeck.core.downloads import queue, journal
from modeldeck.core.downloads.http import source
from modeldeck.core.schema import Model, RepoFile
from modeldeck.core.storage.database import Database

folder, endpoint, revision, files, where, when, ahead = sys.argv[1:]
if ahead:
    written_ranges.UNSYNCED_BYTES = int(ahead)
owners = {
    "Cache": layout.HubCache, "Journal": journal.DownloadJournal,
    "Partial": partial.PartialFile, "os": os,
}

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def arm(owner, name, count):
    real = getattr(owner, name)
    calls = itertools.count(1)  # several threads call it at once
    def dying(*args, **kwargs):
        last = next(calls) == count
        if when == "before" and last:
            die()
        result = real(*args, **kwargs)
        if when == "after" and last:
            die()
        return result
    async def dying_async(*args, **kwargs):
        last = next(calls) == count
        if when == "before" and last:
            die()
        result = await real(*args, **kwargs)
        if when == "after" and last:
            die()
        return result
    setattr(owner, name, dying_async if asyncio.iscoroutinefunction(real) else dying)

async def main():
    store = Database(pathlib.Path(folder, "state", "modeldeck.sqlite3"))
    await store.open()
    downloads = queue.DownloadQueue(
        store=store, cache=layout.HubCache(pathlib.Path(folder, "hub")),
        settings=Settings(disk_floor_bytes=0, connections=4),
        source=source.DownloadSource(endpoint, lambda: None, 20), free_bytes=lambda repo: None,
        on_change=lambda job: None, check=lambda path: None)
    await downloads.open()
    if where:
        owner, name, count = where.split(" ")
        arm(owners[owner], name, int(count))
    model = Model(id="x", unique="deck/x", name="x", format="gguf", source="hub",
                  repo="deck/padded-GGUF")
    await downloads.start(model, revision, msgspec.json.decode(files, type=tuple[RepoFile, ...]))
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def killed(rig: Rig, where: str = "", when: str = "", ahead: str = "") -> Process:
    """A process that began to download, and will be killed, or kills itself where it is told.

    `ahead` is what each connection may be ahead of what is synced, where not as usual.
    """
    await rig.close()
    revision, _ = rig.repo(PADDED)
    files = msgspec.json.encode(rig.files(PADDED)).decode()
    words = [str(rig.folder), rig.hub.url, revision, files, where, when, ahead]
    return await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, *words)


async def journal(rig: Rig) -> tuple[list[DownloadJob], list[DurableRanges]]:
    """What the journal says, before anybody goes on with it."""
    store = Database(rig.folder / "state" / "modeldeck.sqlite3")
    await store.open()
    try:
        return await DownloadJournal(store).read()
    finally:
        await store.close()


async def finished(rig: Rig) -> None:
    """Assert that the job goes on by itself, and leaves exactly what it should."""
    await rig.open()
    (job_id,) = rig.downloads.jobs
    done = await rig.ended(job_id)
    assert (done.state, done.error) == ("completed", None)
    names = [name.split("/", 1)[1] for name in rig.stray() if "/" in name]
    revision, (file,) = rig.repo(PADDED)[0], rig.files(PADDED)
    assert names == [
        "blobs",
        f"blobs/{file.blob}",
        "refs",
        "refs/main",
        "snapshots",
        f"snapshots/{revision}",
        f"snapshots/{revision}/{file.path}",
    ]
    await rig.hub_agrees(PADDED)


async def test_a_kill_in_the_middle_costs_at_most_one_part_of_each_connection(rig: Rig) -> None:
    size = rig.files(PADDED)[0].size_bytes
    rig.hub.latency_s = 0.1  # a late first answer opens all connections
    rig.hub.faults.stall(STOP_BYTES, times=100, path=NAME)
    process = await killed(rig, ahead=str(MIB))
    async with asyncio.timeout(120):
        # Neither the hub's log nor the journal sends an event.
        stopped = durable = 0
        while stopped < CONNECTIONS or durable < stopped * (STOP_BYTES - MIB):
            await asyncio.sleep(0.05)
            stopped = sum(sent == STOP_BYTES for _, sent in rig.fetched(NAME))
            durable = sum(covered(claim.durable) for claim in (await journal(rig))[1])
    process.kill()
    await process.wait()
    _, (claim,) = await journal(rig)
    assert claim.blob == rig.files(PADDED)[0].blob
    kept = covered(claim.durable)
    assert durable <= kept < size, "more may have become durable between the look and the kill"
    rig.hub.latency_s = 0.0
    rig.hub.faults.clear()
    rig.hub.clear_log()
    await finished(rig)
    assert rig.came_once(NAME, size - kept)


POINTS = [
    ("Journal write 1", "before", False),
    ("Journal write 1", "after", True),
    ("Cache prepare 1", "before", True),
    ("Cache prepare 1", "after", True),
    ("Partial write 1", "before", True),
    ("Partial write 9", "after", True),
    ("Partial hash 1", "after", True),
    ("Partial sync 2", "before", True),
    ("Partial sync 2", "after", True),
    ("Journal write 3", "before", True),
    ("Journal write 3", "after", True),
    ("Partial truncate 1", "before", True),
    ("Cache publish 1", "before", True),
    ("os replace 1", "after", True),
    ("os symlink 1", "before", True),
    ("Cache publish 1", "after", True),
    ("Journal forget_claim 1", "before", True),
    ("Journal forget_claim 1", "after", True),
    ("Cache set_ref 1", "before", True),
    ("os replace 2", "before", True),
    ("Cache set_ref 1", "after", True),
]
"""Where the process kills itself, and whether there is a job to go on with."""


@pytest.mark.parametrize(("where", "when", "journaled"), POINTS)
async def test_a_kill_at_any_point_loses_nothing_and_publishes_nothing_wrong(
    rig: Rig, where: str, when: str, journaled: bool
) -> None:
    if "truncate" in where:
        rig.hub.faults.flip(EARLY, path=NAME)
    process = await killed(rig, where, when, ahead=str(4 * MIB))
    assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
    jobs, claims = await journal(rig)
    durable = sum(covered(claim.durable) for claim in claims)
    if not journaled:
        assert (jobs, claims, rig.stray()) == ([], [], [])
        await rig.open()
        return
    rig.hub.clear_log()
    was_published = any("/snapshots/" in name for name in rig.stray())
    await finished(rig)
    size = rig.files(PADDED)[0].size_bytes
    again = rig.sent(NAME)
    blob_was_there = was_published or where == "os symlink 1" or where == "os replace 1"
    assert again == 0 if blob_was_there else rig.came_once(NAME, size - durable)
