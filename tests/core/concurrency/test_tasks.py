"""Background work: what becomes of its failures, and that its end is clean."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from modeldeck.core.concurrency import (
    BackgroundTasks,
    Repeated,
    each_to_its_end,
    together,
    whole,
)
from modeldeck.core.concurrency.tasks import FAILURES_KEPT
from modeldeck.core.errors import NotEnoughDisk, ShuttingDown, StorageFailed


@pytest.fixture
async def bugs() -> list[dict[str, Any]]:
    """What reaches the exception handler of the loop."""
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    return seen


async def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    "error", [NotEnoughDisk("full"), StorageFailed("no"), ShuttingDown("end"), OSError(5, "io")]
)
async def test_an_expected_failure_is_logged_and_recorded_and_is_no_bug(
    error: Exception, bugs: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    tasks = BackgroundTasks()
    with caplog.at_level(logging.WARNING):
        tasks.start(fail(error), name="writing it down")
        await tasks.close()
    assert [(failure.name, failure.error) for failure in tasks.failures] == [
        ("writing it down", error)
    ]
    assert "writing it down failed" in caplog.text
    assert not bugs


async def test_a_bug_goes_to_the_handler_of_the_loop(bugs: list[dict[str, Any]]) -> None:
    tasks, bug = BackgroundTasks(), ZeroDivisionError("a bug")
    tasks.start(fail(bug), name="counting")
    await tasks.close()
    assert [context["exception"] for context in bugs] == [bug]
    assert "counting" in bugs[0]["message"]


async def test_failures_are_remembered_up_to_a_bound() -> None:
    tasks = BackgroundTasks()
    for number in range(FAILURES_KEPT + 3):
        tasks.start(fail(StorageFailed(str(number))), name=str(number))
    await tasks.close()
    assert [failure.name for failure in tasks.failures][-1] == str(FAILURES_KEPT + 2)
    assert len(tasks.failures) == FAILURES_KEPT


async def test_closing_lets_work_finish_and_cancels_what_does_not() -> None:
    tasks, done, cancelled = BackgroundTasks(), asyncio.Event(), asyncio.Event()

    async def short() -> None:
        await asyncio.sleep(0)
        done.set()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    tasks.start(short(), name="short")
    tasks.start(endless(), name="endless")
    await tasks.close(grace_s=0.05)
    assert done.is_set()
    assert cancelled.is_set()


async def test_work_that_comes_too_late_is_dropped_without_a_word_to_its_caller() -> None:
    tasks, ran = BackgroundTasks(), asyncio.Event()
    await tasks.close()

    async def late() -> None:
        ran.set()

    tasks.start(late(), name="late")  # raises nothing, and warns of no coroutine never awaited
    await asyncio.sleep(0)
    assert not ran.is_set()


async def test_work_that_is_cancelled_before_its_first_step_leaves_no_warning() -> None:
    tasks = BackgroundTasks()
    tasks.start(fail(ZeroDivisionError()), name="never begun")
    tasks.cancel()
    await tasks.close()
    assert not tasks.failures


async def test_what_is_repeated_goes_on_and_the_same_failure_is_told_once(
    bugs: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    looking = Repeated("looking")
    errors = [StorageFailed("a"), StorageFailed("a"), None, StorageFailed("a"), KeyError("bug")]
    with caplog.at_level(logging.INFO):
        for error in errors:
            with looking.turn():
                if error is not None:
                    raise error
    lines = [record.message for record in caplog.records]
    assert lines == ["looking failed: a", "looking works again.", "looking failed: a"]
    assert len(bugs) == 1


async def test_a_turn_that_is_cancelled_ends_the_loop() -> None:
    looking = Repeated("looking")
    with pytest.raises(asyncio.CancelledError), looking.turn():
        raise asyncio.CancelledError


async def test_a_whole_verb_runs_to_its_end_when_its_caller_goes_away() -> None:
    begun, go_on, steps = asyncio.Event(), asyncio.Event(), list[str]()

    @whole
    async def verb() -> None:
        steps.append("stored")
        begun.set()
        await go_on.wait()
        steps.append("remembered")

    call = asyncio.create_task(verb())
    await begun.wait()
    call.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert steps == ["stored", "remembered"]


class Slow:
    """Work that takes a few turns of the loop to end once it is cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = False

    async def run(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            try:
                for _ in range(5):
                    await asyncio.sleep(0)
            finally:
                self.ended = True


async def value(result: int) -> int:
    return result


async def test_results_come_in_order() -> None:
    assert await together(value(n) for n in range(3)) == [0, 1, 2]
    assert await each_to_its_end(value(n) for n in range(3)) == [0, 1, 2]
    assert await together(()) == await each_to_its_end(()) == []


async def test_a_failure_cancels_the_others_and_waits_for_their_end() -> None:
    slow = Slow()

    async def failing() -> None:
        await slow.begun.wait()
        raise NotEnoughDisk("full")

    with pytest.raises(NotEnoughDisk):
        await together((failing(), slow.run()))
    assert slow.ended


async def test_each_runs_to_its_end_where_another_fails() -> None:
    steps: list[str] = []

    async def later() -> None:
        await asyncio.sleep(0)
        steps.append("done")

    with pytest.raises(NotEnoughDisk):
        await each_to_its_end((fail(NotEnoughDisk("full")), later(), fail(OSError())))
    assert steps == ["done"]


@pytest.mark.parametrize("at_once", [together, each_to_its_end])
async def test_a_cancellation_waits_for_the_end_of_all(at_once: Any) -> None:
    slow, short = Slow(), asyncio.Event()
    both = asyncio.create_task(at_once((short.wait(), slow.run())))
    await slow.begun.wait()
    both.cancel()
    await asyncio.sleep(0)  # the short one is cancelled already
    both.cancel()  # a second time, while it waits
    with pytest.raises(asyncio.CancelledError):
        await both
    assert slow.ended
