"""Finds the machine that a model can be copied from."""

from __future__ import annotations

from collections.abc import Sequence

from modeldeck.core.concurrency import together
from modeldeck.core.errors import Conflict, DeckError, NotDownloaded
from modeldeck.core.schema import Manifest
from modeldeck.tui.dashboard.fleet import FleetMachine


async def source_of(
    model: str, target: FleetMachine, stations: Sequence[FleetMachine], download_key: str
) -> tuple[FleetMachine, Manifest]:
    """A machine that has a model which the target has not, and the model's manifest.

    Raises Conflict where the target has it, NotDownloaded where no other machine has it;
    `download_key` is the key to name then.
    """
    others = [station for station in stations if station is not target]
    here, *there = await together(_manifest(station, model) for station in (target, *others))
    if here is not None:
        raise Conflict(f"{here.model.unique} is on {target.title} already.")
    for station, manifest in zip(others, there, strict=True):
        if manifest is not None:
            return station, manifest
    raise NotDownloaded(
        f"No other machine has {model}.",
        f"{download_key} in the Catalog of one of them downloads it.",
    )


async def _manifest(station: FleetMachine, model: str) -> Manifest | None:
    """Manifest of a model on a machine; None if it is not there, or the core is away."""
    try:
        return await station.link.client.manifest(model)
    except DeckError:
        return None
