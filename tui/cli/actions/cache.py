"""The work of the commands about the cache."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modeldeck.core.errors import Cancelled, Corrupt
from modeldeck.core.formats.unique_names import DEFAULT_ENDPOINT, canonical
from modeldeck.core.schema import CacheSelection
from modeldeck.core.schema.errors import from_info
from modeldeck.tui.cli.actions.models import FRAMES_HZ, PATIENCE_S, carry_out
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import TextColumn

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.schema import CacheListing, Verification
    from modeldeck.tui.cli.output import Output

_ORPHANED = 4
"""The column of blobs that no revision needs."""

ENDED = ("completed", "failed", "canceled")


async def ls(client: Client, out: Output) -> None:
    """List what the cache holds."""
    listing = await client.cache()
    out.record(listing)
    if listing.repositories:
        out.lines(table(listing, out.room, time.time()))
        size = sum(r.size_bytes + r.partial_bytes + r.orphan_bytes for r in listing.repositories)
        out.line(f"{fmt.size(size)} in {fmt.clean(listing.path)}")
    else:
        out.note(f"The cache at {fmt.clean(listing.path)} is empty.")
    if listing.prefix_cache_bytes:
        saved = fmt.size(listing.prefix_cache_bytes)
        out.line(f"{saved} of saved conversations: modeldeck cache prune --prefixes deletes them")


def table(listing: CacheListing, width: int, now: float) -> list[str]:
    """A line for each repository, and one for each of its revisions."""
    heads = (
        TextColumn(title="repository and revisions", shrink=True),
        TextColumn(title="size", right=True),
        TextColumn(title="shared", right=True),
        TextColumn(title="partial", right=True),
        TextColumn(title="orphaned", right=True),
        TextColumn(title="used", right=True),
        TextColumn(title="at"),
    )
    cells = []
    for repo in listing.repositories:
        cells.append(
            (
                fmt.clean(repo.url or repo.repo),
                fmt.size(repo.size_bytes),
                fmt.size(repo.shared_bytes) if repo.shared_bytes else "",
                fmt.size(repo.partial_bytes) if repo.partial_bytes else "",
                fmt.size(repo.orphan_bytes) if repo.orphan_bytes else "",
                _ago(repo.used_at, now),
                "",
            )
        )
        cells += [
            (
                f"  {revision.revision[:8]}  {fmt.number(revision.files, 'file')}",
                fmt.size(revision.size_bytes),
                fmt.size(revision.shared_bytes) if revision.shared_bytes else "",
                "",
                "",
                _ago(revision.used_at, now),
                " ".join(revision.refs) or "detached",
            )
            for revision in repo.revisions
        ]
    # Caches whose links are whole, most of them, have no column for what no revision needs.
    shown = [n for n in range(len(heads)) if n != _ORPHANED or any(row[n] for row in cells)]
    rows = [tuple(row[n] for n in shown) for row in cells]
    return fmt.table([heads[n] for n in shown], rows, width)


def _ago(at: float, now: float) -> str:
    return f"{fmt.duration(int(max(0.0, now - at)))} ago" if at else fmt.UNKNOWN


async def verify(client: Client, out: Output, targets: Sequence[str]) -> None:
    """Check what is named, show how it goes, and say what is wrong. Interrupted, call it off."""
    held = {repo.repo.casefold() for repo in (await client.cache()).repositories}
    hub = (await client.state()).host.hub or DEFAULT_ENDPOINT
    targets = [target if "@" in target else canonical(target, hub) for target in targets]
    what = CacheSelection(
        models=tuple(t for t in targets if "@" not in t and t.casefold() not in held),
        revisions=tuple(t for t in targets if "@" in t),
        repositories=tuple(t for t in targets if t.casefold() in held),
    )
    check = await _followed(client, out, await client.verify(what))
    out.record(check)
    if check.error is not None:
        raise from_info(check.error)
    if check.state == "canceled":
        raise Cancelled(f"The check of {check.what} was cancelled.")
    for path in check.unchecked:
        out.note(f"There is no hash to check {fmt.clean(path)} against.")
    if check.wrong:
        raise Corrupt(
            f"{fmt.number(len(check.wrong), 'file')} of {check.files} are corrupt.",
            "Delete the model with `modeldeck rm`, and pull it again.",
            details=check.wrong,
        )
    size = fmt.size(check.total_bytes)
    out.done(f"{check.what}: {fmt.number(check.files, 'file')} verified, {size}")


async def _followed(client: Client, out: Output, check: Verification) -> Verification:
    """Show a check until it has ended."""
    try:
        with out.progress() as progress:
            async with client.feed.states(max_hz=FRAMES_HZ, patience_s=PATIENCE_S) as states:
                async for state in states:
                    if (now := state.verifications.get(check.id)) is None:
                        raise Cancelled(f"The check of {check.what} was forgotten.")
                    if now.state in ENDED:
                        return now
                    done = now.done_bytes / now.total_bytes if now.total_bytes else None
                    words = f"{fmt.percent(done)} of {fmt.size(now.total_bytes)}"
                    going = f"{fmt.rate(now.rate_bytes_per_s)}  {fmt.duration(now.eta_s)}"
                    shape = fmt.bar(done, 20, out.signs)
                    progress.show(
                        f"{shape}  {words}  {going}", f"checking  {words}", int((done or 0) * 10)
                    )
    except asyncio.CancelledError:
        await client.cancel_verification(check.id)
        out.note(f"The check of {check.what} was cancelled.")
        raise
    raise AssertionError("the feed never ends by itself")


async def prune(
    client: Client, out: Output, what: CacheSelection, *, yes: bool, dry_run: bool
) -> None:
    """Delete unneeded files of the kinds that `what` names."""
    await _delete(client, out, what, yes=yes, force=False, dry_run=dry_run)


async def rm(
    client: Client, out: Output, targets: Sequence[str], *, yes: bool, force: bool, dry_run: bool
) -> None:
    """Delete whole repositories and revisions."""
    what = CacheSelection(
        revisions=tuple(t for t in targets if "@" in t),
        repositories=tuple(t for t in targets if "@" not in t),
    )
    await _delete(client, out, what, yes=yes, force=force, dry_run=dry_run)


async def _delete(
    client: Client, out: Output, what: CacheSelection, *, yes: bool, force: bool, dry_run: bool
) -> None:
    plan = await client.plan_deletion(what)
    if not plan.delete:
        out.record(plan)
        out.note("There is nothing to delete.")
        return
    await carry_out(client, out, plan, what, yes=yes, force=force, dry_run=dry_run)


async def undo(client: Client, out: Output, key: str | None, *, listed: bool) -> None:
    """Take an action back, or list what can be."""
    if not listed:
        done = await client.undo(key)
        out.record(done)
        out.done(f"Undone: {fmt.clean(done.undone or done.what)}")
        return
    actions = await client.undoable()
    out.record(actions)
    if not actions:
        out.note("Nothing to undo.")
    heads = (
        TextColumn(title="id"),
        TextColumn(title="done at"),
        TextColumn(title="what", shrink=True),
    )
    if actions:
        cells = [(action.id, action.at, fmt.clean(action.what)) for action in actions]
        out.lines(fmt.table(heads, cells, out.room))
