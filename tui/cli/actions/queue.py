"""The work of the commands about the download queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from modeldeck.core.config.schedule import parse_entry, parse_rate
from modeldeck.core.errors import Conflict
from modeldeck.core.schema import QueueMove
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records
from modeldeck.tui.text.format import TextColumn

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.schema import Download, Settings
    from modeldeck.core.schema.state import State
    from modeldeck.tui.cli.output import Output


async def downloads(client: Client, out: Output, *, at_once: int | None, clear: bool) -> None:
    """List the queue; before that change it where that is asked for."""
    if at_once is not None:
        settings = await client.change_settings(jobs_at_once=at_once)
        out.note(f"{fmt.number(settings.jobs_at_once, 'download')} at once from now on.")
    state = await client.state()
    if clear:
        for job in state.downloads.values():
            if job.state in records.ENDED_JOBS:
                await client.remove_download(job.id)
        state = await client.state()
    jobs = sorted(state.downloads.values(), key=lambda job: job.position)
    out.record(jobs)
    if jobs:
        out.lines(_table(jobs, out.room))
    else:
        out.note("Nothing is being downloaded. `modeldeck pull MODEL` fetches one.")


def _table(jobs: Sequence[Download], width: int) -> list[str]:
    heads = (
        TextColumn(title="model", shrink=True),
        TextColumn(title="state"),
        TextColumn(title="done", right=True),
        TextColumn(title="size", right=True),
        TextColumn(title="rate", right=True),
        TextColumn(title="left", right=True),
        TextColumn(title="limit", right=True),
    )
    cells = [
        (
            job.unique,
            records.job_state(job.state),
            fmt.percent(job.received_bytes / job.total_bytes if job.total_bytes else None),
            fmt.size(job.total_bytes),
            fmt.rate(job.rate_bytes_per_s) if job.rate_bytes_per_s is not None else "",
            fmt.duration(job.eta_s) if job.eta_s is not None else "",
            fmt.rate(job.rate_limit_bytes_per_s) if job.rate_limit_bytes_per_s else "",
        )
        for job in jobs
    ]
    return fmt.table(heads, cells, width)


async def pause(client: Client, out: Output, refs: Sequence[str]) -> None:
    """Hold the downloads of models, of all that go on where none is named."""
    for job in await _jobs(client, refs, records.RUNNING_JOBS):
        held = await client.pause_download(job.id)
        out.done(
            f"{held.unique}: {records.job_state(held.state)} at {fmt.size(held.received_bytes)}"
        )
        out.record(held)


async def resume(client: Client, out: Output, refs: Sequence[str]) -> None:
    """Go on with the downloads of models, with all that are held or failed where none is named."""
    for job in await _jobs(client, refs, ("paused", "failed")):
        going = await client.resume_download(job.id)
        out.done(f"{going.unique}: {records.job_state(going.state)}")
        out.record(going)


async def _jobs(client: Client, refs: Sequence[str], states: Sequence[str]) -> list[Download]:
    """The downloads of these models, or all in these states."""
    state = await client.state()
    if not refs:
        return [job for job in state.downloads.values() if job.state in states]
    return [await _job(client, state, ref) for ref in refs]


async def _job(client: Client, state: State, ref: str) -> Download:
    model = await client.model(ref)
    jobs = [job for job in state.downloads.values() if job.model_id == model.id]
    if not jobs:
        raise Conflict(f"{model.unique} is not being downloaded.", "See `modeldeck downloads`.")
    return jobs[-1]


async def move(client: Client, out: Output, ref: str, to: str) -> None:
    """Move the download of a model in the queue."""
    job = await _job(client, await client.state(), ref)
    moved = await client.move_download(job.id, cast(QueueMove, to))
    out.done(f"{moved.unique}: moved {to}, {records.job_state(moved.state)}")
    out.record(moved)


async def limit_one(client: Client, out: Output, ref: str, rate: str) -> None:
    """Limit the download of one model."""
    job = await _job(client, await client.state(), ref)
    limited = await client.limit_download(job.id, parse_rate(rate))
    out.done(f"{limited.unique}: {_rate(limited.rate_limit_bytes_per_s)}")
    out.record(limited)


async def limit(
    client: Client,
    out: Output,
    rate: str | None,
    schedule: Sequence[str] | None,
    give_way: bool | None,
) -> None:
    """Change the limit of all downloads where one is given, and show the limit in force."""
    changes: dict[str, Any] = {}
    if rate is not None:
        changes["rate_limit_bytes_per_s"] = parse_rate(rate)
    if schedule is not None:
        changes["schedule"] = dict(parse_entry(entry) for entry in schedule)
    if give_way is not None:
        changes["give_way"] = give_way
    settings = await client.change_settings(**changes) if changes else None
    settings = settings or (await client.state()).settings
    out.record(settings)
    for line in terms(settings):
        out.line(line)


def terms(settings: Settings) -> list[str]:
    """On what terms downloads run, a line for each."""
    now = _rate(settings.rate_in_force_bytes_per_s)
    why = f"  ({settings.rate_reason})" if settings.rate_reason else ""
    lines = [f"now        {now}{why}", f"set        {_rate(settings.rate_limit_bytes_per_s)}"]
    for window, rate in settings.schedule.items():
        lines.append(f"{window}{_rate(None if rate == 'none' else int(rate)):>12}")
    if settings.give_way:
        lines.append("gives way while an attached dashboard waits for the line")
    return [*lines, f"at once    {settings.jobs_at_once}"]


def _rate(bytes_per_s: int | None) -> str:
    return "no limit" if bytes_per_s is None else fmt.rate(bytes_per_s)
