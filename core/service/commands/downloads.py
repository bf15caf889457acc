"""Commands about downloads: start, pause, order, limit, end."""

from __future__ import annotations

from functools import partial

from modeldeck.core.schema import Download, QueueMove
from modeldeck.core.service.commands.models import ModelCommands
from modeldeck.core.service.wiring import ServiceParts


class DownloadCommands:
    """The commands of `Deck.downloads`."""

    def __init__(self, parts: ServiceParts, models: ModelCommands) -> None:
        self._parts = parts
        self._models = models

    async def start(self, ref: str, origin: str, *, force: bool = False) -> Download | None:
        """Start to download a model, or its newer files; None if it is downloaded.

        Journaled when it returns. A model that cannot be loaded on this machine is downloaded only
        with `force`: else raises EngineFailed, Corrupt or Forbidden. Raises NotFound, Gated,
        HubUnavailable and NotEnoughDisk as well.
        """
        async with self._parts.audit.action(origin, "download", ref):
            return await self._parts.model_downloads.start(
                await self._models.resolve(ref), force=force
            )

    async def cancel(self, download_id: str, origin: str, *, discard: bool = False) -> Download:
        """Cancel a download; its data stays for resuming, unless `discard`."""
        async with self._parts.audit.action(origin, "cancel", download_id):
            downloads = self._parts.downloads
            before = downloads.jobs.get(download_id)
            job = await downloads.cancel(download_id, discard=discard)
            was_going = before is not None and before.state not in ("canceled", "failed")
            if job.state == "canceled" and was_going and not discard:
                undo = partial(downloads.resume, download_id)
                self._parts.undo.offer(
                    f"cancelled the download of {job.unique}",
                    f"download of {job.unique} resumed",
                    undo,
                )
            return job

    async def pause(self, download_id: str, origin: str) -> Download:
        """Pause a download until it is resumed."""
        async with self._parts.audit.action(origin, "pause", download_id):
            return await self._parts.downloads.pause(download_id)

    async def resume(self, download_id: str, origin: str) -> Download:
        """Resume a download that is paused, failed or canceled."""
        async with self._parts.audit.action(origin, "resume", download_id):
            return await self._parts.downloads.resume(download_id)

    async def remove(self, download_id: str, origin: str) -> None:
        """Remove an ended download from the list."""
        async with self._parts.audit.action(origin, "forget", download_id):
            job = await self._parts.model_downloads.forget(download_id)
            if job is not None:
                undo = partial(self._parts.downloads.restore, job)
                self._parts.undo.offer(
                    f"cleared the download of {job.unique}",
                    f"download of {job.unique} is in the list again",
                    undo,
                )

    async def move(self, download_id: str, to: QueueMove, origin: str) -> Download:
        """Move a download in the queue; the first ones run."""
        async with self._parts.audit.action(origin, f"move {to}", download_id):
            return await self._parts.downloads.move(download_id, to)

    async def limit(self, download_id: str, bytes_per_s: int | None, origin: str) -> Download:
        """Limit the rate of one download; None removes its own limit."""
        async with self._parts.audit.action(origin, "limit", download_id):
            return await self._parts.downloads.set_job_limit(download_id, bytes_per_s)
