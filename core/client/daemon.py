"""The core of this user: find it, start it, end it.

Theory of operation. A core holds a lock in its state folder for as long as it lives, so there is
never a second one on the same state, and writes a ready file with its process id and addresses. One
in the background is a process in a session of its own, without a parent that waits: closing the
terminal or ctrl-C in a front end does not reach it. Its starter reads one line of JSON from it: the
ready record, or why it cannot start. `modeldeck.core.server` runs in that process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from modeldeck.core import __version__
from modeldeck.core.client.client import Client
from modeldeck.core.config.paths import Paths, locate
from modeldeck.core.errors import AlreadyRunning, CoreUnreachable, DeckError, StorageFailed
from modeldeck.core.schema import ErrorInfo
from modeldeck.core.schema.errors import from_info
from modeldeck.core.schema.protocol import ProtocolRange, check, ours
from modeldeck.core.storage.files import make_private
from modeldeck.core.storage.installation import update_command
from modeldeck.core.storage.log_file import put_aside

START_S = 60.0
"""For a background core to answer: it takes under a second; a cold disk on a small machine more."""
STOP_S = 40.0
"""For a core to end: 15 s for engines and what a running answer is granted, and some room."""
LAST_BYTES = 64 << 10
"""Bytes at the end of the log in which its last lines are looked for."""
LAST_LINES = 8
"""Lines of the log that are shown when a core does not start."""
PROGRAM = (sys.executable, "-P", "-m", "modeldeck.core.server")
"""Starts a core. `-P`: modules in the current folder must not be imported."""
ATTACHED = "--attached"
"""Argument for a core that exits when its standard input closes, not one in the background."""
REAP_S = 5.0
"""For the process that starts a core to end after SIGTERM."""
POLL_S = 0.05
"""Between two checks of the lock of a core that is about to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreReady:
    """A core that answers, as it describes itself."""

    pid: int
    url: str
    """Where it answers over TCP."""
    url_v6: str | None = None
    """The same over IPv6; None where this machine has none."""
    socket: str | None
    """The Unix socket it answers on; None where that is switched off."""
    outside: str | None = None
    """Where it answers beyond this machine; None where it does not."""
    hub: str
    """The Hub endpoint in force."""
    home: str
    """`MODELDECK_HOME`, or the state folder where that is not set."""
    version: str = __version__
    protocol: int = 0
    """What it speaks; see `modeldeck.core.schema.protocol`."""
    oldest_protocol: int = 0
    """The oldest that it still understands."""
    ready: bool = True

    def client(self) -> Client:
        """A client of this core."""
        return Client(socket=Path(self.socket)) if self.socket else Client(url=self.url)


def understood(ready: CoreReady) -> CoreReady:
    """The core, if it and this front end understand each other. Raises Incompatible."""
    there = ProtocolRange(
        version=ready.version,
        protocol=ready.protocol,
        oldest_protocol=ready.oldest_protocol,
    )
    check(ours(), there, "this machine", update_command)
    return ready


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreRefused:
    """The line of a background core that cannot start."""

    error: ErrorInfo
    ready: bool = False


def line(ready: CoreReady) -> str:
    """Encode the record as one line of JSON, for scripts."""
    return msgspec.json.encode(ready).decode()


def read_ready(paths: Paths) -> CoreReady | None:
    """Read the ready file; None when there is none, or it is broken."""
    try:
        return msgspec.json.decode(paths.ready_file.read_bytes(), type=CoreReady)
    except (OSError, msgspec.DecodeError):
        return None


# Finding, starting and ending one


async def find(paths: Paths) -> CoreReady | None:
    """The core that answers for these folders; None when there is none."""
    ready = read_ready(paths)
    if ready is None:
        return None
    try:
        async with ready.client() as client:
            await client.health()
    except CoreUnreachable:
        return None
    return ready


def crashed(paths: Paths) -> bool:
    """Whether the last core of these folders did not shut down cleanly: killed, or by a bug."""
    return read_ready(paths) is not None and _is_lock_free(paths)


async def start_background(paths: Paths) -> CoreReady:
    """Start a core that outlives this process, and return once it answers.

    When another process started one first, that core is returned. Raises the error that kept the
    core from starting, with the last lines of its log.
    """
    return (await begin(paths))[0]


async def begin(paths: Paths) -> tuple[CoreReady, bool]:
    """As `start_background`, and whether this call started it: only then may the caller end it."""
    deadline = time.monotonic() + START_S
    while True:
        with _open_log(paths) as log:
            start = log.tell()
            answer = _decode_start(await _spawn(log.fileno()))
        if not isinstance(answer, AlreadyRunning) or time.monotonic() > deadline:
            return _started(answer, paths, start), True
        if other := await _wait_for_other(paths, deadline):
            return other, False


async def _wait_for_other(paths: Paths, deadline: float) -> CoreReady | None:
    """The core that holds the lock, once it answers; None when it lets go, or never answers."""
    while time.monotonic() < deadline and not _is_lock_free(paths):
        if ready := await find(paths):
            return ready
        await asyncio.sleep(POLL_S)
    return None


def _decode_start(reply: bytes) -> CoreReady | DeckError | None:
    """Decode the first line of a new core: its record, its error, or None for neither."""
    try:
        return msgspec.json.decode(reply, type=CoreReady)
    except msgspec.DecodeError:
        pass
    try:
        return from_info(msgspec.json.decode(reply, type=CoreRefused).error)
    except msgspec.DecodeError:
        return None


def _started(answer: CoreReady | DeckError | None, paths: Paths, start: int) -> CoreReady:
    """Return the core that started. Raises the error that kept it from starting."""
    if isinstance(answer, CoreReady):
        return answer
    raise answer or DeckError(
        "The core did not start.",
        f"See {paths.core_log}, or run `modeldeck serve` and watch.",
        details=last_lines(paths, start),
    )


def _open_log(paths: Paths) -> BinaryIO:
    """Open the log file to append; a long one is rotated first. Raises StorageFailed."""
    path = paths.core_log
    try:
        make_private(paths.log)
        put_aside(path)
        return path.open("ab")
    except OSError as error:
        raise StorageFailed(
            f"The log {path} cannot be written: {error}.",
            "Mend its permissions, or move it with MODELDECK_LOG_DIR.",
        ) from error


def last_lines(paths: Paths, start: int = 0) -> tuple[str, ...]:
    """The last lines of the log of a core that was started here; from the byte `start` on."""
    try:
        with paths.core_log.open("rb") as log:
            log.seek(max(start, log.seek(0, os.SEEK_END) - LAST_BYTES))
            lines = log.read(LAST_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return ()
    return tuple(lines[-LAST_LINES:])


async def _spawn(log: int) -> bytes:
    """Start a core in the background and return its first line; empty without one."""
    try:
        ours, theirs = os.pipe()
        try:
            process = subprocess.Popen(  # noqa: ASYNC220 (returns at once, as what it starts does)
                PROGRAM,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=log,
                start_new_session=True,
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
    except OSError as error:
        raise _not_started(error) from error
    try:
        async with _pipe(ours) as reader:
            return await asyncio.wait_for(reader.readline(), START_S)
    except BaseException as error:  # a cancelled start must leave no core behind
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        if not isinstance(error, TimeoutError | ValueError):  # it said nothing, or no one line
            raise
        return b""
    finally:
        await _reap(process)  # it handed over to the core and ended long ago


def _not_started(error: OSError) -> DeckError:
    return DeckError(
        f"A core cannot be started: {error.strerror or error}.",
        "This machine has no processes, memory or open files left for it: end something, or raise"
        " the limit (`ulimit -a`).",
    )


async def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process that was told to end; kill its group when it takes too long.

    No thread waits for it: the end of this program would wait for that thread.
    """
    deadline = time.monotonic() + REAP_S
    while process.poll() is None:
        if time.monotonic() > deadline:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            deadline += REAP_S
        await asyncio.sleep(POLL_S)


@asynccontextmanager
async def _pipe(descriptor: int) -> AsyncIterator[asyncio.StreamReader]:
    """A reader of the pipe, which is closed with the block."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    try:
        yield reader
    finally:
        transport.close()


@asynccontextmanager
async def child(environ: Mapping[str, str]) -> AsyncIterator[tuple[CoreReady, asyncio.Event]]:
    """A core that lives as long as the block, or as this process: it ends with its standard input.

    Gives its record, and an event that is set when it ends by itself. Its log goes to the log
    folder that `environ` names. Raises as `start_background` does.
    """
    paths = locate(environ)
    with _open_log(paths) as log:
        try:
            process = await asyncio.create_subprocess_exec(
                *(*PROGRAM, ATTACHED),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environ,
                start_new_session=True,
            )
        except OSError as error:
            raise _not_started(error) from error
    assert process.stdin is not None
    assert process.stdout is not None
    ended = asyncio.Event()
    waiter = asyncio.create_task(process.wait())
    waiter.add_done_callback(lambda _: ended.set())
    draining: asyncio.Task[None] | None = None
    try:
        try:
            reply = await asyncio.wait_for(process.stdout.readline(), START_S)
        except (TimeoutError, ValueError):  # it said nothing, or no one line
            reply = b""
        draining = asyncio.create_task(_drain(process.stdout))
        yield _started(_decode_start(reply), paths, 0), ended
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(asyncio.shield(waiter), STOP_S)
        except TimeoutError:
            pass
        finally:
            if process.returncode is None:
                process.kill()
            await waiter
            if draining is not None:
                await draining


async def _drain(stream: asyncio.StreamReader) -> None:
    """Read and discard: asyncio reports the end of a process after the end of its pipes."""
    while await stream.read(1 << 16):
        pass


async def stop(paths: Paths) -> bool:
    """End the core of these folders; returns once it is gone. False when there was none.

    Raises CoreUnreachable when one holds the lock but does not answer, or does not end.
    """
    ready = await find(paths)
    if ready is None:
        if _is_lock_free(paths):
            return False
        raise _unresponsive(paths, "does not answer")
    async with ready.client() as client:
        await client.stop()
    deadline = time.monotonic() + STOP_S
    while not _is_lock_free(paths):
        if time.monotonic() > deadline:
            raise _unresponsive(paths, f"did not end within {STOP_S:.0f} s")
        await asyncio.sleep(POLL_S)
    return True


def _is_lock_free(paths: Paths) -> bool:
    """Whether no core holds the lock."""
    from filelock import FileLock, Timeout

    if not paths.lock_file.exists():
        return True
    try:
        with FileLock(paths.lock_file, timeout=0):
            return True
    except Timeout:
        return False
    except OSError as error:
        raise StorageFailed(
            f"The lock {paths.lock_file} cannot be used: {error}.",
            "Mend its permissions, or move the folder with MODELDECK_STATE_DIR.",
        ) from error


def _unresponsive(paths: Paths, what: str) -> CoreUnreachable:
    ready = read_ready(paths)
    remedy = f"End it with `kill {ready.pid}`." if ready else "It may be starting: try again."
    return CoreUnreachable(f"A core holds {paths.lock_file}, but {what}.", remedy)
