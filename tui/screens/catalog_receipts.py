"""What the verbs of the catalog ask of the core, and how the receipts are worded. No widgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import msgspec

from core.errors import Conflict, DeckError, InvalidRequest, NotDownloaded
from core.schema import DeletionPlan, Instance, InstanceState, LoadOptions, Model, SearchHit
from core.state import State
from tui import format as fmt
from tui import pages
from tui.screens.catalog_detail import Choice
from tui.screens.catalog_rows import busy, running_job

if TYPE_CHECKING:
    from core.client import Client

OPTIONS = tuple(field.name for field in fields(LoadOptions))


async def download(client: Client, choice: Choice, _: State) -> str:
    """Ask for the files."""
    model, job = await client.download(choice.ref)
    if job is None:
        return f"{model.unique} is downloaded already: {fmt.size(model.size_bytes)}"
    return f"{model.unique} is being downloaded: {fmt.size(job.total_bytes)}"


async def cancel(client: Client, choice: Choice, state: State) -> str:
    """End the download, or call the load off."""
    if (job := running_job(state, choice.key)) is not None:
        ended = await client.cancel_download(job.id)
        return f"{ended.unique} cancelled; {fmt.size(ended.received_bytes)} are kept for next time"
    instance = busy(state, choice.key)
    if instance is not None and instance.state is InstanceState.STARTING:
        return pages.unloaded(await client.unload(instance.id))
    raise Conflict(f"{choice.unique} is not being downloaded.", "`d` downloads it.")


async def load(client: Client, choice: Choice, options: LoadOptions, *, force: bool) -> str:
    """Ask for a load."""
    if choice.model is None or not choice.model.downloaded:
        raise not_here(choice)
    instance = await client.load(choice.ref, options, force=force)
    return f"{instance.unique} is being loaded, at {fmt.tokens(instance.context_length)} context"


async def unload(client: Client, choice: Choice, state: State) -> str:
    """Unload; the receipt says what came back."""
    instance = busy(state, choice.key)
    if instance is None:
        raise Conflict(f"{choice.unique} is not loaded.", "`l` loads it.")
    return pages.unloaded(await client.unload(instance.id))


def plan_lines(plan: DeletionPlan, names: Sequence[str]) -> list[str]:
    """A plan of deletion for the prompt, what stands against it first."""
    against = [f"In use: {reason}" for reason in plan.blocked]
    return [
        f"Delete the files of {', '.join(names)}.",
        *against,
        *pages.plan(replace(plan, blocked=())),
    ]


def options_text(options: LoadOptions) -> str:
    """Options as a line that `parse_options` reads back."""
    given = ((name, getattr(options, name)) for name in OPTIONS)
    return " ".join(
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in given
        if value is not None
    )


def parse_options(text: str) -> LoadOptions:
    """The options of a line such as `context_length=8192 mmap=false`. Raises InvalidRequest."""
    given: dict[str, Any] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals or name not in OPTIONS:
            raise InvalidRequest(f"{word} is no option.", f"Options: {', '.join(OPTIONS)}.")
        given[name] = {"true": True, "false": False}.get(value.lower(), value)
    try:
        return msgspec.convert(given, LoadOptions, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{error}.", "Write them as name=value.") from error


def last_options(state: State, model_id: str) -> LoadOptions | None:
    """The options of the newest load of a model that the core still knows."""
    known: list[Instance] = [i for i in state.instances.values() if i.model_id == model_id]
    return known[-1].options if known else None


def at_context(options: LoadOptions, context: int | None) -> LoadOptions:
    """The options with a context length, where one was chosen."""
    return options if context is None else replace(options, context_length=context)


def not_here(choice: Choice) -> DeckError:
    """Why a model can be neither loaded nor talked to."""
    return NotDownloaded(f"{choice.unique} is not downloaded.", "`d` downloads it.")


def not_custom(row: Model | SearchHit | None) -> DeckError:
    """Why a row can be neither edited nor taken off the list."""
    name = row.name if isinstance(row, Model) else row.repo if row else "This"
    return Conflict(f"{name} is not a custom model.", "`n` makes one; `x` deletes files.")


def copied(choice: Choice) -> str:
    """What `y` copies: the path of what lies here, else the name that every command takes."""
    return (choice.model.path if choice.model else None) or choice.unique
