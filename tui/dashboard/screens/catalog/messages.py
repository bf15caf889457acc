"""Requests of the catalog's actions to the core, and their receipts. No widgets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modeldeck.core.errors import Conflict, DeckError, NotDownloaded, NotFound
from modeldeck.core.schema import (
    CacheSelection,
    InstanceState,
    LoadOptions,
    Model,
    SearchHit,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.commands import KeyOf
from modeldeck.tui.dashboard.screens.catalog.checks import running
from modeldeck.tui.dashboard.screens.catalog.detail import DetailTarget
from modeldeck.tui.dashboard.screens.catalog.rows import busy, running_job
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client


async def download(client: Client, choice: DetailTarget, _: State) -> str:
    """Start the download."""
    model, job = await client.download(choice.ref)
    if job is None:
        return f"{model.unique} is downloaded already: {fmt.size(model.size_bytes)}"
    return f"Downloading {model.unique}, {fmt.size(job.total_bytes)}"


async def cancel(client: Client, choice: DetailTarget, state: State, key_of: KeyOf) -> str:
    """Cancel the download or the load."""
    if (job := running_job(state, choice.key)) is not None:
        ended = await client.cancel_download(job.id)
        kept = fmt.size(ended.received_bytes)
        return f"{ended.unique} cancelled. {kept} kept: the next download resumes"
    instance = busy(state, choice.key)
    if instance is not None and instance.state is InstanceState.STARTING:
        return records.unloaded(await client.unload(instance.id))
    for check in running(state):
        if choice.key in check.model_ids:
            await client.cancel_verification(check.id)
            return f"Check of {check.what} cancelled."
    remedy = f"`{key_of('download')}` downloads it."
    raise Conflict(f"{choice.unique} is not being downloaded.", remedy)


async def verify(client: Client, choices: Sequence[DetailTarget]) -> str:
    """Verify the files of all targets."""
    names = tuple(choice.unique for choice in choices)
    check = await client.verify(CacheSelection(models=names))
    files = fmt.number(check.files, "file")
    return f"Checking {files} of {check.what}, {fmt.size(check.total_bytes)}"


async def load(
    client: Client, choice: DetailTarget, options: LoadOptions, key_of: KeyOf, *, force: bool
) -> str:
    """Load a model."""
    if choice.model is None or not choice.model.downloaded:
        raise not_here(choice, key_of)
    instance = await client.load(choice.ref, options, force=force)
    length = fmt.tokens(instance.options.context_length)
    words = [f"Loading {instance.unique}, {length} context", *instance.warnings]
    return "; ".join(words)


async def unload(client: Client, choice: DetailTarget, state: State, key_of: KeyOf) -> str:
    """Unload a model; the receipt names the freed memory."""
    instance = busy(state, choice.key)
    if instance is None:
        raise Conflict(f"{choice.unique} is not loaded.", f"`{key_of('load')}` loads it.")
    return records.unloaded(await client.unload(instance.id))


def not_here(choice: DetailTarget, key_of: KeyOf) -> DeckError:
    """Error of an action on a model that is not downloaded."""
    remedy = f"`{key_of('download')}` downloads it."
    return NotDownloaded(f"{choice.unique} is not downloaded.", remedy)


def not_custom(row: Model | SearchHit | None, key_of: KeyOf) -> DeckError:
    """Error of editing or removing a row that is no custom model."""
    name = row.name if isinstance(row, Model) else row.repo if row else "This"
    remedy = f"`{key_of('new')}` makes one; `{key_of('delete')}` deletes files."
    return Conflict(f"{name} is not a custom model.", remedy)


def nothing_in(repo: str) -> DeckError:
    """Error of an action on a repository without models."""
    return NotFound(f"{repo} holds neither GGUF files nor an MLX model.", "Take another one.")


def no_card(model: Model | SearchHit) -> DeckError:
    """Error of a model without a model card."""
    name = model.name if isinstance(model, Model) else model.repo
    return NotFound(f"{name} has no model card: it is not from the Hub.")


def copied(target: DetailTarget | SearchHit) -> str:
    """Text to copy: the path of a downloaded model, else its unique name."""
    if isinstance(target, SearchHit):
        return target.repo
    return (target.model.path if target.model else None) or target.unique
