"""Downloads of models: start, find and remove them in the download queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from modeldeck.core.concurrency import whole
from modeldeck.core.downloads.job_records import ACTIVE, DownloadJob
from modeldeck.core.downloads.queue import DownloadQueue
from modeldeck.core.errors import Conflict, Corrupt, DeckError, NotFound
from modeldeck.core.schema import Download, Model
from modeldeck.core.schema.state import DownloadRemoved
from modeldeck.core.service.feed import Feed
from modeldeck.core.service.library.library import FileSelection, ModelLibrary


class ModelDownloads:
    """Starts, finds and removes the downloads of models."""

    def __init__(
        self,
        *,
        feed: Feed,
        library: ModelLibrary,
        downloads: DownloadQueue,
        ask_hub: Callable[[Awaitable[FileSelection]], Awaitable[FileSelection]],
        refusal: Callable[[Model], Awaitable[DeckError | None]],
    ) -> None:
        """`refusal` returns the error why a model can never be loaded on this machine, or None."""
        self._feed = feed
        self._library = library
        self._downloads = downloads
        self._ask_hub = ask_hub
        self._refusal = refusal

    def of(self, model_id: str) -> Download | None:
        """Return the newest download of a model."""
        jobs = [job for job in self._feed.state.downloads.values() if job.model_id == model_id]
        return max(jobs, key=lambda job: job.created_at, default=None)

    async def start(self, model: Model, *, force: bool = False) -> Download | None:
        """Start or resume the download of a model, or return the one that runs already.

        None if the model is downloaded and the Hub is not known to have newer files. A model that
        cannot be loaded is not downloaded unless `force`: its error is raised. Raises NotFound,
        Gated, HubUnavailable, NotEnoughDisk too.
        """
        if model.downloaded and model.update_available is None:
            return None
        job = self.of(model.id)
        if job is not None and job.state in ACTIVE:
            return job
        if job is not None:
            with suppress(NotFound, Conflict):  # another request removed or resumed it
                if job.unique == model.unique and _can_resume(job):
                    return await self._downloads.resume(job.id)
                await self.forget(job.id)
        self._downloads.warm()
        selection = await self._ask_hub(self._library.selection(model))
        if not force and (refusal := await self._refusal(model)) is not None:
            raise _not_downloaded(model, refusal)
        return await self._downloads.start(
            model,
            selection.revision,
            selection.files,
            ref=selection.ref,
            repo=selection.repo,
            url=selection.url,
        )

    @whole
    async def forget(self, download_id: str) -> DownloadJob | None:
        """Remove an ended download from the list, with its partial files.

        Returns the job if no data was deleted with it, for `DownloadQueue.restore`.
        """
        job = await self._downloads.remove(download_id)
        self._feed.commit(DownloadRemoved, id=download_id)
        return job

    async def drop(self, model: Model) -> None:
        """Cancel all incomplete downloads of a model, and delete their data."""
        for job in list(self._feed.state.downloads.values()):
            if job.model_id == model.id and job.state != "completed":
                await self._downloads.cancel(job.id, discard=True)


def _not_downloaded(model: Model, refusal: DeckError) -> DeckError:
    """Return the error for a model that is not downloaded because it cannot be loaded."""
    remedy = refusal.remedy
    if "download it again" in remedy.lower():  # it was not downloaded yet
        remedy = "Take another file or repository."
    return type(refusal)(
        f"{model.unique} was not fetched, since it could not be loaded: {refusal.message}",
        f"{remedy} `modeldeck pull --force` fetches it all the same.".strip(),
        details=refusal.details,
    )


def _can_resume(job: Download) -> bool:
    """Whether an ended download can be resumed: not when its files are gone from the Hub.

    A file at a URL may have changed; a download that found that starts anew.
    """
    code = job.error.code if job.error is not None else ""
    is_gone = code == NotFound.code or (code == Corrupt.code and job.url is not None)
    return job.state != "completed" and not is_gone
