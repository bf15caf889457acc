"""Machine figures that stand still while only other programs move them a little. Pure.

Free memory and free disk move with every program on the machine. A dashboard that draws each small
change sends bytes over SSH all night, and its last digits flicker. So a figure stays as it is shown
while it hardly differs, and nothing of modeldeck's own has changed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldeck.core.schema import Disk, Fit, Gpu, Memory
    from modeldeck.core.schema.state import State

LEAST_BYTES = 64 << 20
"""A smaller change of a figure is not shown by itself: less than the 0.1 GiB of its last digit."""
SHARE = 200
"""Nor is a change by less than this part of what there is: a bar has fewer cells."""


def with_steady_figures(shown: State | None, newest: State) -> State:
    """The newest State, with figures of memory and disk that are shown where they hardly differ.

    Memory is new as soon as a model is loaded, unloaded or has grown, or a setting changed; the
    disk as soon as a download or the models' files changed. Returns `shown` where nothing else is
    new, so that nothing is drawn.
    """
    if shown is None:
        return newest
    memory, disk = newest.memory, newest.disk
    if _same_models(shown, newest) and shown.settings == newest.settings:
        memory = _steady_memory(shown.memory, memory)
    if shown.downloads == newest.downloads:
        disk = _steady_disk(shown.disk, disk)
    steady = replace(newest, memory=memory, disk=disk)
    return shown if replace(steady, seq=shown.seq) == shown else steady


def with_steady_room(shown: Mapping[str, Fit], newest: Mapping[str, Fit]) -> dict[str, Fit]:
    """The newest fits, each with the free memory that is shown where that is all that is new."""
    return {
        key: shown[key] if key in shown and _same_fit(shown[key], fit) else fit
        for key, fit in newest.items()
    }


def _same_fit(shown: Fit, newest: Fit) -> bool:
    free = newest.available_bytes
    same = replace(newest, available_bytes=shown.available_bytes, reason=shown.reason) == shown
    return same and _near(shown.available_bytes, free, free)


def _same_models(shown: State, newest: State) -> bool:
    """Whether the same models are loaded, and hold as much as before."""
    return shown.instances.keys() == newest.instances.keys() and all(
        before.state is now.state and _near(before.measured_bytes, now.measured_bytes, None)
        for before, now in zip(shown.instances.values(), newest.instances.values(), strict=True)
    )


def _steady_memory(shown: Memory, newest: Memory) -> Memory:
    """What is shown of memory, with each GPU's newest temperature, power and load."""
    total = newest.total_bytes
    if (
        shown.total_bytes != total
        or not _near(shown.available_bytes, newest.available_bytes, total)
        or not _near(shown.budget_bytes, newest.budget_bytes, total)
        or not _near(shown.swap_used_bytes, newest.swap_used_bytes, total)
        or len(shown.gpus) != len(newest.gpus)
    ):
        return newest
    gpus = tuple(map(_steady_gpu, shown.gpus, newest.gpus))
    return replace(shown, gpus=gpus)


def _steady_gpu(shown: Gpu, newest: Gpu) -> Gpu:
    total = newest.total_bytes
    if (
        shown.total_bytes != total
        or not _near(shown.used_bytes, newest.used_bytes, total)
        or not _near(shown.free_bytes, newest.free_bytes, total)
    ):
        return newest
    return replace(newest, used_bytes=shown.used_bytes, free_bytes=shown.free_bytes)


def _steady_disk(shown: Disk, newest: Disk) -> Disk:
    same = replace(shown, free_bytes=newest.free_bytes) == newest
    if same and _near(shown.free_bytes, newest.free_bytes, newest.free_bytes):
        return shown
    return newest


def _near(shown: int | None, newest: int | None, total: int | None) -> bool:
    """Whether two figures differ by less than is shown, where there are `total` bytes."""
    if shown is None or newest is None:
        return shown is newest
    return abs(newest - shown) < max(LEAST_BYTES, (total or 0) // SHARE)
