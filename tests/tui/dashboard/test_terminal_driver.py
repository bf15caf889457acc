from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pexpect  # type: ignore[import-untyped] # it has no types
import psutil
import pytest
from textual import events
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.drivers._writer_thread import MAX_QUEUED_WRITES
from textual.message import Message

from modeldeck.tui.dashboard.terminal_driver import TerminalDriver, watch
from tests.support.pseudoterminal import hang_up


class Sized(App[None]):
    """Keeps the sizes that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: asyncio.Queue[tuple[int, ...]] = asyncio.Queue()

    def post_message(self, message: Message) -> bool:
        if isinstance(message, events.Resize):
            self.sizes.put_nowait(tuple(message.size))
        return True


@pytest.fixture
def hang_ups() -> Any:
    heard: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _: heard.append(number))
    yield heard
    signal.signal(signal.SIGHUP, before)


async def test_leaving_a_terminal_that_is_gone_waits_for_nobody(
    hang_ups: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = pty.openpty()
    with suppress(OSError), os.fdopen(slave, "w") as terminal:  # closing flushes once more
        monkeypatch.setattr("sys.__stderr__", terminal)
        monkeypatch.setattr("sys.__stdin__", terminal)
        driver = TerminalDriver(App(), size=(80, 24))
        monkeypatch.setattr(driver, "input_tty", False)
        driver.start_application_mode()
        os.close(master)
        for _ in range(MAX_QUEUED_WRITES * 3):
            driver.write("a line nobody sees\n")
        driver.disable_input()
        driver.stop_application_mode()
        driver.close()
        for _ in range(MAX_QUEUED_WRITES * 3):  # a timer that goes on
            driver.write("a line for a terminal that is given back\n")
        assert driver._watching is not None
        driver._watching.join(60)  # it sends the signal as well, to whoever hears it then
    assert set(hang_ups) == {signal.SIGHUP}


def test_a_terminal_that_goes_away_is_told_like_any_other(hang_ups: list[int]) -> None:
    master, slave = pty.openpty()
    watching = Thread(target=watch, args=(slave,))
    watching.start()
    os.write(master, b"a key")
    assert not hang_ups
    assert watching.is_alive()
    os.close(master)
    watching.join()
    os.close(slave)
    assert hang_ups == [signal.SIGHUP]


async def test_of_two_sizes_the_newer_one_is_told_last(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    sizes = [(80, 24), (60, 15)]

    def size_that_changes_while_it_is_read() -> tuple[int, int]:
        read = sizes.pop(0)
        if sizes:
            os.kill(os.getpid(), signal.SIGWINCH)
        return read

    with suppress(OSError), os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr("sys.__stderr__", terminal)
        monkeypatch.setattr("sys.__stdin__", terminal)
        app = Sized()
        driver = TerminalDriver(app, size=(80, 24))
        monkeypatch.setattr(driver, "input_tty", False)
        driver.start_application_mode()
        while True:  # what it begins with
            await asyncio.wait_for(app.sizes.get(), 60)
            if app.sizes.empty():
                break
        monkeypatch.setattr(driver, "_get_terminal_size", size_that_changes_while_it_is_read)
        os.kill(os.getpid(), signal.SIGWINCH)
        assert await asyncio.wait_for(app.sizes.get(), 60) == (80, 24)
        assert await asyncio.wait_for(app.sizes.get(), 60) == (60, 15)
        driver.disable_input()
        driver.stop_application_mode()
        driver.close()
    os.close(master)


async def test_only_a_suspension_is_ended_by_the_signal_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hang-up brings SIGCONT as well, to a program that has given its terminal back."""
    master, slave = pty.openpty()
    with suppress(OSError), os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr("sys.__stderr__", terminal)
        monkeypatch.setattr("sys.__stdin__", terminal)
        driver = TerminalDriver(Sized(), size=(80, 24))
        monkeypatch.setattr(driver, "input_tty", False)
        driver.start_application_mode()
        first = driver._key_thread
        signal.raise_signal(signal.SIGCONT)
        assert driver._key_thread is first, "one thread reads"
        driver.disable_input()
        driver.stop_application_mode()
        driver.close()
        signal.raise_signal(signal.SIGCONT)
        assert first is driver._key_thread
        assert first is not None
        assert not first.is_alive()
    os.close(master)


async def test_nothing_is_read_from_a_terminal_that_is_gone(
    hang_ups: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = pty.openpty()
    with suppress(OSError), os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr("sys.__stderr__", terminal)
        monkeypatch.setattr("sys.__stdin__", terminal)
        driver = TerminalDriver(Sized(), size=(80, 24))
        monkeypatch.setattr(driver, "input_tty", False)
        driver.start_application_mode()
        reading = driver._key_thread
        os.close(master)
        assert reading is not None
        reading.join(60)
        assert not reading.is_alive(), "it must end with the terminal, without being told"
        driver.resume_application_mode()
        assert driver._key_thread is not None
        driver._key_thread.join(60)
        assert not driver._key_thread.is_alive()
        driver.disable_input()
        driver.stop_application_mode()
        driver.close()
    assert set(hang_ups) == {signal.SIGHUP}


def test_a_program_whose_loop_hangs_ends_with_its_terminal(tmp_path: Path) -> None:
    program = tmp_path / "hangs.py"
    program.write_text(
        "import asyncio, signal, time\n"
        "from textual.app import App\n"
        "from modeldeck.tui.dashboard import terminal_driver as terminal\n"
        "terminal.END_S = 0.1\n"
        "async def main():\n"
        "    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, print)\n"
        "    terminal.ProgramDriver(App()).start_application_mode()\n"
        "    print('hanging', flush=True)\n"
        "    while True:\n"
        "        time.sleep(1)\n"
        "asyncio.run(main())\n"
    )
    child = pexpect.spawn(sys.executable, [str(program)], timeout=60, cwd=os.getcwd())
    child.expect("hanging")
    hang_up(child)
    assert psutil.Process(child.pid).wait(60) == 128 + signal.SIGHUP


@pytest.mark.parametrize(
    ("read", "keys"),
    [
        ("\x1bq", ["escape", "q"]),
        ("\x1b:", ["escape", "colon"]),
        ("\x1b3", ["escape", "3"]),
        ("\x1bGx", ["escape", "G", "x"]),
        ("\x1b\x1bq", ["escape", "escape", "q"]),
        ("\x1bj\x1b[B", ["escape", "j", "down"]),
        ("\x1bé\x1b", ["escape", "é", "escape"]),
        ("\x1b\r", ["alt+enter"]),
        ("\x1b[A", ["up"]),
        ("\x1bb", ["ctrl+left"]),
        ("\x1b", ["escape"]),
        ("q", ["q"]),
    ],
)
def test_esc_is_not_lost_where_it_is_read_together_with_a_key(read: str, keys: list[str]) -> None:
    parser = XTermParser()
    found = [*parser.feed(read), *parser.feed("")]
    assert [event.key for event in found if isinstance(event, events.Key)] == keys
