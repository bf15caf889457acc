"""The commands that follow a core: `events` and `wait`."""

from __future__ import annotations

import click

from modeldeck.tui.cli.command import ExampleCommand, with_client


@click.command(
    cls=ExampleCommand,
    example="modeldeck events\nmodeldeck events --only download_changed --max-hz 1 | jq .download",
)
@click.option("--only", multiple=True, metavar="NAME", help="Only events of this name.")
@click.option(
    "--max-hz", type=click.FloatRange(0, min_open=True, max=60), metavar="N",
    help="Frames per second at most; of each kind only the newest is printed.",
)  # fmt: skip
def events(only: tuple[str, ...], max_hz: float | None, json: bool) -> None:
    """Print what changes, one JSON object a line, until ctrl-C. The first one is the whole state.

    Where the core goes away, its events go on when it is back, with another whole state. Always
    JSON, with or without --json.
    """
    from modeldeck.tui.cli.actions import watch

    with_client(lambda client, out: watch.events(client, out, only, max_hz), json=json, start=False)


@click.command(
    cls=ExampleCommand,
    example="modeldeck wait Qwen/Qwen3-0.6B-GGUF:Q8_0 downloaded --timeout 3600\n"
    "modeldeck wait qwen3-0.6b loaded && notify-send ready",
)
@click.argument("model")
@click.argument("state", type=click.Choice(["downloaded", "loaded", "unloaded"]))
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0), metavar="SECONDS",
    help="Give up after so long, with exit code 9.",
)  # fmt: skip
def wait(model: str, state: str, timeout_s: float | None, json: bool) -> None:
    """Return when MODEL is downloaded, loaded or unloaded; fail where that failed."""
    from modeldeck.tui.cli.actions import watch

    with_client(lambda client, out: watch.wait(client, out, model, state, timeout_s), json=json)


COMMANDS = (events, wait)
"""All of them."""
