"""A disk that is really full, or read-only: a small tmpfs, mounted for one process alone."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

if TYPE_CHECKING:
    from tests.core.downloads.conftest import Rig

PADDED = "deck/padded-GGUF"
MIB = 1 << 20
DISK_MIB = 44
BALLAST_MIB = 28
"""What is left is less than the file has, and more than a part of it."""

CHILD = """
import asyncio, hashlib, json, os, pathlib, subprocess, sys
import msgspec
from modeldeck.core.hub_cache.stores import CacheStores
from modeldeck.core.config.config import DownloadSettings as Settings
from modeldeck.core.downloads import journal, queue, ranges
from modeldeck.core.downloads.transfer import written_ranges, partial_file as partial
from modeldeck.core.downloads.http import source
from modeldeck.core.schema import Model, RepoFile
from modeldeck.core.storage.database import Database

mount, size, ballast, endpoint, revision, files, what = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", mount], check=True)
disk = pathlib.Path(mount)
filler = disk / "filler"
if what != "read only":
    filler.write_bytes(bytes(int(ballast) << 20))
written_ranges.UNSYNCED_BYTES = 1 << 20
if what == "write":
    partial.reserve = lambda descriptor, size: None  # as on file systems that cannot
home = disk / "state"
if what == "read only":
    home = disk.parent / "state"
    subprocess.run(["mount", "-o", "remount,ro", mount], check=True)

async def main():
    store = Database(home / "modeldeck.sqlite3")
    await store.open()
    seen = []
    downloads = queue.DownloadQueue(
        store=store, cache=CacheStores(disk / "hub", disk / "files"),
        settings=Settings(disk_floor_bytes=0, connections=4, retry_wait_s=0.05),
        source=source.DownloadSource(endpoint, lambda: None, 20), free_bytes=lambda repo: None,
        on_change=seen.append, check=lambda path: None)
    await downloads.open()
    wanted = msgspec.json.decode(files, type=tuple[RepoFile, ...])
    model = Model(id="x", unique="deck/x", name="x", format="gguf", source="hub",
                  repo="deck/padded-GGUF")
    if what == "journal":
        with filler.open("ab", buffering=0) as stream:
            try:
                while stream.write(bytes(4096)):
                    pass
            except OSError:
                pass
        try:
            await downloads.start(model, revision, wanted)
        except Exception as error:
            said = [type(error).__name__, str(error)]
        print(json.dumps({"said": said, "jobs": len(downloads.jobs)}), flush=True)
        filler.unlink()
        job = await downloads.start(model, revision, wanted)
    elif what == "read only":
        job = await downloads.start(model, revision, wanted)
        while downloads.jobs[job.id].state != "failed":
            await asyncio.sleep(0.01)
        error = downloads.jobs[job.id].error
        print(json.dumps({"code": error.code, "words": error.message + error.remedy}), flush=True)
        subprocess.run(["mount", "-o", "remount,rw", mount], check=True)
        await downloads.resume(job.id)
    else:
        job = await downloads.start(model, revision, wanted)
        while not any(each.state == "paused" for each in seen):
            await asyncio.sleep(0.01)
        paused = next(each for each in seen if each.state == "paused")
        _, claims = await journal.DownloadJournal(store).read()
        durable = sum(ranges.covered(claim.durable) for claim in claims)
        print(json.dumps({
            "code": paused.error.code, "message": paused.error.message,
            "remedy": paused.error.remedy, "received": paused.received_bytes, "durable": durable,
            "published": [str(path) for path in disk.rglob("snapshots/*")]}), flush=True)
        filler.unlink(missing_ok=True)
    while downloads.jobs[job.id].state != "completed":
        await asyncio.sleep(0.01)
    await downloads.close()
    await store.close()
    found = {str(path.relative_to(disk / "hub")): hashlib.sha256(path.read_bytes()).hexdigest()
             for path in (disk / "hub").rglob("*.gguf")}
    stray = [str(path) for path in disk.rglob("*.incomplete")]
    print(json.dumps({"found": found, "stray": stray}), flush=True)

asyncio.run(main())
"""


def alone() -> list[str]:
    """The words before a command that let it mount something for itself alone."""
    program = shutil.which("unshare") or "unshare"
    ways = [[program, "--mount"], [program, "--user", "--map-root-user", "--mount"]]
    for way in ways:
        try:
            mounted = subprocess.run(
                [*way, "sh", "-c", "mount -t tmpfs tmpfs /tmp"], capture_output=True, check=False
            )
        except OSError:
            continue
        if mounted.returncode == 0:
            return way
    pytest.fail("this user may mount nothing, not even in a namespace of its own: run it as root")


pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="needs the mount namespaces of Linux"
)


async def told(rig: Rig, folder: Path, what: str) -> list[Any]:
    """What a process says that downloads onto a full disk until it is no longer full."""
    way = await asyncio.to_thread(alone)
    await asyncio.to_thread(folder.mkdir)
    files = msgspec.json.encode(rig.files(PADDED)).decode()
    words = [str(folder), str(DISK_MIB), str(BALLAST_MIB), rig.hub.url, rig.repo(PADDED)[0], files]
    process = await asyncio.create_subprocess_exec(
        *way, sys.executable, "-c", CHILD, *words, what, stdout=PIPE, stderr=PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, errors.decode()
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("what", ["reserve", "write"])
async def test_a_full_disk_pauses_a_job_and_room_lets_it_go_on_by_itself(
    rig: Rig, tmp_path: Path, what: str
) -> None:
    paused, done = await told(rig, tmp_path / "disk", what)
    assert paused["code"] == "not_enough_disk"
    assert "full" in paused["message"]
    assert "by itself" in paused["remedy"]
    assert paused["published"] == []
    assert paused["received"] == paused["durable"]
    (file,) = rig.files(PADDED)
    assert [(os.path.basename(path), digest) for path, digest in done["found"].items()] == [
        (file.path, file.blob)
    ]
    assert done["stray"] == []
    if what == "write":
        assert paused["durable"] > 4 * MIB
        # Nothing that was durable came again, and what was lost lay in the sockets.
        assert rig.sent(file.path) - file.size_bytes < 16 * MIB
    else:
        assert paused["durable"] == 0


async def test_a_disk_too_full_for_the_journal_takes_no_job(rig: Rig, tmp_path: Path) -> None:
    refused, done = await told(rig, tmp_path / "disk", "journal")
    assert refused["said"][0] == "NotEnoughDisk"
    assert refused["jobs"] == 0
    assert list(done["found"].values()) == [rig.files(PADDED)[0].blob]
    assert done["stray"] == []


async def test_a_cache_that_is_read_only_says_so_and_the_job_goes_on_later(
    rig: Rig, tmp_path: Path
) -> None:
    failed, done = await told(rig, tmp_path / "disk", "read only")
    assert failed["code"] == "storage_failed"
    assert str(tmp_path / "disk") in failed["words"]
    assert "Read-only file system" in failed["words"]
    assert list(done["found"].values()) == [rig.files(PADDED)[0].blob]
    assert done["stray"] == []
