"""Computes the positions of queued jobs after a move. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from modeldeck.core.schema import QueueMove


def moved(positions: Mapping[str, int], job_id: str, to: QueueMove) -> dict[str, int]:
    """New positions of the jobs that a move changes; `positions` are those of all queued jobs.

    As few as possible change, because each is written to the journal. Equal positions, which a kill
    during a move may leave, are made distinct.

    >>> moved({"a": 1, "b": 2, "c": 3}, "c", "up")
    {'c': 2, 'b': 3}
    """
    order = sorted(positions, key=positions.__getitem__)
    at = order.index(job_id)
    if to == "first":
        return {} if at == 0 else {job_id: positions[order[0]] - 1}
    if to == "last":
        return {} if at == len(order) - 1 else {job_id: positions[order[-1]] + 1}
    order.insert(max(0, at + (1 if to == "down" else -1)), order.pop(at))
    changed, last = {}, min(positions.values()) - 1
    for key, position in zip(order, sorted(positions.values()), strict=True):
        last = max(position, last + 1)
        if positions[key] != last:
            changed[key] = last
    return changed
