"""The demo as a process of its own: `python -P -m modeldeck.core.demo.serving [rate [port]]`.

It writes one line of JSON, the ready record or why it cannot start, and runs until its standard
input ends, when the process that started it is gone. A core that ends by itself is started again.
"""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec

from modeldeck.core.client import daemon
from modeldeck.core.client.daemon import CoreReady, CoreRefused, line
from modeldeck.core.concurrency import end_of_input
from modeldeck.core.demo.session import Session, environment, session
from modeldeck.core.errors import DeckError
from modeldeck.core.schema.errors import to_info


async def serve(rate_bytes_per_s: int | None, port: int) -> None:
    """Run hub and core until standard input ends. Raises what they cannot start for."""
    left = asyncio.Event()
    async with end_of_input(left), session(port, rate_bytes_per_s=rate_bytes_per_s) as running:
        _announce(running.ready)
        ended = running.ended
        while await _first(left, ended) is not left:
            ended = await _again(running, left)


async def _again(running: Session, left: asyncio.Event) -> asyncio.Event:
    """Run another core in place of one that ended, until that ends, too."""
    inside = environment(running.folder, running.hub.url, 0, os.environ)
    async with daemon.child(inside) as (_, ended):
        await _first(left, ended)
        return ended


async def _first(*events: asyncio.Event) -> asyncio.Event:
    """The first of the events, in their order, that is set."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    return next(event for event in events if event.is_set())


def _announce(ready: CoreReady) -> None:
    print(line(ready), flush=True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # closes the pipe: nothing more is written


def main() -> None:
    """Run the demo until standard input ends."""
    rate, port = (*map(int, sys.argv[1:]), 0, 0)[:2]
    try:
        asyncio.run(serve(rate or None, port))
    except DeckError as error:
        print(msgspec.json.encode(CoreRefused(error=to_info(error))).decode(), flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
