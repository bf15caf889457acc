"""Deleting from the cache, for all screens: show the plan, ask, delete, show the receipt."""

from __future__ import annotations

from dataclasses import replace

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import CacheSelection, DeletionPlan
from modeldeck.tui.dashboard.interface import DashboardInterface
from modeldeck.tui.text import records


async def delete(
    dashboard: DashboardInterface, what: CacheSelection, title: str, nothing: str
) -> bool:
    """Show the plan of a deletion, ask, and delete; whether it was done. Call from a worker.

    Args:
        dashboard: Shows the plan, the receipt, and errors.
        what: The part of the cache to delete.
        title: First line of the plan.
        nothing: Notice where there is nothing to delete.
    """
    client = dashboard.link.client
    try:
        plan = await client.plan_deletion(what)
        if not plan.delete:
            dashboard.say(nothing)
            return False
        if not await dashboard.confirm(lines(plan, title), "deletes them"):
            return False
        receipt = await client.delete_cached(what, force=bool(plan.blocked))
    except DeckError as error:
        dashboard.say(str(error), "error")
        return False
    for words in records.deleted(receipt):
        dashboard.say(words, "error" if receipt.failed else "done")
    if receipt.undo is not None:
        dashboard.say(f"No data was lost: {dashboard.key_of('app.undo')} undoes it.")
    return True


def lines(plan: DeletionPlan, title: str) -> list[str]:
    """Lines of a deletion plan for the prompt; reasons against it come first."""
    against = [f"In use: {reason}" for reason in plan.blocked]
    return [title, *against, *records.plan(replace(plan, blocked=()))]
