"""Deleting from the cache, for all screens: show the plan, ask, delete, show the receipt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakSet

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import CacheSelection, DeletionPlan
from modeldeck.tui.dashboard.interface import DashboardInterface
from modeldeck.tui.dashboard.messages import severity_of
from modeldeck.tui.dashboard.questions import QuestionItem, QuestionWarning, YesNoQuestion
from modeldeck.tui.text import deletions
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.model_names import row_name

if TYPE_CHECKING:
    from modeldeck.core.schema.state import State

NOTHING_DELETED = "Cancelled: nothing was deleted."

_busy: WeakSet[DashboardInterface] = WeakSet()
"""Dashboards on which a deletion is planned or asked about: a second `x` then does nothing."""


async def delete(
    dashboard: DashboardInterface, what: CacheSelection, title: str, nothing: str
) -> bool:
    """Show the plan of a deletion, ask, and delete; whether it was done. Call from a worker.

    Args:
        dashboard: Shows the plan, the receipt, and errors.
        what: The part of the cache to delete.
        title: What is done, such as `Prune leftover partial files.`; for models it is made here.
        nothing: Notice where there is nothing to delete.
    """
    if dashboard in _busy:
        return False
    _busy.add(dashboard)
    try:
        plan = await dashboard.link.client.plan_deletion(what)
        if not plan.delete:
            dashboard.say(nothing)
            return False
        done = _past(title)
        if what.models:
            title = f"Delete the files of {subject(plan, dashboard.state)}."
            done = f"Deleted {subject(plan, dashboard.state, marked='')}"
        if await dashboard.ask_question(question(plan, title, dashboard.state)) is None:
            return False
    except DeckError as error:
        dashboard.say(str(error), severity_of(error))
        return False
    finally:
        _busy.discard(dashboard)
    return await _execute(dashboard, what, plan, done)


async def _execute(
    dashboard: DashboardInterface, what: CacheSelection, plan: DeletionPlan, done: str
) -> bool:
    try:
        receipt = await dashboard.link.client.delete_cached(what, force=bool(plan.blocked))
    except DeckError as error:
        dashboard.say(str(error), severity_of(error))
        return False
    words = " ".join(line.strip() for line in deletions.deleted(receipt, done))
    if receipt.undo is not None:
        words += f". No data was lost: {dashboard.key_of('app.undo')} undoes it."
    dashboard.say(words, "error" if receipt.failed else "done")
    return True


def _past(title: str) -> str:
    """A title as a receipt: `Prune partial files.` becomes `Pruned partial files`."""
    verb, _, rest = title.rstrip(".").partition(" ")
    return f"{verb}d {rest}"


def subject(plan: DeletionPlan, state: State | None, marked: str = "marked ") -> str:
    """The models of a plan that have files: one by the name of its row, several by their count."""
    absent = _absent(plan, state)
    ids = [id for id in plan.model_ids if id not in absent]
    if len(ids) != 1:
        return fmt.number(len(ids), f"{marked}model")
    return row_name(ids[0], "1 model", state.models if state else {})


def _absent(plan: DeletionPlan, state: State | None) -> list[str]:
    """Ids of the models of a plan that have no files here.

    Never all of them: the plan is newer than the State, which may not know yet what has just been
    downloaded.
    """
    models = state.models if state else {}
    found = [id for id in plan.model_ids if id in models and not models[id].downloaded]
    return found if len(found) < len(plan.model_ids) else []


def question(plan: DeletionPlan, title: str, state: State | None) -> YesNoQuestion:
    """The question about a plan."""
    made = deletions.files(plan)
    size = fmt.size(plan.freed_bytes)
    return YesNoQuestion(
        title=f"{title.rstrip('.')}: {deletions.comes_back(plan)}.",
        warnings=_warnings(plan, state),
        items=tuple(
            QuestionItem(text=file.text, name=file.name, note=file.note, path=file.path)
            for file in made.files
        ),
        more=made.more,
        verb=f"delete {size}" if plan.freed_bytes else "delete",
        keep="keep everything",
        word="Delete?",
        cancelled=NOTHING_DELETED,
        subject=_still_there(plan, state),
    )


def _warnings(plan: DeletionPlan, state: State | None) -> tuple[QuestionWarning, ...]:
    models = state.models if state else {}
    found = []
    if absent := [row_name(id, id, models) for id in _absent(plan, state)]:
        text, short = deletions.nothing_of(absent)
        found.append(QuestionWarning(text=text, short=short))
    for gone in plan.unloads:
        name = row_name(gone.model_id, gone.unique, models)
        is_draft = gone.model_id not in plan.model_ids
        text, short = deletions.unloaded_first(gone, name, is_draft=is_draft)
        found.append(QuestionWarning(text=text, short=short))
    if not plan.unloads:  # a core before this field names only the reasons
        found += [
            QuestionWarning(text=f"{reason}: it is unloaded first.") for reason in plan.blocked
        ]
    return tuple(found)


def _still_there(plan: DeletionPlan, state: State | None) -> Callable[[State], bool] | None:
    """Whether one of the models that had files when it was asked about still has some."""
    had = [
        id for id in plan.model_ids if state and id in state.models and state.models[id].downloaded
    ]
    if not had:
        return None
    return lambda now: any(id in now.models and now.models[id].downloaded for id in had)
