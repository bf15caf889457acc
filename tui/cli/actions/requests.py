"""The work of the commands about requests to models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from modeldeck.tui.text import requests as request_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldeck.core.client.client import Client
    from modeldeck.core.schema import RequestInfo
    from modeldeck.tui.cli.output import Output


WATCH_HZ = 4.0
"""Most states a second that are looked at."""


async def show(client: Client, out: Output) -> None:
    """List them."""
    _listed(await client.requests(), out)


def _listed(requests: list[RequestInfo], out: Output) -> None:
    out.record(requests)
    if requests:
        out.lines(request_text.table(requests, datetime.now(UTC), out.room))
    else:
        out.note("No model was asked anything since the core started.")


async def watch(client: Client, out: Output) -> None:
    """List them, then write a line each time one comes to another state, until cancelled."""
    await client.health()  # a core that is not there at all is an error; one that goes away is not
    before: Mapping[str, RequestInfo] | None = None
    async with client.feed.states(max_hz=WATCH_HZ) as states:
        async for state in states:
            if before is None:
                _listed(list(state.requests.values()), out)
            else:
                for info in request_text.moved(before, state.requests):
                    out.record(info)
                    out.line(request_text.news(info))
            before = state.requests


async def cancel(client: Client, out: Output, key: str) -> None:
    """Cancel one."""
    info = await client.cancel_request(key)
    out.record(info)
    out.done(f"The request of {info.who} to {info.unique} is cancelled.")
