"""The commands of the download queue: see it, hold it, order it, limit it."""

from __future__ import annotations

import click

from modeldeck.tui.cli.command import ExampleCommand, with_client

MODELS = click.argument("models", nargs=-1, metavar="MODEL...")


@click.command(cls=ExampleCommand, example="modeldeck downloads\nmodeldeck downloads --at-once 3")
@click.option("--at-once", type=click.IntRange(1, 100), help="How many run at the same time.")
@click.option("--clear", is_flag=True, help="Forget those that have ended.")
def downloads(at_once: int | None, clear: bool, json: bool) -> None:
    """List downloads in the order of the queue."""
    from modeldeck.tui.cli.actions import queue

    with_client(
        lambda client, out: queue.downloads(client, out, at_once=at_once, clear=clear),
        json=json,
    )


@click.command(cls=ExampleCommand, example="modeldeck pause --all")
@MODELS
@click.option("--all", "everything", is_flag=True, help="All that run or wait.")
def pause(models: tuple[str, ...], everything: bool, json: bool) -> None:
    """Hold downloads; what came stays."""
    _each("pause", models, everything, json)


@click.command(cls=ExampleCommand, example="modeldeck resume Qwen/Qwen3-0.6B-GGUF:Q8_0")
@MODELS
@click.option("--all", "everything", is_flag=True, help="All that are held or failed.")
def resume(models: tuple[str, ...], everything: bool, json: bool) -> None:
    """Go on with downloads that are held, failed or cancelled."""
    _each("resume", models, everything, json)


def _each(verb: str, models: tuple[str, ...], everything: bool, json: bool) -> None:
    from modeldeck.tui.cli.actions import queue

    if bool(models) == everything:
        raise click.UsageError("Name a MODEL, or say --all.")
    act = queue.pause if verb == "pause" else queue.resume
    with_client(lambda client, out: act(client, out, models), json=json)


@click.command(cls=ExampleCommand, example="modeldeck move Qwen/Qwen3-0.6B-GGUF:Q8_0 first")
@click.argument("model")
@click.argument("to", type=click.Choice(["up", "down", "first", "last"]))
def move(model: str, to: str, json: bool) -> None:
    """Move the download of MODEL in the queue; the first ones run."""
    from modeldeck.tui.cli.actions import queue

    with_client(lambda client, out: queue.move(client, out, model, to), json=json)


@click.command(
    cls=ExampleCommand,
    example="modeldeck limit 5MB/s\n"
    "modeldeck limit none --schedule 08:00-18:00=2MB/s\n"
    "modeldeck limit 1MB/s --model Qwen/Qwen3-0.6B-GGUF:Q8_0",
)
@click.argument("rate", required=False)
@click.option("--model", help="Limit the download of this model only.")
@click.option(
    "--schedule",
    multiple=True,
    metavar="HH:MM-HH:MM=RATE",
    help="Another limit at a part of the day; may be given several times.",
)
@click.option("--no-schedule", is_flag=True, help="Forget the schedule.")
@click.option(
    "--give-way/--no-give-way",
    default=None,
    help="Hold back while an attached dashboard waits for the line.",
)
def limit(
    rate: str | None,
    model: str | None,
    schedule: tuple[str, ...],
    no_schedule: bool,
    give_way: bool | None,
    json: bool,
) -> None:
    """Limit how fast downloads are: RATE such as 5MB/s, or none. Without RATE: show it."""
    from modeldeck.tui.cli.actions import queue

    if model is not None and (rate is None or schedule or no_schedule or give_way is not None):
        raise click.UsageError("--model takes a RATE, and nothing else.")
    if schedule and no_schedule:
        raise click.UsageError("--schedule and --no-schedule contradict each other.")
    if model is not None:
        with_client(lambda client, out: queue.limit_one(client, out, model, rate or ""), json=json)
        return
    entries = () if no_schedule else schedule or None
    with_client(
        lambda client, out: queue.limit(client, out, rate, entries, give_way), json=json
    )  # fmt: skip


COMMANDS = (downloads, pause, resume, move, limit)
"""All of them."""
