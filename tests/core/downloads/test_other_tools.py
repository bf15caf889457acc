"""Other tools on the same cache: nothing is fetched twice, and no tool corrupts another's files."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import hf_hub_download

from modeldeck.core.schema import Download

if TYPE_CHECKING:
    from tests.core.downloads.conftest import Rig

PADDED = "deck/padded-GGUF"
TINY = "deck/tiny-GGUF"
FAST = 50_000_000


def is_moving(job: Download) -> bool:
    return job.received_bytes > 1 << 20


async def test_what_another_tool_downloaded_is_checked_and_not_fetched(rig: Rig) -> None:
    revision, files = rig.repo(TINY)
    wanted = rig.files(TINY)
    for file in wanted:
        await asyncio.to_thread(
            hf_hub_download, TINY, file.path, cache_dir=rig.cache.root, endpoint=rig.hub.url
        )
    rig.hub.clear_log()
    assert (await rig.ended((await rig.start(TINY, wanted)).id)).state == "completed"
    assert rig.fetched(".gguf") == []
    assert rig.cache.present(TINY, revision, files[-1]) is not None


async def test_what_another_tool_left_corrupt_is_mended(rig: Rig) -> None:
    wanted = rig.files(TINY)
    await rig.ended((await rig.start(TINY, wanted)).id)
    blob = rig.cache.blob(TINY, wanted[0].blob)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(bytes(data))
    rig.hub.clear_log()
    await rig.ended((await rig.start(TINY, wanted)).id)
    assert [size for _, size in rig.fetched(".gguf")] == [wanted[0].size_bytes]
    await rig.hub_agrees(TINY)


HOLDER = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@asynccontextmanager
async def held(path: Path) -> AsyncIterator[None]:
    """Let another process hold a lock for as long as the block runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(path), stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    try:
        yield
    finally:
        await process.communicate(b"")


async def test_a_lock_that_another_program_holds_is_waited_for(rig: Rig) -> None:
    wanted = rig.files(TINY)[:1]
    path = rig.cache.root / ".locks" / "models--deck--tiny-GGUF" / f"{wanted[0].blob}.lock"
    path.parent.mkdir(parents=True)
    async with held(path):
        job = await rig.start(TINY, wanted)
        await rig.until(job.id, lambda j: j.state == "downloading")
        assert (await rig.downloads.cancel(job.id)).state == "canceled"
        await rig.downloads.resume(job.id)
        await rig.until(job.id, lambda j: j.state == "downloading")
        assert rig.fetched(".gguf") == []
    assert (await rig.ended(job.id)).state == "completed"


async def test_a_partial_that_another_program_pruned_is_fetched_anew(rig: Rig) -> None:
    rig.hold()
    job = await rig.start(PADDED)
    await rig.until(job.id, is_moving)
    await rig.downloads.pause(job.id)
    rig.cache.partial(PADDED, rig.files(PADDED)[0].blob).unlink()
    rig.let_go()
    await rig.downloads.resume(job.id)
    assert (await rig.ended(job.id)).state == "completed"
    assert [start for start, _ in rig.fetched("padded-F16.gguf")].count(0) == 2
    await rig.hub_agrees(PADDED)


async def test_both_tools_at_one_time_fetch_once_and_corrupt_nothing(rig: Rig) -> None:
    rig.hub.rate_bytes_per_s = FAST
    job = await rig.start(PADDED)
    await rig.until(job.id, is_moving)
    name = rig.files(PADDED)[0].path
    theirs = asyncio.to_thread(
        hf_hub_download, PADDED, name, cache_dir=rig.cache.root, endpoint=rig.hub.url
    )
    path, done = await asyncio.gather(theirs, rig.ended(job.id))
    assert done.state == "completed"
    assert os.path.basename(path) == name
    assert rig.came_once(name, done.total_bytes, done.total_bytes // 2)
    await rig.hub_agrees(PADDED)


async def test_the_command_of_the_hub_goes_first_and_nothing_is_fetched_twice(rig: Rig) -> None:
    rig.hub.rate_bytes_per_s = 24_000_000
    (file,) = rig.files(PADDED)
    theirs = await asyncio.create_subprocess_exec(
        command(), "download", PADDED, file.path, env=environ(rig), stdout=PIPE, stderr=STDOUT
    )
    async with asyncio.timeout(60):
        while rig.sent(file.path) < 1 << 20:  # noqa: ASYNC110 - the hub is in another thread
            await asyncio.sleep(0.01)
    job = await rig.start(PADDED)
    output, _ = await theirs.communicate()
    assert theirs.returncode == 0, output
    assert (await rig.ended(job.id)).state == "completed"
    assert rig.came_once(file.path, file.size_bytes, file.size_bytes // 2)
    await rig.hub_agrees(PADDED)


def command() -> str:
    """The Hub's own program."""
    found = shutil.which("hf", path=os.path.dirname(sys.executable))
    assert found is not None
    return found


def environ(rig: Rig) -> dict[str, str]:
    return {
        **os.environ,
        "HF_ENDPOINT": rig.hub.url,
        "HF_HUB_CACHE": str(rig.cache.root),
        "HF_HUB_DISABLE_XET": "1",
    }


async def test_the_command_of_the_hub_agrees(rig: Rig) -> None:
    await rig.ended((await rig.start(TINY, rig.repo(TINY)[1])).id)
    for words, expected in (
        (["cache", "verify", TINY, "--fail-on-missing-files", "--fail-on-extra-files"], "Verified"),
        (["cache", "ls"], TINY),
        (["download", TINY, "tiny-Q8_0.gguf"], "snapshots"),
    ):
        process = await asyncio.create_subprocess_exec(
            command(), *words, env=environ(rig), stdout=PIPE, stderr=STDOUT
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output
        assert expected in output.decode()
    assert len(rig.fetched("tiny-Q8_0.gguf")) == 1
