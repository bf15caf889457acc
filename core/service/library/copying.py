"""Copy models from one machine to another.

The source lists a model's files with their hashes, and serves each file by its hash. The target
queues a download of exactly these files over a socket that is forwarded to the source; journal,
resumption, verification and publishing are those of every download.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from modeldeck.core.downloads.queue import DownloadQueue
from modeldeck.core.errors import Conflict, Forbidden, InvalidRequest, NotDownloaded, NotFound
from modeldeck.core.formats.unique_names import hub_name
from modeldeck.core.hub_cache.stores import CacheStores
from modeldeck.core.schema import Download, Manifest, Model, RepoFile, model_id
from modeldeck.core.service.library.library import ModelLibrary
from modeldeck.core.storage.foreign_files import in_file_thread, open_regular

BLOCK_BYTES = 128 << 10
"""Bytes of a blob that are sent at a time: the slowest connection takes a block in a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBlob:
    """A blob of the cache, opened for reading."""

    file: BinaryIO
    path: str
    size_bytes: int

    async def pieces(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `start` up to `end`, then close the file."""
        try:
            while start < end:
                count = min(BLOCK_BYTES, end - start)
                read = partial(os.pread, self.file.fileno(), count, start)
                piece = await in_file_thread(read, self.path)
                if not piece:
                    return  # truncated meanwhile: the receiver notices the early end
                start += len(piece)
                yield piece
        finally:
            self.file.close()


class ModelCopying:
    """Serves models to other machines, and copies models from them."""

    def __init__(
        self, *, library: ModelLibrary, downloads: DownloadQueue, cache: CacheStores
    ) -> None:
        self._library = library
        self._downloads = downloads
        self._cache = cache

    def manifest(self, model: Model) -> Manifest:
        """Return the files of a downloaded model. Raises NotDownloaded, Conflict."""
        if not model.downloaded or model.local:
            raise NotDownloaded(
                f"{model.unique} is not in the cache of this machine.", "See `modeldeck ls -d`."
            )
        if hub_name(model.unique) is None or model.repo is None:
            raise Conflict(
                f"{model.unique} is not from the Hub, so it has no hashes to check against.",
                "Copy its file by scp, and add it there by its path.",
            )
        for revision, paths in self._library.files(model, every_revision=False):
            for snapshot in self._library.snapshots:
                if (snapshot.repo, snapshot.revision) == (model.repo, revision):
                    files = [file for file in snapshot.files if file.path in set(paths)]
                    break
            else:
                continue
            if any(not file.blob for file in files):
                raise Conflict(
                    f"The cache holds {model.unique} without the hashes of its files.",
                    "Its disk has no symbolic links; download it on the other machine instead.",
                )
            return Manifest(
                model=model,
                repo=model.repo,
                revision=revision,
                ref="main" if "main" in snapshot.refs else None,
                files=tuple(
                    RepoFile(
                        path=file.path,
                        size_bytes=file.size_bytes,
                        blob=file.blob,
                        lfs=len(file.blob) == 64,
                    )
                    for file in files
                ),
            )
        raise NotDownloaded(f"The files of {model.unique} are gone.", "See `modeldeck ls -d`.")

    def open(self, repo: str, blob: str) -> OpenBlob:
        """Open a blob by its hash. Blocks. Raises NotFound, InvalidRequest."""
        path = self._cache.blob(repo, blob)
        try:
            if not path.resolve().is_relative_to(self._cache.of(repo).root.resolve()):
                raise FileNotFoundError
            file = open_regular(path)
        except OSError as error:
            raise NotFound(f"There is no blob {blob[:12]} of {repo} here.") from error
        size = os.fstat(file.fileno()).st_size
        return OpenBlob(file=file, path=str(path), size_bytes=size)

    async def take(self, manifest: Manifest, peer: str) -> tuple[Model, Download | None]:
        """Begin to copy a model; `peer` is the socket that is forwarded to its machine.

        The download is None if the model is here already. A download that already runs goes on from
        its own source. Raises InvalidRequest for an invalid manifest, Forbidden, NotEnoughDisk.
        """
        given = manifest.model
        if hub_name(given.unique) is None or given.id != model_id(given.unique):
            raise InvalidRequest(f"{given.unique!r} is not a model of the Hub.")
        await in_file_thread(partial(check_own, peer), peer, custom=True)
        model = await self._library.adopt(replace(given, repo=manifest.repo))
        if model.downloaded:
            return model, None
        job = await self._downloads.start(
            model,
            manifest.revision,
            manifest.files,
            ref=manifest.ref,
            repo=manifest.repo,
            peer=peer,
        )
        return model, job


def check_own(path: str) -> None:
    """Raise Forbidden unless this is a socket of this user: others may not supply files."""
    try:
        found = Path(path).stat(follow_symlinks=False)
    except (OSError, ValueError) as error:
        raise Forbidden(f"There is no socket {path!r}.") from error
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.getuid():
        raise Forbidden(f"{path} is no socket of this user.")
