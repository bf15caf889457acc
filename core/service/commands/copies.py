"""Commands that copy a model from one machine to another."""

from __future__ import annotations

from functools import partial

from modeldeck.core.schema import Download, Manifest, Model
from modeldeck.core.service.commands.models import ModelCommands
from modeldeck.core.service.library.copying import OpenBlob
from modeldeck.core.service.wiring import ServiceParts
from modeldeck.core.storage.foreign_files import in_file_thread


class CopyCommands:
    """The commands of `Deck.copies`."""

    def __init__(self, parts: ServiceParts, models: ModelCommands) -> None:
        self._parts = parts
        self._models = models

    def manifest(self, ref: str) -> Manifest:
        """Return the files of a downloaded model, for another machine. Raises NotDownloaded."""
        return self._parts.copying.manifest(self._models.find(ref))

    async def open_blob(self, repo: str, blob: str) -> OpenBlob:
        """Open a blob of the cache by its hash; the caller closes it. Raises NotFound."""
        return await in_file_thread(partial(self._parts.copying.open, repo, blob), f"{repo} {blob}")

    async def take(
        self, manifest: Manifest, peer: str, origin: str
    ) -> tuple[Model, Download | None]:
        """Begin to copy a model from another machine through the socket `peer`.

        Journaled when it returns; the download is None if the model is here already. Raises
        Forbidden, NotEnoughDisk.
        """
        async with self._parts.audit.action(origin, "copy", manifest.model.unique):
            return await self._parts.copying.take(manifest, peer)
