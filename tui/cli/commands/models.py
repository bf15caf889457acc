"""The commands about models: find, download and delete them."""

from __future__ import annotations

import click

from modeldeck.tui.cli.command import ExampleCommand, with_client
from modeldeck.tui.cli.commands.load import LimitedParam


@click.command(cls=ExampleCommand, example="modeldeck ls qwen")
@click.argument("text", default="")
@click.option("--downloaded", "-d", is_flag=True, help="Only models on this machine.")
def ls(text: str, downloaded: bool, json: bool) -> None:
    """List models: the catalog, what is downloaded, your own. TEXT narrows the list."""
    from modeldeck.tui.cli.actions import models as model_actions

    with_client(
        lambda client, out: model_actions.ls(client, out, text, downloaded=downloaded), json=json
    )


@click.command(
    cls=ExampleCommand, example="modeldeck search qwen3 gguf\nmodeldeck search Qwen/Qwen3-0.6B-GGUF"
)
@click.argument("words", nargs=-1, required=True)
@click.option("--limit", type=click.IntRange(1, 1000), help="How many repositories at most.")
def search(words: tuple[str, ...], limit: int | None, json: bool) -> None:
    """Search the Hub; the name of a repository shows the models in it."""
    from modeldeck.tui.cli.actions import models as model_actions

    with_client(
        lambda client, out: model_actions.search(client, out, " ".join(words), limit), json=json
    )


@click.command(cls=ExampleCommand, example="modeldeck fit Qwen/Qwen3-0.6B-GGUF:Q8_0 -c 16384")
@click.argument("model")
@click.option(
    "--context", "-c", type=LimitedParam("context_length"), metavar="TOKENS", help="Context length."
)
def fit(model: str, context: int | None, json: bool) -> None:
    """Say whether MODEL fits the memory that is free now, downloaded or not.

    Exit code 0: it fits, if tightly. 5: it does not. 6: the Hub cannot be asked. 4: not known.
    """
    from modeldeck.tui.cli.actions import models as model_actions

    with_client(lambda client, out: model_actions.fit(client, out, model, context), json=json)


@click.command(cls=ExampleCommand, example="modeldeck pull Qwen/Qwen3-0.6B-GGUF:Q8_0")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--detach", "-d", is_flag=True, help="Return once the core has accepted it.")
@click.option("--cancel", is_flag=True, help="Cancel the download; what came is kept.")
@click.option("--discard", is_flag=True, help="With --cancel: delete what came, too.")
@click.option("--force", is_flag=True, help="Also when it could not be loaded here.")
def pull(
    models: tuple[str, ...], detach: bool, cancel: bool, discard: bool, force: bool, json: bool
) -> None:
    """Download models. The core does it: ctrl-C only stops looking on."""
    from modeldeck.tui.cli.actions import models as model_actions

    if discard and not cancel:
        raise click.UsageError("--discard goes with --cancel.")
    if cancel:
        with_client(
            lambda client, out: model_actions.cancel(client, out, models, discard=discard),
            json=json,
        )
    else:
        with_client(
            lambda client, out: model_actions.pull(client, out, models, detach=detach, force=force),
            json=json,
        )


@click.command(cls=ExampleCommand, example="modeldeck outdated && modeldeck pull qwen3-8b")
def outdated(json: bool) -> None:
    """Ask the Hub which models have newer files. `pull` gets them; the old ones stay till pruned.

    Exit code 0, also where there are none. 6: the Hub cannot be asked.
    """
    from modeldeck.tui.cli.actions import models as model_actions

    with_client(model_actions.outdated, json=json)


@click.command(cls=ExampleCommand, example="modeldeck rm Qwen/Qwen3-0.6B-GGUF:Q8_0")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also when the model is loaded.")
@click.option("--dry-run", "-n", is_flag=True, help="Show the plan, delete nothing.")
def rm(models: tuple[str, ...], yes: bool, force: bool, dry_run: bool, json: bool) -> None:
    """Delete the files of models: shows the plan and asks first."""
    from modeldeck.tui.cli.actions import models as model_actions

    with_client(
        lambda client, out: model_actions.rm(
            client, out, models, yes=yes, force=force, dry_run=dry_run
        ),
        json=json,
    )


COMMANDS = (ls, search, fit, pull, outdated, rm)
