"""The commands that are about several machines, and what serves them on the other side."""

from __future__ import annotations

import click

from modeldeck.tui.cli.command import ExampleCommand, only_here
from modeldeck.tui.cli.runner import run


@click.command(hidden=True)
@click.option("--existing", is_flag=True, help="Start no core.")
def bridge(existing: bool) -> None:
    """Serve a front end that is attached by ssh; see `modeldeck.tui.remote.bridge`."""
    from modeldeck.tui.remote import bridge as serving

    only_here("bridge")
    run(serving.serve(start=not existing), json=True)


@click.command(
    cls=ExampleCommand,
    example="modeldeck copy Qwen/Qwen3-0.6B-GGUF:Q8_0 @gpu1 @gpu2\n"
    "modeldeck copy qwen3-0.6b @local @gpu1 @gpu2",
)
@click.argument("model")
@click.argument("machines", nargs=-1, required=True, metavar="@FROM @TO...")
def copy(model: str, machines: tuple[str, ...], json: bool) -> None:
    """Copy MODEL from one machine to others over ssh, instead of downloading it again.

    What arrives is checked against its hashes before it shows there. A copy that was interrupted
    goes on where it stopped.
    """
    from modeldeck.tui.cli.actions import copy as copy_action

    only_here("copy")
    if len(machines) < 2 or not all(name.startswith("@") for name in machines):
        raise click.UsageError("Say from where to where: @gpu1 @gpu2, or @local for this machine.")
    run(copy_action.copy(model, machines, json=json), json=json)


COMMANDS = (bridge, copy)
"""All of them."""
