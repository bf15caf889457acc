"""The commands of the cache: list it, verify it, delete unneeded files."""

from __future__ import annotations

import click

from modeldeck.tui.cli.command import ExampleCommand, with_client

YES = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
DRY_RUN = click.option("--dry-run", "-n", is_flag=True, help="Show the plan, delete nothing.")


@click.group()
def cache() -> None:
    """Look after the cache that all tools share: list it, check it, prune it.

    `modeldeck rm` deletes single models; here whole repositories and revisions go.
    """


@cache.command(cls=ExampleCommand, example="modeldeck cache ls")
def ls(json: bool) -> None:
    """List what the cache holds: size, what is shared, when it was last used."""
    from modeldeck.tui.cli.actions import cache as cache_actions

    with_client(cache_actions.ls, json=json)


@cache.command(
    cls=ExampleCommand,
    example="modeldeck cache verify\nmodeldeck cache verify Qwen/Qwen3-0.6B-GGUF:Q8_0",
)
@click.argument("targets", nargs=-1, metavar="[MODEL|OWNER/REPO[@REVISION]]...")
def verify(targets: tuple[str, ...], json: bool) -> None:
    """Read files again and check their hashes; all of the cache where nothing is named."""
    from modeldeck.tui.cli.actions import cache as cache_actions

    with_client(lambda client, out: cache_actions.verify(client, out, targets), json=json)


@cache.command(cls=ExampleCommand, example="modeldeck cache prune --dry-run")
@click.option("--partials", is_flag=True, help="Only partial files.")
@click.option("--orphans", is_flag=True, help="Only blobs that no revision needs.")
@click.option("--detached", is_flag=True, help="Only revisions that no branch is at any more.")
@click.option("--prefixes", is_flag=True, help="Only conversations that engines saved.")
@YES
@DRY_RUN
def prune(
    partials: bool,
    orphans: bool,
    detached: bool,
    prefixes: bool,
    yes: bool,
    dry_run: bool,
    json: bool,
) -> None:
    """Delete unneeded files: partial files, blobs, revisions that no branch is at any more.

    Conversations that engines saved (`runtime.prefix_cache_disk_bytes`) are of use until then: they
    go with --prefixes only, and are read anew when they go on.
    """
    from modeldeck.core.schema import CacheSelection
    from modeldeck.tui.cli.actions import cache as cache_actions

    every = not (partials or orphans or detached or prefixes)
    what = CacheSelection(
        partials=partials or every,
        orphans=orphans or every,
        detached=detached or every,
        prefixes=prefixes,
    )
    with_client(
        lambda client, out: cache_actions.prune(client, out, what, yes=yes, dry_run=dry_run),
        json=json,
    )


@cache.command(cls=ExampleCommand, example="modeldeck cache rm Qwen/Qwen3-0.6B-GGUF@7c41481f")
@click.argument("targets", nargs=-1, required=True, metavar="OWNER/REPO[@REVISION]...")
@YES
@click.option("--force", is_flag=True, help="Also when a model of it is loaded.")
@DRY_RUN
def rm(targets: tuple[str, ...], yes: bool, force: bool, dry_run: bool, json: bool) -> None:
    """Delete whole repositories or revisions: shows the plan and asks first."""
    from modeldeck.tui.cli.actions import cache as cache_actions

    with_client(
        lambda client, out: cache_actions.rm(
            client, out, targets, yes=yes, force=force, dry_run=dry_run
        ),
        json=json,
    )


@click.command(cls=ExampleCommand, example="modeldeck undo")
@click.argument("id", required=False)
@click.option("--list", "listed", is_flag=True, help="Show what can be undone, newest first.")
def undo(id: str | None, listed: bool, json: bool) -> None:
    """Undo the last cancel or removal, or the one with this ID.

    Entries of the list, cleared and cancelled downloads, links to files that others use as well.
    What was deleted from the disk is gone: `modeldeck pull` fetches it again.
    """
    from modeldeck.tui.cli.actions import cache as cache_actions

    if listed and id is not None:
        raise click.UsageError("--list takes no ID.")
    with_client(lambda client, out: cache_actions.undo(client, out, id, listed=listed), json=json)
