"""The work of the commands that follow a core: events and wait."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from modeldeck.core.client.answers import OTHER_VERSION
from modeldeck.core.errors import DeckError, EngineFailed, InvalidRequest, TimedOut
from modeldeck.core.remote.printable import clean
from modeldeck.core.schema import InstanceState
from modeldeck.core.schema.errors import from_info
from modeldeck.core.schema.state import EVENTS
from modeldeck.tui.cli.runner import discard_output
from modeldeck.tui.text import records

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.errors import CoreUnreachable
    from modeldeck.core.schema import Download, Instance, Model
    from modeldeck.core.schema.state import State
    from modeldeck.tui.cli.output import Output

PATIENCE_S = 60.0
"""For a core that went away while a command waits: it may be starting again."""


class _Head(msgspec.Struct):
    event: str = ""


async def events(client: Client, out: Output, only: Collection[str], max_hz: float | None) -> None:
    """Print frames of the feed as they arrive, until cancelled or the pipe is closed."""
    if unknown := sorted(set(only) - {"state", *EVENTS}):
        raise InvalidRequest(
            f"There is no event {unknown[0]}.", f"There are state, {', '.join(EVENTS)}."
        )
    await client.health()  # a core that is not there at all is an error; one that goes away is not

    def lost(error: CoreUnreachable, wait_s: float) -> None:
        out.note(f"{error.message} Trying again.")

    async with client.feed.frames(max_hz=max_hz, lost=lost) as frames:
        async for frame in frames:
            text = frame if isinstance(frame, str) else frame.decode(errors="replace")
            if only and _event(text) not in only:
                continue
            try:
                print(clean(text) if out.terminal else text, flush=True)
            except BrokenPipeError:
                discard_output()
                return


def _event(frame: str) -> str:
    try:
        return msgspec.json.decode(frame, type=_Head).event
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DeckError(f"The core's feed is not understood: {error}.", OTHER_VERSION) from error


async def wait(client: Client, out: Output, ref: str, wanted: str, timeout_s: float | None) -> None:
    """Return when a model is where it is wanted. Raises what it failed for, or TimedOut."""
    model = await client.model(ref)
    try:
        async with asyncio.timeout(timeout_s):
            state = await client.feed.until(
                lambda state: reached(state, model, wanted), patience_s=PATIENCE_S
            )
    except TimeoutError:
        raise TimedOut(
            f"{model.unique} is not {wanted} after {timeout_s:g} s.", "See `modeldeck status`."
        ) from None
    out.record({"model": model.unique, "state": wanted, "seq": state.seq})
    out.done(f"{model.unique} is {wanted}")


def reached(state: State, model: Model, wanted: str) -> bool:
    """Whether the model is there. Raises what keeps it from ever getting there by itself. Pure."""
    now = state.models.get(model.id)
    live = [i for i in records.live(state) if i.model_id == model.id]
    if wanted == "unloaded":
        return not live
    if wanted == "downloaded":
        if now is not None and now.downloaded:
            return True
        _raise_for_download([d for d in state.downloads.values() if d.model_id == model.id])
        return False
    if any(i.state in (InstanceState.READY, InstanceState.BUSY) for i in live):
        return True
    _raise_for_load([i for i in state.instances.values() if i.model_id == model.id])
    return False


def _raise_for_download(jobs: list[Download]) -> None:
    """Raise the error of the newest download, where it failed."""
    if jobs and jobs[-1].state == "failed":
        error = jobs[-1].error
        raise from_info(error) if error else DeckError(f"{jobs[-1].unique}: the download failed.")


def _raise_for_load(instances: list[Instance]) -> None:
    """Raise the error of the newest load, where it failed."""
    if instances and instances[-1].state is InstanceState.FAILED:
        error = instances[-1].error
        raise from_info(error) if error else EngineFailed(f"{instances[-1].unique} ended.")
