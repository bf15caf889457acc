"""Requests of the catalog's actions to the core, and their receipts. No widgets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modeldeck.core.errors import Conflict, DeckError, NotDownloaded, NotFound
from modeldeck.core.schema import (
    CacheSelection,
    Instance,
    InstanceState,
    LoadOptions,
    Model,
    SearchHit,
)
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.commands import KeyOf
from modeldeck.tui.dashboard.screens.catalog.checks import running
from modeldeck.tui.dashboard.screens.catalog.rows import busy, running_job
from modeldeck.tui.dashboard.screens.catalog.targets import DetailTarget
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records
from modeldeck.tui.text.model_names import row_name

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client


OFF_DEMO = "Not on the demo's hub. Leave the demo to download it."


def named(choice: DetailTarget, state: State) -> str:
    """A target as its row names it."""
    return row_name(choice.key, choice.unique, state.models)


async def download(client: Client, choice: DetailTarget, state: State) -> str:
    """Start the download."""
    model, job = await client.download(choice.ref)
    name = row_name(model.id, model.unique, {model.id: model, **state.models})
    if job is None:
        return records.here_already(model, name)
    return f"Downloading {name}, {fmt.size(job.total_bytes)}"


async def cancel(client: Client, choice: DetailTarget, state: State, key_of: KeyOf) -> str:
    """Cancel the download or the load."""
    name = named(choice, state)
    if (job := running_job(state, choice.key)) is not None:
        ended = await client.cancel_download(job.id)
        kept = fmt.size(ended.received_bytes)
        return f"Cancelled {name}. {kept} kept: {key_of('download')} resumes."
    if state.bench is not None and state.bench.live and state.bench.model_id == choice.key:
        await client.cancel_bench()
        return f"Benchmark of {name} cancelled."
    instance = busy(state, choice.key)
    if instance is not None and instance.state is InstanceState.STARTING:
        return records.unloaded(await client.unload(instance.id), name)
    for check in running(state):
        if choice.key in check.model_ids:
            await client.cancel_verification(check.id)
            return f"Check of {name} cancelled."
    remedy = f"{key_of('download')} downloads it."
    raise Conflict(f"{name} is not being downloaded.", remedy)


async def bench(client: Client, *, choice: DetailTarget, name: str, load: bool) -> str:
    """Begin to measure how fast a model is."""
    await client.bench(choice.ref, load=load)
    return f"Measuring {name}; a request to a model ends it."


async def verify(client: Client, choices: Sequence[DetailTarget], state: State) -> str:
    """Verify the files of all targets."""
    names = tuple(choice.unique for choice in choices)
    check = await client.verify(CacheSelection(models=names))
    files = fmt.number(check.files, "file")
    what = named(choices[0], state) if len(choices) == 1 else f"{len(choices)} models"
    return f"Checking {files} of {what}, {fmt.size(check.total_bytes)}"


async def load(
    client: Client,
    choice: DetailTarget,
    options: LoadOptions,
    state: State,
    key_of: KeyOf,
    *,
    force: bool,
) -> str:
    """Load a model."""
    if choice.model is None or not choice.model.downloaded:
        raise not_here(choice, state, key_of)
    instance = await client.load(choice.ref, options, force=force)
    length = fmt.tokens(instance.options.context_length)
    return "; ".join([f"Loading {named(choice, state)}, {length} context", *instance.warnings])


def loaded_already(name: str, instance: Instance, key_of: KeyOf) -> str:
    """That a model is loaded, or loading, and how it is loaded with other options."""
    if instance.state is InstanceState.STARTING:
        return f"{name} is loading already. {key_of('cancel')} cancels it."
    length = fmt.tokens(instance.context_length)
    again = f"{key_of('load_with')} reloads it with other options."
    return f"{name} is loaded already ({length}). {again}"


async def forget_defaults(client: Client, choice: DetailTarget, state: State) -> str:
    """Forget the load options that are saved for a model."""
    name = named(choice, state)
    if choice.key not in state.settings.load_defaults:
        return f"Nothing is saved for {name}."
    await client.forget_defaults(choice.key)
    return f"Forgot the saved load options of {name}."


async def unload(client: Client, choice: DetailTarget, state: State, key_of: KeyOf) -> str:
    """Unload a model; the receipt names the freed memory."""
    instance = busy(state, choice.key)
    if instance is None:
        raise Conflict(f"{named(choice, state)} is not loaded.", f"{key_of('load')} loads it.")
    return records.unloaded(await client.unload(instance.id), named(choice, state))


COUNTED = frozenset({"Downloading", "Cancelled", "Unloaded", "Loading", "Checking"})
"""Verbs that receipts begin with, and models can be counted after."""


def several(receipts: Sequence[str]) -> str:
    """One receipt for several targets; two are told both, as one may say that nothing was done.

    Of more, those that begin with the same verb are counted, and the others follow.
    """
    first, *others = receipts
    if not others:
        return first
    if len(others) == 1:
        return f"{first.rstrip('.')}; {others[0]}"
    verb, count = Counter(words.partition(" ")[0] for words in receipts).most_common(1)[0]
    if verb not in COUNTED or count < 2:
        return f"{first.rstrip('.')}; and {len(others)} more"
    rest = [words for words in receipts if words.partition(" ")[0] != verb]
    counted = f"{verb} {fmt.number(count, 'model')}"
    if len(rest) > 1:
        return f"{counted}; and {len(rest)} more"
    return f"{counted}; {rest[0].rstrip('.')}" if rest else counted


def several_variants(repo: str, count: int, key_of: KeyOf, *, here: bool) -> str:
    """That the user has to choose a variant; `here` where its row is under the cursor."""
    how = "choose one" if here else "open its row to choose one"
    return f"{repo} has {count} variants: {how}, then {key_of('download')}."


def not_here(choice: DetailTarget, state: State, key_of: KeyOf) -> DeckError:
    """Error of an action on a model that is not downloaded."""
    if running_job(state, choice.key) is not None:
        words = f"{named(choice, state)} is still being downloaded."
        return NotDownloaded(words, f"{key_of('cancel')} cancels it.")
    remedy = f"{key_of('download')} downloads it."
    return NotDownloaded(f"{named(choice, state)} is not downloaded.", remedy)


def not_custom(key_of: KeyOf) -> DeckError:
    """Error of editing or removing a row that is no custom model."""
    remedy = f"{key_of('delete')} deletes files."
    return Conflict("Only models you added can be edited or removed.", remedy)


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
