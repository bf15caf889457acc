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
"""For a copy to be held when it is interrupted."""


@asynccontextmanager
async def kept(client: Client, job: Download) -> AsyncIterator[None]:
    """Hold a copy that is not over when the block is left by an error, or called off.

    Nothing can come over a line that is about to end, so it should not be tried.
    """
    try:
        yield
    except BaseException:
        with suppress(DeckError, TimeoutError):
            async with asyncio.timeout(PAUSE_S):
                await client.pause_download(job.id)
        raise


def copied(job: Download, source: str, target: str) -> str:
    """The receipt of a copy."""
    rate = job.total_bytes / job.seconds if job.seconds else None
    return (
        f"{job.unique} copied from {source} to {target}: {fmt.size(job.total_bytes)} in"
        f" {fmt.duration(job.seconds)}, {fmt.rate(rate)}, {fmt.number(len(job.files), 'file')}"
        " verified"
    )


def over(now: Download, again: str) -> bool:
    """Whether a copy is complete; raises what ended or holds it. `again` says how it goes on."""
    if now.state == "canceled":
        raise Cancelled(f"The copy of {now.unique} was cancelled.", again)
    if now.error is not None and now.state in ("failed", "paused"):
        raise from_info(now.error)
    if now.state == "failed":
        raise Conflict(f"The copy of {now.unique} failed.", again)
    return now.state == "completed"
