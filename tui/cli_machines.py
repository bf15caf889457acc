"""The commands that are about several machines, and what serves them on the other side."""

from __future__ import annotations

import click

from tui.running import run
from tui.verb import only_here


@click.command(hidden=True)
@click.option("--existing", is_flag=True, help="Start no core.")
def bridge(existing: bool) -> None:
    """Serve a front end that is attached by ssh; see `tui.bridge`."""
    from tui import bridge as serving

    only_here("bridge")
    run(serving.serve(start=not existing), json=True)


COMMANDS = (bridge,)
"""All of them."""
