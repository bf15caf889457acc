"""Deleting from the cache, wherever a key begins it: the plan, the question, the receipt."""

from __future__ import annotations

from dataclasses import replace

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import CacheSelection, DeletionPlan
from modeldeck.tui.dashboard.screens.view import View
from modeldeck.tui.text import records


async def delete(view: View, what: CacheSelection, title: str, nothing: str) -> bool:
    """Show what a deletion would do, ask, and do it; whether it was done. Call from a worker.

    `title` says what is to go; `nothing` what is said where there is nothing to delete.
    """
    dashboard = view.dashboard
    client = dashboard.link.client
    try:
        plan = await client.plan_deletion(what)
        if not plan.delete:
            dashboard.say(nothing)
            return False
        if not await view.confirm(lines(plan, title), "deletes them"):
            return False
        receipt = await client.delete_cached(what, force=bool(plan.blocked))
    except DeckError as error:
        dashboard.say(str(error), "error")
        return False
    for words in records.deleted(receipt):
        dashboard.say(words, "error" if receipt.failed else "done")
    if receipt.undo is not None:
        dashboard.say(f"Only links went: {dashboard.key_of('app.undo')} takes that back.")
    return True


def lines(plan: DeletionPlan, title: str) -> list[str]:
    """A plan for the prompt, what stands against it first."""
    against = [f"In use: {reason}" for reason in plan.blocked]
    return [title, *against, *records.plan(replace(plan, blocked=()))]
