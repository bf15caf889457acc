from __future__ import annotations

import asyncio
import os
import sys
import time

import psutil
import pytest

from modeldeck.core.remote.ssh_process import LINE_BYTES, Lines, SshProcess, Text, run_briefly
from tests.core.remote.conftest import until


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"o", b"ne\r\ntw", b"o"], ["one", "two"]),
        ([b"\n\n"], ["", ""]),
        ([b"abcdefgh"], ["abcd", "efgh"]),
        ([b"abcd", b"ef\n"], ["abcd", "ef"]),
        ([b"\xff\n"], ["\N{REPLACEMENT CHARACTER}"]),
        ([], []),
    ],
)
def test_bytes_are_cut_into_lines_and_long_ones_into_pieces(
    pieces: list[bytes], lines: list[str]
) -> None:
    cutter = Lines(limit=4)
    found = [line.text for piece in pieces for line in cutter.feed(piece)]
    assert found + [line.text for line in cutter.close()] == lines


def test_no_more_than_a_line_is_held() -> None:
    cutter = Lines()
    for _ in range(100):
        assert all(len(line.text) <= LINE_BYTES for line in cutter.feed(b"x" * 100_000))
    assert sum(len(line.text) for line in cutter.close()) <= LINE_BYTES


async def test_a_process_that_writes_without_an_end_is_ended() -> None:
    heard: list[Text] = []
    endless = "import os\nwhile True: os.write(1, b'x' * 65536)"
    process = await SshProcess.start([sys.executable, "-c", endless], heard.append)
    await until(lambda: len(heard) > 2)
    async with asyncio.timeout(60):
        await process.end(0)
        await process.ended.wait()
    assert process.status is not None


async def test_a_process_that_does_not_hear_is_ended_all_the_same() -> None:
    """It ignores SIGTERM, and a child of its own holds its pipes."""
    deaf = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    heard: asyncio.Queue[Text] = asyncio.Queue()
    process = await SshProcess.start([sys.executable, "-c", deaf], heard.put_nowait, listens=True)
    child = int((await asyncio.wait_for(heard.get(), 60)).text)
    try:
        async with asyncio.timeout(60):
            await process.end(0)
            await process.ended.wait()
    finally:
        os.kill(child, 9)


async def test_ending_that_is_cancelled_leaves_nothing_behind() -> None:
    process = await SshProcess.start(["sleep", "600"], lambda _: None, listens=True)
    ending = asyncio.create_task(process.end(600))
    (found,) = [p for p in psutil.Process().children() if "sleep" in p.name()]
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    async with asyncio.timeout(60):
        await process.ended.wait()
    assert not found.is_running()


async def test_a_short_command_that_does_not_answer_is_given_up() -> None:
    started = time.monotonic()
    answer = await run_briefly(["sleep", "600"], within_s=0.1)
    assert not answer.is_done
    assert "did not answer" in answer.said[0]
    assert time.monotonic() - started < 60


async def test_a_short_command_that_cannot_be_started_says_why() -> None:
    assert "cannot be started" in (await run_briefly(["/"])).said[0]
    answer = await run_briefly(["sh", "-c", "echo out; echo said >&2; exit 3"])
    assert (answer.status, answer.out, answer.said) == (3, ("out",), ("said",))
