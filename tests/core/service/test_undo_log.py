"""What can be taken back: in which order, how often, and what keeps it from that."""

from __future__ import annotations

from functools import partial

import pytest

from modeldeck.core.errors import Conflict, NotFound
from modeldeck.core.service.undo_log import KEPT, UndoLog


async def test_the_newest_goes_first_and_each_once() -> None:
    undo, done = UndoLog(), list[str]()

    async def back(name: str) -> None:
        done.append(name)

    keys = [undo.offer(name, f"{name} is back", partial(back, name)) for name in ("a", "b", "c")]
    assert [step.what for step in undo.steps] == ["c", "b", "a"]
    assert (await undo.undo(keys[0])).what == "a"
    assert (await undo.undo(None)).what == "c"
    with pytest.raises(NotFound, match="No such action"):
        await undo.undo(keys[2])
    assert (await undo.undo(None)).what == "b"
    with pytest.raises(NotFound, match="Nothing to undo"):
        await undo.undo(None)
    assert done == ["a", "c", "b"]


async def test_what_failed_may_be_tried_again() -> None:
    undo, failures = UndoLog(), [Conflict("Not now.")]

    async def back() -> None:
        if failures:
            raise failures.pop()

    undo.offer("a", "a is back", back)
    with pytest.raises(Conflict):
        await undo.undo(None)
    assert (await undo.undo(None)).what == "a"


async def test_only_so_many_are_remembered() -> None:
    undo = UndoLog()

    async def back() -> None:
        pass

    for number in range(KEPT + 5):
        undo.offer(str(number), "", back)
    assert len(undo.steps) == KEPT
    assert undo.steps[-1].what == "5"
