"""Threads that the program does not wait for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from core.detached import Detached

ENDLESS = """
import asyncio, threading
from core.detached import Detached

async def main():
    with_nobody = Detached(1, "endless").run(threading.Event().wait)
    await asyncio.wait({asyncio.ensure_future(with_nobody)}, timeout=0.1)

asyncio.run(main())
print("ended")
"""


async def test_what_the_work_returns_or_raises_is_told() -> None:
    threads = Detached(2, "test")
    assert await threads.run(lambda: threading.current_thread().daemon)
    with pytest.raises(KeyError):
        await threads.run(lambda: {"a": 1}["b"])


async def test_a_place_is_free_when_the_thread_has_ended_not_when_nobody_waits() -> None:
    threads, go, begun = Detached(1, "test"), threading.Event(), threading.Event()

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
