"""Threads that the program does not wait for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from modeldeck.core.concurrency import DaemonThreadPool, TimeLimitExceeded, TooManyStuck

ENDLESS = """
import asyncio, threading
from modeldeck.core.concurrency import DaemonThreadPool, TimeLimitExceeded, TooManyStuck

async def main():
    with_nobody = DaemonThreadPool(1, "endless").run(threading.Event().wait)
    await asyncio.wait({asyncio.ensure_future(with_nobody)}, timeout=0.1)

asyncio.run(main())
print("ended")
"""


async def test_what_the_work_returns_or_raises_is_told() -> None:
    threads = DaemonThreadPool(2, "test")
    assert await threads.run(lambda: threading.current_thread().daemon)
    with pytest.raises(KeyError):
        await threads.run(lambda: {"a": 1}["b"])


async def test_a_place_is_free_when_the_thread_has_ended_not_when_nobody_waits() -> None:
    threads, go, begun = DaemonThreadPool(1, "test"), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait()

    first = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(begun.wait)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.create_task(threads.run(lambda: "second"))
    await asyncio.wait({second}, timeout=0.05)
    assert not second.done()
    go.set()
    assert await second == "second"


def test_the_program_ends_without_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDLESS], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "ended\n"


# Time limits


async def test_work_that_takes_too_long_fails_and_counts_as_stuck() -> None:
    threads, go = DaemonThreadPool(1, "test", limit_s=0.05), threading.Event()
    with pytest.raises(TimeLimitExceeded):
        await threads.run(go.wait, key="disk")
    assert threads.stuck == ("disk",)
    # Its place is free for other keys; the same key is refused while it is stuck.
    assert await threads.run(lambda: 1, key="other", limit_s=30) == 1
    with pytest.raises(TooManyStuck):
        await threads.run(lambda: 2, key="disk")
    go.set()
    async with asyncio.timeout(60):
        while threads.stuck:  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.001)
    assert await threads.run(lambda: 2, key="disk", limit_s=30) == 2


async def test_when_too_many_are_stuck_further_work_is_refused_not_queued() -> None:
    threads, go = DaemonThreadPool(2, "test", limit_s=0.05, most_stuck=3), threading.Event()
    for number in range(3):
        with pytest.raises(TimeLimitExceeded):
            await threads.run(go.wait, key=str(number))
    assert threads.exhausted
    assert threads.stuck == ("0", "1", "2")
    with pytest.raises(TooManyStuck):
        await threads.run(lambda: 1)
    go.set()
    async with asyncio.timeout(60):
        while threads.stuck:  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.001)
    assert await threads.run(lambda: 1, limit_s=30) == 1


async def test_waiting_for_a_place_counts_as_well() -> None:
    threads, go = DaemonThreadPool(1, "test"), threading.Event()
    first = asyncio.create_task(threads.run(go.wait))
    await asyncio.sleep(0)
    with pytest.raises(TimeLimitExceeded):
        await threads.run(lambda: 1, limit_s=0.05)
    go.set()
    assert await first is True
    assert await threads.run(lambda: 1) == 1


async def test_places_are_neither_lost_nor_made_when_callers_give_up() -> None:
    threads, go = DaemonThreadPool(2, "test", limit_s=30), threading.Event()
    together, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        go.wait(0.002)
        with lock:
            together -= 1

    tasks = [asyncio.create_task(threads.run(work)) for _ in range(60)]
    for number, task in enumerate(tasks):
        await asyncio.sleep(0)
        if number % 3 == 0:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most <= 2
    both = threading.Barrier(2)
    waits = [threads.run(lambda: both.wait(30)) for _ in range(2)]
    assert sorted(await asyncio.gather(*waits)) == [0, 1]


def test_a_pool_outlives_a_loop() -> None:
    threads, go = DaemonThreadPool(1, "test", limit_s=0.05), threading.Event()

    async def hang() -> None:
        with pytest.raises(TimeLimitExceeded):
            await threads.run(go.wait, key="disk")

    async def ask() -> int:
        return await threads.run(lambda: 1, limit_s=30)

    asyncio.run(hang())
    assert asyncio.run(ask()) == 1
    go.set()
