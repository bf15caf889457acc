"""The command that measures how fast a model is."""

from __future__ import annotations

import click

from modeldeck.tui.cli.command import ExampleCommand, with_client


@click.command(
    cls=ExampleCommand,
    example="modeldeck bench qwen3-8b\nmodeldeck bench qwen3-8b -n 1 -n 8 --against 14-nov",
)
@click.argument("model", required=False)
@click.option(
    "--at-once",
    "-n",
    "at_once",
    type=click.IntRange(1, 16),
    multiple=True,
    metavar="N",
    help="Requests at once; may be repeated. By default 1, and up to 4.",
)
@click.option("--against", metavar="DAY", help="Compare with that of a day, or with this id.")
@click.option("--list", "listing", is_flag=True, help="List what was kept, of MODEL or of all.")
@click.option("--yes", "-y", is_flag=True, help="Load the model without a question.")
def bench(
    model: str | None,
    at_once: tuple[int, ...],
    against: str | None,
    listing: bool,
    yes: bool,
    json: bool,
) -> None:
    """Measure how fast MODEL reads prompts and writes answers; the figures are kept.

    It waits until no model is asked anything, and ends at once when one is. Exit code 4: it was
    stopped.
    """
    from modeldeck.tui.cli.actions import bench as bench_actions

    if listing:
        with_client(lambda client, out: bench_actions.show(client, out, model), json=json)
        return
    if model is None:
        raise click.UsageError("Name a MODEL, or say --list.")
    named = model
    with_client(
        lambda client, out: bench_actions.run(
            client, out, named, at_once, yes=yes, against=against
        ),
        json=json,
    )
