"""Threads for work that blocks: kept for the next, as many as there is work, none without."""

from __future__ import annotations

import asyncio
import threading

import pytest

from modeldeck.core.concurrency import in_own_thread, threads


def nothing() -> None:
    """An abort that is not needed."""


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """No thread that another test left."""
    with threads._idle_lock:
        threads._idle.clear()


async def test_a_thread_that_is_done_does_the_next_thing_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "IDLE_S", 60.0)
    first = await in_own_thread(threading.get_ident, nothing)
    async with asyncio.timeout(60):
        while not threads._idle:  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.001)
    assert [await in_own_thread(threading.get_ident, nothing)] == [first]


async def test_there_are_as_many_as_there_is_work() -> None:
    together = threading.Barrier(40)
    waits = [in_own_thread(lambda: together.wait(30), nothing) for _ in range(40)]
    assert sorted(await asyncio.gather(*waits)) == list(range(40))


async def test_a_thread_without_work_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE_S", 0.01)
    thread = await in_own_thread(threading.current_thread, nothing)
    await asyncio.to_thread(thread.join, 30)
    assert not thread.is_alive()
    assert threads._idle == []
    assert await in_own_thread(lambda: 1, nothing) == 1


async def test_what_went_wrong_is_handed_on() -> None:
    def fail() -> None:
        raise KeyError("no")

    with pytest.raises(KeyError):
        await in_own_thread(fail, nothing)


async def test_a_cancellation_aborts_and_waits_for_the_end() -> None:
    began, stop, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        stop.wait(30)
        ended.set()

    task = asyncio.create_task(in_own_thread(work, stop.set))
    await asyncio.to_thread(began.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_file_that_hangs_holds_the_end_up_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "LEAVE_S", 0.05)
    began, never = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        never.wait(60)

    task = asyncio.create_task(threads.in_thread(work))
    while not began.is_set():  # noqa: ASYNC110 - a thread sets it
        await asyncio.sleep(0.001)
    task.cancel()
    async with asyncio.timeout(60):
        with pytest.raises(asyncio.CancelledError):
            await task
    never.set()
