"""Copying a model between machines: receipts and how a copy ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from modeldeck.core.client.client import Client
from modeldeck.core.errors import Cancelled, Conflict, DeckError
from modeldeck.core.schema import Download
from modeldeck.core.schema.errors import from_info
from modeldeck.tui.text import format as fmt

PAUSE_S = 5.0
"""Time limit for pausing a copy that is interrupted, in seconds."""


@asynccontextmanager
async def kept(client: Client, job: Download) -> AsyncIterator[None]:
    """Pause a copy that is unfinished when the block is left by an error or cancellation.

    The connection is about to close, so the core must not go on trying.
    """
    try:
        yield
    except BaseException:
        with suppress(DeckError, TimeoutError):
            async with asyncio.timeout(PAUSE_S):
                await client.pause_download(job.id)
        raise


def copied(job: Download, source: str, target: str) -> str:
    """Describe a finished copy."""
    rate = job.total_bytes / job.seconds if job.seconds else None
    return (
        f"{job.unique} copied from {source} to {target}: {fmt.size(job.total_bytes)} in"
        f" {fmt.duration(job.seconds)}, {fmt.rate(rate)}, {fmt.number(len(job.files), 'file')}"
        " verified"
    )


def over(now: Download, again: str) -> bool:
    """Return whether a copy is complete.

    Raises DeckError for a copy that was cancelled, failed or is paused; `again` is the remedy.
    """
    if now.state == "canceled":
        raise Cancelled(f"The copy of {now.unique} was cancelled.", again)
    if now.error is not None and now.state in ("failed", "paused"):
        raise from_info(now.error)
    if now.state == "failed":
        raise Conflict(f"The copy of {now.unique} failed.", again)
    return now.state == "completed"
