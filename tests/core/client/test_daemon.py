"""Starting, finding and ending a core."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from modeldeck.core.client import daemon
from modeldeck.core.config.paths import Paths, locate
from modeldeck.core.demo.session import environment
from modeldeck.core.errors import (
    AlreadyRunning,
    Conflict,
    CoreUnreachable,
    DeckError,
    StorageFailed,
)
from modeldeck.core.storage import log_file
from tests.support.process import CoreProcess


@pytest.fixture
async def paths(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Paths]:
    """Folders with no core, whose background core takes any port; none is left afterwards."""
    monkeypatch.setenv("MODELDECK_API_PORT", "0")
    paths = locate()
    yield paths
    await daemon.stop(paths)


def gone(pid: int) -> None:
    with suppress(psutil.NoSuchProcess):
        psutil.wait_procs([psutil.Process(pid)])


def wait_for(condition: Callable[[], object]) -> None:
    """Return when the condition holds; fail after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def group_exists(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_core_in_the_background_is_found_and_ended(paths: Paths) -> None:
    assert await daemon.find(paths) is None
    ready = await daemon.start_background(paths)
    assert await daemon.find(paths) == ready
    async with ready.client() as client:
        assert (await client.state()).host.pid == ready.pid
    assert os.getsid(ready.pid) != os.getsid(0), "a hang-up of this terminal would reach it"
    assert await daemon.stop(paths)
    await asyncio.to_thread(gone, ready.pid)
    assert await daemon.find(paths) is None
    assert not paths.socket.exists()
    assert not paths.ready_file.exists()
    assert not await daemon.stop(paths)


async def test_whoever_is_later_gets_the_core_that_was_quicker(paths: Paths) -> None:
    (first, ours), (second, also) = await asyncio.gather(daemon.begin(paths), daemon.begin(paths))
    assert first == second
    assert ours != also, "one of them started it"


async def test_a_core_that_was_killed_does_not_stand_in_the_way(paths: Paths) -> None:
    first = await daemon.start_background(paths)
    os.kill(first.pid, signal.SIGKILL)
    await asyncio.to_thread(gone, first.pid)
    assert paths.ready_file.exists(), "else this shows nothing"
    assert await daemon.find(paths) is None
    second = await daemon.start_background(paths)
    assert second.pid != first.pid


SILENT = """
from modeldeck.core import server
server._answer = lambda deck, announce, *ends: server._any(deck, *ends)
server.main()
"""
"""A core that never says that it answers: its start takes longer than any test."""


@pytest.mark.parametrize("stage", ["process", "lock"])
async def test_a_start_that_is_called_off_leaves_no_core(
    paths: Paths, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "PROGRAM", (sys.executable, "-P", "-c", SILENT))
    others = set(psutil.Process().children())

    def started() -> set[psutil.Process]:
        return set(psutil.Process().children()) - others

    starting = asyncio.create_task(daemon.start_background(paths))
    await asyncio.to_thread(wait_for, started)
    (process,) = started()
    if stage == "lock":
        await asyncio.to_thread(wait_for, paths.lock_file.exists)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await asyncio.to_thread(wait_for, lambda: not group_exists(process.pid))


async def test_why_a_core_does_not_start_is_told(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("MODELDECK_API_PORT", str(port))
        with pytest.raises(Conflict, match=str(port)) as caught:
            await daemon.start_background(paths)
        assert caught.value.remedy


async def test_a_crash_at_the_start_is_told_with_the_last_lines_of_the_log(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "httptools.py").write_text("raise RuntimeError('made to fail')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(Exception, match="did not start") as caught:
        await daemon.start_background(paths)
    assert "made to fail" in str(getattr(caught.value, "details", ""))


async def test_a_state_folder_that_cannot_be_made_is_told(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MODELDECK_STATE_DIR", str(tmp_path / "file" / "state"))
    with pytest.raises(StorageFailed):
        await daemon.start_background(locate())


async def test_a_log_folder_that_cannot_be_made_is_told(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MODELDECK_LOG_DIR", str(tmp_path / "file" / "log"))
    with pytest.raises(StorageFailed):
        await daemon.start_background(locate())


async def test_a_long_log_is_put_aside(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "LOG_LIMIT", 10)
    paths.log.mkdir(parents=True)
    paths.core_log.write_text("more than ten bytes\n")
    await daemon.start_background(paths)
    assert "more than ten" not in paths.core_log.read_text()
    assert "more than ten" in paths.core_log.with_suffix(".log.1").read_text()


async def test_a_core_that_holds_the_lock_and_does_not_answer_is_named(paths: Paths) -> None:
    ready = await daemon.start_background(paths)
    core = psutil.Process(ready.pid)
    paths.ready_file.rename(paths.ready_file.with_suffix(".hidden"))
    with pytest.raises(CoreUnreachable, match=str(paths.lock_file)):
        await daemon.stop(paths)
    core.terminate()
    await asyncio.to_thread(gone, ready.pid)


# A core of this terminal


def test_there_is_one_core_per_state_folder(core: CoreProcess, home: Path) -> None:
    program = [
        sys.executable,
        "-P",
        "-m",
        "modeldeck.tui.cli.main",
        "serve",
        "--port",
        "0",
        "--ready-json",
    ]
    second = subprocess.run(program, capture_output=True, text=True, check=False)
    assert second.returncode == 4
    assert second.stdout == ""
    assert AlreadyRunning.code in second.stderr
    assert str(core.process.pid) in second.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_core_in_order(core: CoreProcess, number: signal.Signals) -> None:
    core.process.send_signal(number)
    assert core.process.wait() == 0, core.stderr
    assert core.stderr == ""
    assert not core.socket.exists()
    assert not locate().ready_file.exists()


# A core that belongs to another process


async def test_a_child_ends_with_the_block(tmp_path: Path, home: Path) -> None:
    environ = environment(home.parent / "demo", "http://127.0.0.1:9", 0, os.environ)
    async with daemon.child(environ) as (ready, ended):
        assert psutil.pid_exists(ready.pid)
        assert not ended.is_set()
    assert ended.is_set()
    assert not psutil.pid_exists(ready.pid)


async def test_a_child_that_ends_by_itself_is_noticed(home: Path) -> None:
    environ = environment(home.parent / "demo", "http://127.0.0.1:9", 0, os.environ)
    async with daemon.child(environ) as (ready, ended):
        os.kill(ready.pid, signal.SIGKILL)
        await ended.wait()


def test_a_child_ends_when_its_parent_is_killed(home: Path) -> None:
    script = (
        "import asyncio, os\n"
        "from modeldeck.core.client import daemon\n"
        "async def main():\n"
        "    async with daemon.child(dict(os.environ)) as (ready, ended):\n"
        "        print(ready.pid, flush=True)\n"
        "        await ended.wait()\n"
        "asyncio.run(main())\n"
    )
    environ = environment(home.parent / "demo", "http://127.0.0.1:9", 0, os.environ)
    with subprocess.Popen(
        [sys.executable, "-P", "-c", script], stdout=subprocess.PIPE, env=environ
    ) as parent:
        assert parent.stdout is not None
        core = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    left, alive = psutil.wait_procs([core], timeout=60)
    assert left
    assert not alive


def program(monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    """Have these lines of Python stand for a core."""
    monkeypatch.setattr(daemon, "PROGRAM", (sys.executable, "-ISc", lines))


async def test_a_core_that_cannot_even_be_started_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "PROGRAM", ("/nowhere/python",))
    with pytest.raises(DeckError, match="cannot be started: No such file"):
        await daemon.start_background(locate())
    with pytest.raises(DeckError, match="cannot be started: No such file"):
        async with daemon.child(os.environ):
            pass


async def test_a_core_that_says_no_line_did_not_start(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read of it has a limit."""
    program(monkeypatch, "print('x' * (1 << 20))")
    with pytest.raises(DeckError, match="did not start"):
        await daemon.start_background(locate())
    with pytest.raises(DeckError, match="did not start"):
        async with daemon.child(os.environ):
            pass


async def test_a_core_that_neither_speaks_nor_ends_is_killed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = home.parent / "pid"
    # A shell is there sooner than Python: all of this has to be done before the time is over.
    words = f"trap '' TERM; echo $$ > {mark}; exec sleep 600"
    monkeypatch.setattr(daemon, "PROGRAM", ("sh", "-c", words))
    monkeypatch.setattr(daemon, "START_S", 5.0)
    monkeypatch.setattr(daemon, "REAP_S", 0.1)
    async with asyncio.timeout(60):
        with pytest.raises(DeckError, match="did not start"):
            await daemon.start_background(locate())
    assert not psutil.pid_exists(int(mark.read_text()))


def test_of_a_long_log_only_the_end_is_read(paths: Paths) -> None:
    paths.core_log.parent.mkdir(parents=True)
    with paths.core_log.open("wb") as log:
        log.truncate(8 << 30)
        log.seek(0, os.SEEK_END)
        log.write(b"\nthe last line\n")
    assert daemon.last_lines(paths)[-1] == "the last line"
    paths.core_log.unlink()
    assert daemon.last_lines(paths) == ()
    paths.core_log.mkdir()
    assert daemon.last_lines(paths) == ()


@pytest.mark.skipif(os.getuid() == 0, reason="root may open everything")
async def test_a_lock_that_may_not_be_opened_is_told(paths: Paths) -> None:
    paths.lock_file.parent.mkdir(parents=True)
    paths.lock_file.touch(mode=0)
    with pytest.raises(StorageFailed, match="lock"):
        await daemon.stop(paths)
    paths.lock_file.unlink()
