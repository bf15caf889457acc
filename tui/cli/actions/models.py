"""The work of the commands about models: send requests, follow the State, print the result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from modeldeck.core.errors import (
    Cancelled,
    Conflict,
    EngineFailed,
    Gated,
    HubUnavailable,
    InvalidRequest,
    NotDownloaded,
    NotEnoughMemory,
    NotFound,
    StorageFailed,
)
from modeldeck.core.schema import (
    InstanceState,
)
from modeldeck.core.schema.errors import from_info
from modeldeck.tui.cli.runner import AlreadyReported
from modeldeck.tui.text import deletions, forecasts, machine_status
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records as record_text
from modeldeck.tui.text.model_names import row_name

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.schema import (
        CacheSelection,
        DeletionPlan,
        Download,
        Instance,
        Model,
    )
    from modeldeck.core.schema.state import State
    from modeldeck.tui.cli.output import Output

FRAMES_HZ = 8.0
"""Redraws of a progress line per second: smooth to the eye, little data over SSH."""
PATIENCE_S = 10.0
"""For a core that went away while a command follows it."""


async def status(client: Client, out: Output, *, line: bool, form: str | None = None) -> None:
    """Show the machine on a page, or in one line of the form that is asked for."""
    if line and not out.json:
        from modeldeck.tui.cli import status_line

        summary = msgspec.to_builtins(await client.summary())
        try:
            known = status_line.values(summary, out.signs)
            out.line(status_line.filled(form or status_line.FORMAT, known))
        except status_line.BadFormat as error:
            raise InvalidRequest(f"--format: {error}") from error
        return
    # Its records take longer to import than most commands take.
    from modeldeck.core.schema.state import state_to_wire

    state = await client.state()
    wire = state_to_wire(state)
    del wire["models"]
    out.record({"running": True, **wire})
    for text in machine_status.page(state, _uptime_s(state), out.signs):
        out.line(fmt.cut(text, out.room))


def _uptime_s(state: State) -> float | None:
    try:
        started = datetime.fromisoformat(state.host.started_at)
    except ValueError:
        return None
    return max(0.0, (datetime.now(UTC) - started).total_seconds())


# Finding


async def ls(client: Client, out: Output, text: str, *, downloaded: bool) -> None:
    """List models, those on this machine first."""
    state = await client.state()
    words = text.casefold().split()
    found = [
        model
        for model in state.models.values()
        if all(word in f"{model.unique} {model.name}".casefold() for word in words)
        and (not downloaded or model.downloaded)
    ]
    out.record(found)
    if found:
        out.lines(record_text.models(state, found, out.signs, out.room))
    else:
        out.note("No match here. `modeldeck search` looks on the Hub.")


async def search(client: Client, out: Output, query: str, limit: int | None) -> None:
    """Search the Hub; the name or address of a repository shows what can be chosen in it."""
    if "/" in query and " " not in query:
        try:
            repository = await client.repository(query)
        except (NotFound, InvalidRequest):
            from modeldeck.core.formats.unique_names import is_address

            if is_address(query):
                raise
            # not a repository: words to search for, like any other
        else:
            out.record(repository)
            out.lines(record_text.variants(repository, out.room))
            if repository.from_cache:
                out.note("The Hub cannot be reached: this is what it said earlier.")
            return
    result = await client.search(query, limit)
    out.record(result)
    if result.hits:
        out.lines(record_text.search(result, out.room))
    elif not result.error:
        out.note(f"No results for “{query}” on the Hub.")
    if result.error:
        earlier = " These are results of an earlier search." if result.from_cache else ""
        out.note(f"The Hub cannot be reached: {fmt.clean(result.error)}.{earlier}")


async def fit(client: Client, out: Output, ref: str, context_length: int | None) -> None:
    """Say whether a model fits the memory that is free now."""
    answer = await client.fit(ref, context_length)
    out.record(answer)
    for text in forecasts.fit(answer):
        out.line(text)
    match answer.verdict:
        case "too large":
            raise AlreadyReported(NotEnoughMemory(f"{ref} does not fit."))
        case "refused" | "unknown":
            error = None if answer.error is None else from_info(answer.error)
            known = isinstance(error, HubUnavailable | Gated | NotFound)
            raise AlreadyReported(error if error and known else Conflict("It is not known."))


# Downloads


UNVERIFIED = (
    "The server gives no hash, so only the structure was checked: it is a GGUF file."
    " With #sha256=... behind the URL it is held to that."
)


async def pull(
    client: Client, out: Output, refs: Sequence[str], *, detach: bool, force: bool = False
) -> None:
    """Download models: all are accepted first, then followed one after the other."""
    accepted = [await client.download(ref, force=force) for ref in refs]
    state = await client.state()
    for model, job in accepted:
        if (why := record_text.no_engine(state, model)) is not None:
            out.note(why)
        if job is None:
            words = record_text.here_already(model, model.unique).rstrip(".")
            out.done(f"{words}: {fmt.size(model.size_bytes)}")
        elif detach:
            out.line(f"{out.signs.down} {model.unique} is being downloaded by the core")
        else:
            began = time.monotonic()
            job = await follow(client, out, model, job)
            out.done(record_text.downloaded(job))
            out.notify(f"{model.unique} downloaded", time.monotonic() - began)
            if not job.verifiable:
                out.note(UNVERIFIED)
        out.record({"model": model, "download": job})


async def follow(
    client: Client, out: Output, model: Model, job: Download, parting: str | None = None
) -> Download:
    """Show a job until it is complete. The job runs in the core and goes on without this command.

    `parting` is what to say instead when looking on is interrupted.
    """
    try:
        with out.progress() as progress:
            async with client.feed.states(max_hz=FRAMES_HZ, patience_s=PATIENCE_S) as states:
                async for state in states:
                    job = state.downloads.get(job.id) or _vanished(state, model, job)
                    if job.state == "completed":
                        return job
                    _raise_for(job)
                    line = record_text.download(job, out.signs, out.room)
                    progress.show(line, *record_text.download_words(job))
    except asyncio.CancelledError:
        out.note(
            parting
            or f"The download of {model.unique} goes on in the core.\n"
            f"`modeldeck pull {model.unique}` shows it again,"
            f" `modeldeck pull --cancel {model.unique}` cancels it."
        )
        raise
    raise AssertionError("the feed never ends by itself")


def _vanished(state: State, model: Model, job: Download) -> Download:
    """Return the final record of a job that is no longer listed."""
    now = state.models.get(model.id)
    if now is None or not now.downloaded:
        raise Cancelled(f"The download of {job.unique} was removed.")
    return replace(job, state="completed")


def _raise_for(job: Download) -> None:
    """Raise what ended or holds a job, where that is nothing to wait for."""
    again = f"`modeldeck pull {job.unique}` goes on from what is there."
    if job.state == "canceled":
        raise Cancelled(f"The download of {job.unique} was cancelled.", again)
    if job.error is not None and job.state in ("failed", "paused"):
        raise from_info(job.error)
    if job.state == "failed":
        raise Conflict(f"The download of {job.unique} failed.", again)


async def cancel(client: Client, out: Output, refs: Sequence[str], *, discard: bool) -> None:
    """Cancel the downloads of models."""
    for ref in refs:
        model = await client.model(ref)
        state = await client.state()
        jobs = [
            job
            for job in state.downloads.values()
            if job.model_id == model.id and job.state not in record_text.ENDED_JOBS
        ]
        if not jobs:
            raise Conflict(f"{model.unique} is not being downloaded.", "See `modeldeck status`.")
        job = await client.cancel_download(jobs[-1].id, discard=discard)
        kept = "" if discard else f"; {fmt.size(job.received_bytes)} are kept for another time"
        out.done(f"{model.unique}: download cancelled{kept}")
        out.record(job)


async def outdated(client: Client, out: Output) -> None:
    """Ask the Hub for newer files, and list the models that it has some of."""
    check = await client.check_updates()
    models = (await client.state()).models
    found = [models[key] for key in check.updates if key in models]
    out.record({**msgspec.to_builtins(check), "updates": found})
    if found:
        out.lines(record_text.outdated(found, out.room))
    out.note(record_text.updates(check))


async def rm(
    client: Client, out: Output, refs: Sequence[str], *, yes: bool, force: bool, dry_run: bool
) -> None:
    """Delete models' files: plan, show, ask, execute, receipt."""
    plan = await client.plan_deletion(refs)
    if not plan.delete:
        raise NotDownloaded(
            f"There are no files of {' or '.join(refs)} to delete.", "See `modeldeck ls -d`."
        )
    await carry_out(client, out, plan, refs, yes=yes, force=force, dry_run=dry_run)


async def carry_out(
    client: Client,
    out: Output,
    plan: DeletionPlan,
    what: CacheSelection | Sequence[str],
    *,
    yes: bool,
    force: bool,
    dry_run: bool,
) -> None:
    """Show the plan of a deletion, ask, execute it and show the receipt."""
    if dry_run:
        out.record(plan)
    models = (await client.state()).models
    names = {id: row_name(id, id, models) for id in plan.model_ids}
    for text in deletions.plan(plan, names):
        out.line(text)
    if dry_run:
        return
    if not yes and not out.confirm("Delete?"):
        raise Cancelled("Nothing was deleted.")
    receipt = await client.delete_cached(what, force=force)
    out.record(receipt)
    count = len(receipt.model_ids)
    gone = names[receipt.model_ids[0]] if count == 1 else f"{count} models"
    first, *rest = deletions.deleted(receipt, f"Deleted {gone}" if count else "Deleted files")
    if receipt.failed:  # what stayed is told with the error
        out.line(first)
        raise StorageFailed(
            f"{fmt.number(len(receipt.failed), 'thing')} could not be deleted.",
            "Check the permissions there, and whether its disk is mounted for reading only.",
            details=receipt.failed,
        )
    out.done(first)
    for text in rest:
        out.line(text)
    if receipt.undo is not None:
        out.note("No data was lost: `modeldeck undo` undoes it.")


# Instances


async def wait_until_ready(client: Client, out: Output, instance: Instance) -> Instance:
    """Show a load until the model is ready. When it is interrupted, the load is cancelled."""
    try:
        with out.progress() as progress:
            async with client.feed.states(max_hz=FRAMES_HZ, patience_s=PATIENCE_S) as states:
                async for state in states:
                    if (now := state.instances.get(instance.id)) is None:
                        raise Cancelled(f"The load of {instance.unique} was cancelled.")
                    if now.state in (InstanceState.READY, InstanceState.BUSY):
                        return now
                    if now.state is not InstanceState.STARTING:
                        raise _failure(now)
                    words = f"{now.unique}  {now.stage or 'starting'}"
                    progress.show(record_text.loading(now, out.signs), words, now.stage)
    except asyncio.CancelledError:
        await client.unload(instance.id)
        out.note(f"The load of {instance.unique} was cancelled.")
        raise
    raise AssertionError("the feed never ends by itself")


def _failure(instance: Instance) -> Exception:
    if instance.error is not None:
        return from_info(instance.error)
    return EngineFailed(f"{instance.unique} was unloaded before it was ready.")


async def unload(client: Client, out: Output, refs: Sequence[str], *, everything: bool) -> None:
    """Unload models, and show the receipts."""
    if everything:
        receipts = await client.unload_all()
        if not receipts:
            out.note("Nothing is loaded.")
    else:
        instances = [await _instance(client, ref) for ref in refs]
        receipts = [await client.unload(instance.id) for instance in instances]
    for receipt in receipts:
        out.done(record_text.unloaded(receipt))
        out.record(receipt)


async def _instance(client: Client, ref: str) -> Instance:
    """The live instance of a model, named by its own id or by any name of the model."""
    state = await client.state()
    if ref in state.instances:
        return state.instances[ref]
    model = await client.model(ref)
    for instance in record_text.live(state):
        if instance.model_id == model.id:
            return instance
    raise Conflict(f"{model.unique} is not loaded.", "`modeldeck ps` lists what is.")


async def ps(client: Client, out: Output) -> None:
    """List what is loaded."""
    state = await client.state()
    out.record(list(state.instances.values()))
    if state.instances:
        out.lines(record_text.instances(state, out.room))
    else:
        out.note("Nothing is loaded. `modeldeck load MODEL` loads one.")


async def history(client: Client, out: Output) -> None:
    """List earlier loads."""
    records = await client.loads()
    out.record(records)
    if records:
        from modeldeck.tui.text import load_records

        out.lines(load_records.history(records, out.room))
    else:
        out.note("Nothing that was loaded has been unloaded yet.")
