"""Machine figures that stand still while only other programs move them a little. Pure.

Free memory and free disk move with every program on the machine. A dashboard that draws each small
change sends bytes over SSH all night, and its last digits flicker. So a figure stays as it is shown
while it hardly differs, and nothing of modeldeck's own has changed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldeck.core.schema import Disk, Fit, Gpu, Memory
    from modeldeck.core.schema.state import State

LEAST_BYTES = 64 << 20
"""A smaller change of a figure is not shown by itself."""
SHARE = 200
"""Nor is a change by less than this part of what there is: a bar has fewer cells."""


class SteadyFigures:
    """Decides which figures of memory and disk are shown for each State of one core.

    The first measurement after a model was loaded, unloaded or has grown, or after a setting
    changed, is shown as it is; of the disk that after a download or the models' files changed.
    """

    def __init__(self) -> None:
        self._newest: dict[str, Any] = {}
        """The number, memory and disk of the newest State, as they came."""
        self._memory_is_due = self._disk_is_due = False

    def base(self, shown: State) -> State:
        """The State to apply the next event to: the one that is shown, with all figures as new."""
        return replace(shown, **self._newest)

    def shown(
        self, before: State, newest: State, *, memory_read: bool = False, disk_read: bool = False
    ) -> State:
        """What is shown after `before` for the newest State: `before` itself if nothing is new.

        Args:
            before: What is shown.
            newest: The newest State, with all figures as they came.
            memory_read: Whether its memory was measured just now.
            disk_read: Whether its disk was looked at just now.
        """
        self.came(newest)
        if not (_same_models(before, newest) and before.settings == newest.settings):
            self._memory_is_due = True
        if before.downloads != newest.downloads:
            self._disk_is_due = True
        memory, disk = before.memory, before.disk
        if memory_read:
            memory = newest.memory if self._memory_is_due else _steady_memory(memory, newest.memory)
            self._memory_is_due = False
        if disk_read:
            disk = newest.disk if self._disk_is_due else _steady_disk(disk, newest.disk)
            self._disk_is_due = False
        steady = replace(newest, memory=memory, disk=disk)
        return before if replace(steady, seq=before.seq) == before else steady

    def came(self, newest: State) -> None:
        """Note a State that is shown as it is."""
        self._newest = {"seq": newest.seq, "memory": newest.memory, "disk": newest.disk}


def with_steady_room(shown: Mapping[str, Fit], newest: Mapping[str, Fit]) -> dict[str, Fit]:
    """The newest fits, each with the free memory that is shown where that is all that is new."""
    return {
        key: shown[key] if key in shown and _same_fit(shown[key], fit) else fit
        for key, fit in newest.items()
    }


def _same_fit(shown: Fit, newest: Fit) -> bool:
    free = newest.available_bytes
    # What is missing, in words, follows free memory; without a forecast they are all there is.
    reason = newest.reason if newest.forecast is None else shown.reason
    same = replace(newest, available_bytes=shown.available_bytes, reason=reason) == shown
    return same and _near(shown.available_bytes, free, free)


def _same_models(shown: State, newest: State) -> bool:
    """Whether the same models are loaded, and hold as much as before."""
    if shown.instances.keys() != newest.instances.keys():
        return False
    pairs = ((before, newest.instances[key]) for key, before in shown.instances.items())
    return all(
        before.state is now.state and _near(before.measured_bytes, now.measured_bytes, None)
        for before, now in pairs
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
