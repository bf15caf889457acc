"""The commands that hold a core or look for one: `serve`, `demo`, `status`, `stop`."""

from __future__ import annotations

import logging
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from modeldeck.core.client import daemon
from modeldeck.core.config import config_file
from modeldeck.core.config.paths import locate
from modeldeck.core.errors import CoreUnreachable, DeckError
from modeldeck.tui.cli.output import Output
from modeldeck.tui.cli.sd_notify import tell_ready

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.client.daemon import CoreReady


async def serve(port: int | None, *, json: bool, verbose: bool) -> None:
    """Run a core until a signal; `port` instead of the configured one."""
    from modeldeck.core import server

    out = Output(json=json)
    paths = locate()
    settings, problems = config_file.load(paths.config_file)
    if port is not None:
        settings = replace(settings, api=replace(settings.api, port=port))
    for problem in problems:
        out.note(str(problem))
    server.log_to_stderr(logging.INFO if verbose else logging.WARNING, paths.core_log)
    await server.serve(paths, settings, problems, lambda ready: _announce(out, ready))


def _announce(out: Output, ready: CoreReady) -> None:
    out.record(ready)
    out.line(f"modeldeck {ready.version} answers on {ready.url}")
    if ready.socket:
        out.line(f"and on the socket {ready.socket}")
    if ready.outside:
        out.line(f"and beyond this machine, with a token, on {ready.outside}")
    if sys.stdin.isatty():
        out.line("ctrl-C ends it.")
    tell_ready(os.environ)


async def stop(*, json: bool) -> None:
    """End the core of this user."""
    out = Output(json=json)
    stopped = await daemon.stop(locate())
    out.record({"stopped": stopped})
    out.line("The core has ended." if stopped else "No core was running.")


async def stop_there(client: Client, out: Output) -> None:
    """End the core of another machine; returns once it has agreed."""
    await client.stop()
    out.record({"stopped": True})
    out.line("The core has ended.")


async def demo_headless(port: int | None, rate_bytes_per_s: int, *, json: bool) -> None:
    """Serve the demo until a signal; its hub serves each connection at this rate."""
    from modeldeck.core.demo.session import session

    out = Output(json=json)
    async with session(port, rate_bytes_per_s=rate_bytes_per_s) as running:
        out.record(running.ready)
        out.line(f"The demo's core answers on {running.ready.url}")
        out.line(f"and its hub on {running.hub.url}. ctrl-C ends both and removes what they hold.")
        await running.ended.wait()
        raise CoreUnreachable(
            "The demo's core ended by itself.", details=daemon.last_lines(running.paths)
        )


async def demo(port: int, *, json: bool) -> None:
    """Run the main job before the person's eyes."""
    from modeldeck.core.demo.session import session
    from modeldeck.tui.cli.actions import demo

    out = Output(json=json)
    started = time.monotonic()
    demo.greet(out)
    async with session(port, rate_bytes_per_s=demo.RATE) as running:
        try:
            await demo.show(running, out)
        except DeckError as error:  # its log goes with the folder
            error.details += daemon.last_lines(running.paths)
            raise
    demo.part(out, running, time.monotonic() - started)
