"""The work of the commands about requests to models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from modeldeck.tui.text import requests as request_text

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.tui.cli.output import Output


async def show(client: Client, out: Output) -> None:
    """List them."""
    requests = await client.requests()
    out.record(requests)
    if requests:
        out.lines(request_text.table(requests, datetime.now(UTC), out.room))
    else:
        out.note("No model was asked anything since the core started.")


async def cancel(client: Client, out: Output, key: str) -> None:
    """Cancel one."""
    info = await client.cancel_request(key)
    out.record(info)
    out.done(f"The request of {info.who} to {info.unique} is cancelled.")
