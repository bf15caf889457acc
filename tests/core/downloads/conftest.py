"""A download queue on a cache and a store of its own, in front of the demo hub."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, scan_cache_dir

from modeldeck.core.config.config import DownloadSettings as Settings
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.downloads.http.source import DownloadSource
from modeldeck.core.downloads.queue import DownloadQueue
from modeldeck.core.downloads.transfer.fallocate import allocated
from modeldeck.core.hub_cache.stores import CacheStores
from modeldeck.core.schema import Download, Model, RepoFile, model_id
from modeldeck.core.storage.database import Database

SETTINGS = Settings(disk_floor_bytes=0, stall_s=20, retries=3, retry_wait_s=0.02)

PATIENCE_S = 120.0

EARLY = 64 << 10
"""Offset of a byte that the first connection brings: another one asks again for what lies behind,
where the first is slow."""

SOCKETS_BYTES = 4 << 20
"""What the sockets of a few slow connections hold; those of fast ones hold megabytes each."""
SOCKET_BYTES = 10 << 20
"""What both ends of a fast one hold at most: Linux's default limits, 4 MiB to send and 6 to read
(`tcp_wmem`, `tcp_rmem`)."""


class Rig:
    """What a core has around its downloads, and what a test asks of them."""

    def __init__(self, folder: Path, hub: DemoHub) -> None:
        self.folder = folder
        self.hub = hub
        self.shelves = CacheStores(folder / "hub", folder / "files")
        self.cache = self.shelves.hub
        self.settings = SETTINGS
        self.endpoint = hub.url
        self.token: str | None = None
        self.free: int | None = None
        self.disk: int | None = None
        """Size of a disk that holds the cache only; instead of `free`."""
        self.changes: list[Download] = []
        self.check: Callable[[Path], None] = lambda _: None
        self.on_change: Callable[[Download], None] = lambda _: None
        self._news = asyncio.Event()

    async def open(self) -> DownloadQueue:
        """Begin, as a core does when it starts."""
        self.store = Database(self.folder / "state" / "modeldeck.sqlite3")
        await self.store.open()
        self.downloads = DownloadQueue(
            store=self.store,
            cache=self.shelves,
            settings=self.settings,
            source=DownloadSource(self.endpoint, lambda: self.token, self.settings.stall_s),
            free_bytes=lambda _: self._free_bytes(),
            on_change=self._changed,
            check=self.check,
        )
        await self.downloads.open()
        return self.downloads

    async def close(self) -> None:
        """End in good order."""
        await self.downloads.close()
        await self.store.close()

    async def reopen(self, **settings: Any) -> None:
        """End and begin again, as over a restart, with other settings if there are any."""
        await self.close()
        self.settings = replace(self.settings, **settings)
        await self.open()

    def _free_bytes(self) -> int | None:
        if self.disk is None:
            return self.free
        return self.disk - sum(allocated(path) for path in self.cache.root.rglob("*"))

    def _changed(self, job: Download) -> None:
        self.changes.append(job)
        self.on_change(job)
        self._news.set()

    def repo(self, repo: str) -> tuple[str, tuple[RepoFile, ...]]:
        """Commit and files of a repository, as its listing has them."""
        found = next(r for r in self.hub.repositories if r.repo == repo)
        return found.revision, tuple(
            RepoFile(path=f.path, size_bytes=f.size_bytes, blob=f.etag, lfs=f.sha256 is not None)
            for f in found.files
        )

    def files(self, repo: str, suffix: str = ".gguf") -> tuple[RepoFile, ...]:
        """The files of a repository whose names end so."""
        return tuple(f for f in self.repo(repo)[1] if f.path.endswith(suffix))

    def hold(self) -> None:
        """Let every answer for a model stop after 2 MiB, until `let_go`: none can be completed.

        A slow rate would be no hold: a machine under load may take longer than any download.
        """
        self.hub.faults.stall(2 << 20, times=1000, path=".gguf")

    def let_go(self) -> None:
        """Send on what `hold` stopped."""
        self.hub.faults.clear()

    async def start(self, repo: str, files: Sequence[RepoFile] = (), label: str = "") -> Download:
        """Start to download files of a repository: its GGUF files, unless others are given."""
        unique = f"{repo}:{label}" if label else repo
        model = Model(
            id=model_id(unique),
            unique=unique,
            name=unique,
            format="gguf",
            source="hub",
            repo=repo,
        )
        return await self.downloads.start(model, self.repo(repo)[0], files or self.files(repo))

    async def until(self, job_id: str, good: Callable[[Download], bool]) -> Download:
        """The job as soon as it is as it should be."""
        async with asyncio.timeout(PATIENCE_S):
            while not good(self.downloads.jobs[job_id]):
                self._news.clear()
                await self._news.wait()
        return self.downloads.jobs[job_id]

    async def ended(self, job_id: str) -> Download:
        """The job once it does not go on by itself any more."""
        return await self.until(
            job_id, lambda j: j.state in ("completed", "failed", "canceled", "paused")
        )

    async def hub_agrees(self, repo: str) -> None:
        """Assert that huggingface_hub finds no fault with the cache and this repository in it."""

        def ask() -> None:
            info = scan_cache_dir(self.cache.root)
            assert info.warnings == []
            assert not info.incomplete_files
            checked = HfApi(endpoint=self.hub.url).verify_repo_checksums(
                repo, cache_dir=str(self.cache.root)
            )
            assert checked.checked_count > 0
            assert checked.mismatches == []
            assert checked.extra_paths == []

        await asyncio.to_thread(ask)

    def stray(self) -> list[str]:
        """Every file and folder in the cache that is neither a lock nor the tag."""
        found = []
        for parent, folders, files in os.walk(self.cache.root):
            if ".locks" in folders:
                folders.remove(".locks")
            names = (*folders, *files)
            found += [os.path.relpath(os.path.join(parent, n), self.cache.root) for n in names]
        return sorted(name for name in found if name != "CACHEDIR.TAG")

    def fetched(self, name: str) -> list[tuple[int, int]]:
        """What was sent of the files whose names end so: offset and bytes of each answer."""
        sent = []
        for exchange in self.hub.log:
            if exchange.file.endswith(name) and exchange.status in (200, 206):
                start = 0
                if exchange.status == 206 and exchange.range is not None:
                    start = int(exchange.range.removeprefix("bytes=").split("-")[0])
                sent.append((start, exchange.bytes_sent))
        return sent

    def sent(self, name: str) -> int:
        """Bytes that were sent of the files whose names end so, over all connections."""
        return sum(count for _, count in self.fetched(name))

    def came_once(self, name: str, size: int, spare: int = SOCKETS_BYTES) -> bool:
        """Whether `size` bytes were sent, and twice at most what lay in the sockets of connections
        that were ended early: those that sent beyond the place where another one began.
        """
        fetched = self.fetched(name)
        starts = sorted({start for start, _ in fetched})
        end = dict(itertools.pairwise([*starts, sys.maxsize]))
        beyond = (count - (end[start] - start) for start, count in fetched)
        spare += sum(min(count, SOCKET_BYTES) for count in beyond if count > 0)
        assert 0 <= self.sent(name) - size <= spare, (size, spare, sorted(fetched))
        return True


@pytest.fixture
async def rig(tmp_path: Path, hub: DemoHub) -> AsyncIterator[Rig]:
    """An open download queue, closed at the end."""
    rig = Rig(tmp_path, hub)
    await rig.open()
    yield rig
    await rig.close()
