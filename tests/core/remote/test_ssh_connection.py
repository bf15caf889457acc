"""Lines to machines that do not do as they should."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from modeldeck.core.config.config import RemoteSettings
from modeldeck.core.errors import CoreUnreachable, DeckError, StorageFailed
from modeldeck.core.remote import ssh_connection as lines
from modeldeck.core.remote import ssh_keeper
from modeldeck.core.remote.ssh_connection import SshConnection
from modeldeck.core.remote.ssh_keeper import Keeper
from modeldeck.tui.remote.remote_core import SshCore
from tests.core.remote.conftest import until

Ssh = Callable[[str], Path]

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "modeldeck")
ENDLESS = "while True: os.write(1, b'x' * 65536)\n"
WORDS = "for line in sys.stdin:\n    word = line.strip()\n    "
"""What follows answers each word."""


def made(folder: Path, name: str = "gpu1") -> SshConnection:
    return SshConnection(name, RemoteSettings(ssh="x"), folder / "line")


@pytest.fixture
def carried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is carried: these are about what is said."""

    async def carry(line: SshConnection, hello: object) -> None:
        pass

    monkeypatch.setattr(SshConnection, "_carry", carry)


def children() -> list[psutil.Process]:
    return psutil.Process().children()


async def test_a_machine_that_writes_without_a_line_break_is_given_up(
    ssh: Ssh, tmp_path: Path
) -> None:
    ssh(ENDLESS)
    async with asyncio.timeout(60):
        with pytest.raises(CoreUnreachable, match="writes on and on"):
            await made(tmp_path).open(batch=True)
    assert not children()


@pytest.mark.parametrize(
    ("number", "lines_"),
    [
        (signal.SIGTERM, "while True: os.write(2, b'x' * 65536)\n"),
        (signal.SIGINT, "time.sleep(600)\n"),
    ],
)
def test_a_command_that_waits_for_a_machine_ends_by_a_signal(
    ssh: Ssh, tmp_path: Path, home: Path, number: int, lines_: str
) -> None:
    mark = tmp_path / "runs"
    ssh(f"open({str(mark)!r}, 'w').write(str(os.getpid()))\n{lines_}")
    with subprocess.Popen(
        [PROGRAM, "@gpu1", "ps"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as command:  # fmt: skip
        while not (mark.exists() and mark.read_text()):
            assert command.poll() is None
        command.send_signal(number)
        try:
            assert command.wait(60) == 128 + number
        finally:
            command.kill()
    psutil.wait_procs([p for p in psutil.process_iter() if p.pid == int(mark.read_text())], 60)
    assert not psutil.pid_exists(int(mark.read_text()))


@pytest.mark.usefixtures("carried")
async def test_a_machine_that_begins_to_write_without_an_end_is_left(
    ssh: Ssh, tmp_path: Path
) -> None:
    ssh(f"hello()\nsys.stdin.readline()\n{ENDLESS}")
    line = made(tmp_path)
    await line.open(batch=True)
    async with asyncio.timeout(60):
        broken = asyncio.create_task(line.broken())
        with pytest.raises(CoreUnreachable):
            await line.ask("revive")
        await broken
    assert not line.is_up
    assert not children()


@pytest.mark.usefixtures("carried")
async def test_a_cancelled_question_does_not_spoil_the_next_answer(
    ssh: Ssh, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    ssh(
        f"hello()\n{WORDS}while word == 'revive' and not os.path.exists({str(gate)!r}):"
        " time.sleep(0.01)\n    say({'answer': word})\n"
    )
    line = made(tmp_path)
    await line.open(batch=True)
    cancelled = asyncio.create_task(line.ask("revive"))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    gate.touch()
    assert await line.ask("peer") == "peer"
    assert await line.ask("leave") == "leave"
    await line.drop()


@pytest.mark.usefixtures("carried")
async def test_a_question_fails_when_the_machine_goes_or_says_nothing(
    ssh: Ssh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh(f"hello()\n{WORDS}sys.exit(255) if word == 'leave' else None\n")
    line = made(tmp_path)
    await line.open(batch=True)
    monkeypatch.setitem(lines.ANSWER_S, "peer", 0.1)
    with pytest.raises(CoreUnreachable, match="does not answer"):
        await line.ask("peer")
    with pytest.raises(CoreUnreachable, match="cannot be reached"):
        await line.ask("leave")
    await line.drop()


@pytest.mark.parametrize("socket", ["/a:/b", "/a\x1b[2Jb"])
async def test_a_socket_that_ssh_would_take_for_something_else_is_not_carried(
    ssh: Ssh, tmp_path: Path, socket: str
) -> None:
    ssh(f"hello(socket={socket!r})\nsys.stdin.read()\n")
    with pytest.raises(CoreUnreachable, match="ssh cannot carry the socket") as raised:
        await made(tmp_path).open(batch=True)
    assert raised.value.message.isprintable()
    assert not children()


@pytest.mark.usefixtures("carried")
@pytest.mark.parametrize("answer", ["'/a:/b'", "['/a']"])
async def test_a_path_that_makes_no_sense_is_not_lent_to(
    ssh: Ssh, tmp_path: Path, answer: str
) -> None:
    ssh(f"hello()\n{WORDS}say({{'answer': {answer}}})\n")
    line = made(tmp_path)
    await line.open(batch=True)
    with pytest.raises(CoreUnreachable, match="ssh cannot carry"):
        await line.lend("/here")
    await line.drop()


async def test_what_a_machine_says_reaches_the_terminal_without_its_control_characters(
    ssh: Ssh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ssh("os.write(2, b'\\x1b]0;owned\\x07\\x1b[2Jhello \\xc2\\x9b31m\\r\\n' + b'x' * 100_000)\n")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with pytest.raises(DeckError) as raised:
        await made(tmp_path).open(batch=False)
    said = capsys.readouterr().err
    assert "hello" in said
    assert all(char.isprintable() or char == "\n" for char in said)
    assert all(len(line) <= lines.LONGEST_SAID for line in said.splitlines())
    assert all(detail.isprintable() for detail in raised.value.details)


# Reconnecting


@pytest.mark.usefixtures("carried")
async def test_reconnection_goes_on_when_ssh_cannot_be_started(
    ssh: Ssh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process, no memory, no file descriptor was left when it was tried."""
    monkeypatch.setattr(ssh_keeper, "FIRST_WAIT_S", 0.01)
    program = ssh("hello()\nsys.stdin.readline()\n")
    line = made(tmp_path)
    keeping = Keeper(line)
    await line.open(batch=True)
    running = asyncio.create_task(keeping.run())
    program.write_bytes(b"\x7fELF no program")  # OSError: exec format error
    monkeypatch.setenv("PATH", str(program.parent))
    assert line._process is not None
    await line._process.end(0)
    await until(lambda: keeping.outage and "cannot be started" in keeping.outage.error.message)
    ssh("hello()\nsys.stdin.readline()\n")
    await until(lambda: line.is_up and keeping.outage is None)
    assert not running.done()
    running.cancel()
    await line.drop()


@pytest.mark.usefixtures("carried")
async def test_no_error_ends_reconnection_and_each_is_told(
    ssh: Ssh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ssh_keeper, "FIRST_WAIT_S", 0.01)
    ssh("hello()\nsys.stdin.readline()\n")
    line = made(tmp_path)
    opened = line.open
    bugs = iter([RuntimeError("a bug"), OSError(24, "Too many open files")])

    async def fails_first(*, batch: bool) -> object:
        for bug in bugs:
            raise bug
        return await opened(batch=batch)

    monkeypatch.setattr(line, "open", fails_first)
    keeping = Keeper(line)
    running = asyncio.create_task(keeping.run())
    told: set[str] = set()

    def is_up() -> bool:
        told.update([keeping.outage.error.message] if keeping.outage else [])
        return line.is_up

    await until(is_up)
    assert any("a bug" in message for message in told)
    assert "RuntimeError: a bug" in caplog.text
    running.cancel()
    await line.drop()


@pytest.mark.usefixtures("carried")
async def test_a_folder_that_was_cleared_away_is_made_again(ssh: Ssh, tmp_path: Path) -> None:
    ssh("hello()\nsys.stdin.readline()\n")
    line = made(tmp_path)
    await line.open(batch=True)
    await line.drop()
    (tmp_path / "line").rmdir()
    await line.open(batch=True)
    await line.drop()
    assert (tmp_path / "line").stat().st_mode & 0o777 == 0o700


def test_no_room_for_sockets_is_an_error_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageFailed, match="TMPDIR"):
        SshCore("gpu1", RemoteSettings(ssh="x"))
