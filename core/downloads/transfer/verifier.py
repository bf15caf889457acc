"""Checks the content of a file against its hash: while it is downloaded, and where it lies."""

from __future__ import annotations

import hashlib
from pathlib import Path

from modeldeck.core.concurrency import in_own_thread
from modeldeck.core.downloads.job_records import FileProgress
from modeldeck.core.downloads.transfer.partial_file import Digest, PartialFile
from modeldeck.core.downloads.transfer.written_ranges import WrittenRanges
from modeldeck.core.schema import RepoFile


def digest_of(file: RepoFile) -> Digest:
    """An empty hash of the kind that names this file: SHA-256 of LFS files, else git's blob SHA-1.

    git hashes the word "blob", the size and a NUL before the content (gitformat-pack, git
    hash-object).
    """
    if file.lfs:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)


def is_right(file: RepoFile, digest: str) -> bool:
    """Whether the content of a file has the hash that it should have; True where none is known."""
    return digest == file.blob or not file.verifiable


class Verifier:
    """Hashes a file from its beginning while it is being written, until it is complete."""

    def __init__(
        self,
        partial: PartialFile,
        written: WrittenRanges,
        digest: Digest,
        size: int,
        progress: FileProgress,
    ) -> None:
        self._partial = partial
        self._written = written
        self._digest = digest
        self._size = size
        self._progress = progress
        self._stopped = False

    def stop(self) -> None:
        """Make `run` return soon. From any thread."""
        self._stopped = True
        self._written.wake()

    def run(self) -> str:
        """The hash of the whole file; blocks until it is written. Meaningless once stopped."""
        at = self._progress.hashed_bytes = 0
        while at < self._size and not self._stopped:
            end = self._written.wait_beyond(at, lambda: self._stopped)
            at = self._partial.hash(self._digest, at, end, lambda: self._stopped)
            self._progress.hashed_bytes = at
        return self._digest.hexdigest()


async def verified(path: Path, file: RepoFile, progress: FileProgress) -> bool:
    """Whether the content at `path` has the hash of `file`.

    Raises StorageFailed when it cannot be read.
    """
    existing = await PartialFile.open(path, write=False)
    try:
        written = WrittenRanges(((0, file.size_bytes),), progress, lambda: None)
        verifier = Verifier(existing, written, digest_of(file), file.size_bytes, progress)
        return await in_own_thread(verifier.run, verifier.stop) == file.blob
    finally:
        await existing.close()
