"""The work of `modeldeck load` and `modeldeck defaults`: load, load anew, save as defaults."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from modeldeck.core.errors import Cancelled, InUse, LoadedAlready
from modeldeck.tui.cli.actions.models import wait_until_ready
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records as record_text

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.schema import Instance, LoadOptions
    from modeldeck.core.schema.state import State
    from modeldeck.tui.cli.output import Output

MEASURE_S = 10.0
"""For the first measurement of a model that was just loaded: it is taken once a second, and later
where the machine is busy."""


async def plan_load(
    client: Client, out: Output, ref: str, options: LoadOptions, **how: bool
) -> None:
    """Show what a load would do; what stands against it is part of that, and no failure."""
    plan = await client.plan_load(ref, options, **how)
    out.record(plan)
    from modeldeck.tui.text import load_records

    out.lines(load_records.plan(plan))


async def load(
    client: Client,
    out: Output,
    ref: str,
    options: LoadOptions,
    *,
    save: bool = False,
    yes: bool = False,
    **how: bool,
) -> Instance:
    """Load a model and show what it took.

    Args:
        client: The core.
        out: Where to show it.
        ref: The model.
        options: How to load it.
        save: Whether to save the options as the model's defaults, once the load is accepted.
        yes: Whether a reload ends answers without a question.
        how: As for `Client.load`.
    """
    begun = await accepted(client, out, ref, options, yes=yes, again="--reload", **how)
    if save:
        await _save(client, begun.model_id, options)
    instance = await wait_until_ready(client, out, begun)
    instance = await _measured(client, instance)
    out.record(instance)
    first, *rest = record_text.loaded(instance)
    out.done(first)
    for text in rest:
        out.line(text)
    if save:
        out.line("saved as its defaults")
    return instance


async def accepted(
    client: Client,
    out: Output,
    ref: str,
    options: LoadOptions,
    *,
    yes: bool = False,
    again: str = "--reload",
    **how: bool,
) -> Instance:
    """Begin a load, and return its instance; ask where a reload would end answers.

    `again` is what the user writes for a reload. Raises LoadedAlready with it, InUse, and Cancelled
    for a no.
    """
    try:
        return await client.load(ref, options, **how, end_answers=yes)
    except LoadedAlready as error:
        words = f"{error.message.removesuffix('.')}; {again} loads it anew."
        raise LoadedAlready(words) from error
    except InUse as error:
        if not how.get("reload") or not out.terminal or out.json:
            raise InUse(error.message, "Wait until it is idle, or say --yes as well.") from error
        out.note(error.message)
        if not await asyncio.to_thread(out.confirm, "End them and load it anew?"):
            raise Cancelled("Nothing was changed; it stays loaded.") from error
    return await client.load(ref, options, **how, end_answers=True)


async def _save(client: Client, ref: str, options: LoadOptions) -> None:
    from modeldeck.tui.text import load_options

    if changes := load_options.given(options):
        await client.save_defaults(ref, **changes)


async def defaults(
    client: Client, out: Output, ref: str, options: LoadOptions, *, forget: bool
) -> None:
    """Save options as a model's defaults, or forget them; show what is saved then."""
    model = await client.model(ref)
    if forget:
        await client.forget_defaults(model.id)
    await _save(client, model.id, options)
    saved = (await client.state()).settings.load_defaults.get(model.id)
    out.record({"model": model.unique, "defaults": saved})
    if saved is None:
        out.line(f"{model.unique}: nothing is saved.")
        return
    from modeldeck.tui.text import load_options

    out.line(f"{model.unique}: {fmt.clean(load_options.written(saved))}")


async def _measured(client: Client, instance: Instance) -> Instance:
    """The instance with its first measurement, where one comes soon."""

    def known(state: State) -> bool:
        now = state.instances.get(instance.id)
        return now is None or now.measured_bytes is not None

    try:
        async with asyncio.timeout(MEASURE_S):
            state = await client.feed.until(known)
    except TimeoutError:
        return instance
    return state.instances.get(instance.id, instance)
