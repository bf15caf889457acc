"""A line to another machine: the `ssh` process that stands for it, and the sockets it carries.

The line is made, breaks, and is made again; the socket on this side keeps its path, so a client of
it reconnects as it does to a core on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from core import protocol
from core.config import Remote
from core.errors import Conflict, CoreUnreachable, DeckError, from_info
from core.schema import ErrorInfo
from tui.bridge import Hello
from tui.ssh import Ways, command, failure

HELLO_S = 90.0
"""For a core to be found or started over there, once ssh is in; a cold disk takes its time."""
END_S = 5.0
"""For `ssh` to end when it is no longer wanted."""
KEPT_LINES = 20
"""Of what `ssh` says."""
NOISE_LINES = 200
"""Lines that the other machine's shell may say before modeldeck speaks."""
LINE_BYTES = 1 << 16


class Line:
    """One machine's line. `open` may be called again when it broke."""

    def __init__(self, name: str, remote: Remote, folder: Path, *, start: bool = True) -> None:
        """`folder` is private to this process; `start`: a core is started where there is none."""
        assert remote.ssh is not None
        self.name = name
        self.socket = folder / "core"
        """Where the core of the other machine answers on this one."""
        self._ways = Ways(destination=remote.ssh, control=folder / "master")
        self._own = self._ways
        self._command = command(remote, start=start)
        self._process: Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._said: deque[str] = deque(maxlen=KEPT_LINES)
        self._aloud = False
        self._asked = False
        """Whether `ssh` could ask what it had to."""
        self._asking = asyncio.Lock()
        self.hello: Hello | None = None

    @property
    def is_up(self) -> bool:
        """Whether `ssh` is there, and has said hello."""
        return (
            self.hello is not None
            and self._process is not None
            and self._process.returncode is None
        )

    async def open(self, *, batch: bool) -> Hello:
        """Make the line, or make it again; without `batch` it may ask on the terminal.

        Raises CoreUnreachable, Forbidden, Incompatible, or what the other machine answered.
        """
        await self.drop()
        assert self._own.control is not None
        self._own.control.unlink(missing_ok=True)  # of a master that was killed
        self._ways = self._own
        if await self._quietly(self._own.ask_master()) is None:
            self._ways = replace(self._own, control=None)
        self._said.clear()
        self._asked = self._aloud = not batch and sys.stderr.isatty()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._ways.line(self._command, batch=batch),
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                limit=LINE_BYTES,
                start_new_session=batch,  # without one it could ask on the terminal
            )
        except FileNotFoundError as error:
            raise CoreUnreachable(
                "There is no ssh on this machine.", "Install the OpenSSH client."
            ) from error
        self._listening = asyncio.create_task(self._listen(self._process))
        try:
            self.hello = await self._greeted(self._process)
            await self._carry(self.hello)
        except BaseException:
            await self.drop()
            raise
        self._aloud = False
        return self.hello

    async def _greeted(self, process: Process) -> Hello:
        """What the other machine says first, after whatever its shell says."""
        heard: deque[str] = deque(maxlen=KEPT_LINES)
        try:
            async with asyncio.timeout(HELLO_S):
                for _ in range(NOISE_LINES):
                    line = await _line(process)
                    if not line:
                        break
                    if (hello := _understood(line)) is not None:
                        there = protocol.Spoken(
                            version=hello.version,
                            protocol=hello.protocol,
                            oldest_protocol=hello.oldest_protocol,
                        )
                        protocol.check(protocol.ours(), there, self.name)
                        return hello
                    heard.append(line)
                await process.wait()
                if self._listening is not None:
                    await self._listening
        except TimeoutError:
            pass
        said, more = "\n".join(self._said), "\n".join(heard)
        raise failure(self.name, process.returncode, said, more, asked=self._asked)

    async def _listen(self, process: Process) -> None:
        """Keep what `ssh` says, and say it aloud while it is being asked for."""
        assert process.stderr is not None
        with contextlib.suppress(ValueError):
            while line := await process.stderr.readline():
                text = line.decode(errors="replace").rstrip()
                self._said.append(text)
                if self._aloud:
                    print(text, file=sys.stderr)

    async def _carry(self, hello: Hello) -> None:
        """Have the core's socket carried to this side."""
        self.socket.unlink(missing_ok=True)
        said = await self._quietly(self._ways.forward(str(self.socket), hello.socket))
        if said is None and not await self._answers():
            said = ""  # sshd refuses only what is sent through
        if said is not None:
            raise Conflict(
                f"ssh does not carry the socket of {self.name}.",
                "Its sshd must allow it: AllowStreamLocalForwarding yes.",
                details=tuple(said.splitlines()[-KEPT_LINES:]),
            )

    async def _answers(self) -> bool:
        """Whether what is sent into the socket on this side comes to a core."""
        try:
            reader, writer = await asyncio.open_unix_connection(self.socket)
            try:
                writer.write(b"GET /.well-known/health HTTP/1.0\r\nHost: localhost\r\n\r\n")
                async with asyncio.timeout(HELLO_S):
                    return bool(await reader.read(1))
            finally:
                writer.close()
        except (OSError, TimeoutError):
            return False

    async def lend(self, socket: str) -> str:
        """Let the other machine reach a socket of this one: the path that it has there."""
        there: str = await self.ask("peer")
        said = await self._quietly(self._ways.forward(socket, there, back=True))
        if said is not None:
            raise Conflict(
                f"{self.name} does not let its core reach another machine over ssh.",
                "Its sshd must allow it: AllowStreamLocalForwarding yes.",
                details=tuple(said.splitlines()[-KEPT_LINES:]),
            )
        return there

    async def take_back(self, socket: str, there: str) -> None:
        """Lend it no more; what is not there any more is no harm."""
        await self._quietly(self._ways.cancel(socket, there, back=True))

    async def ask(self, word: str) -> Any:
        """What the bridge answers to a word. Raises CoreUnreachable, or what it could not do."""
        async with self._asking:
            process = self._process
            if process is None or not self.is_up:
                raise self.trouble()
            assert process.stdin is not None
            try:
                process.stdin.write(f"{word}\n".encode())
                await process.stdin.drain()
                async with asyncio.timeout(HELLO_S):
                    line = await _line(process)
                answer = msgspec.json.decode(line, type=dict[str, Any])
            except (OSError, TimeoutError, msgspec.DecodeError) as error:
                raise self.trouble() from error
        if "error" in answer:
            raise from_info(msgspec.convert(answer["error"], ErrorInfo))
        return answer.get("answer")

    def trouble(self) -> DeckError:
        """Why the line is not up, as `ssh` said it."""
        status = self._process.returncode if self._process is not None else None
        if status is None:
            return CoreUnreachable(f"The line to {self.name} is down.")
        return failure(self.name, status, "\n".join(self._said), "")

    async def broken(self) -> None:
        """Return when the line has broken."""
        if self._process is not None:
            await self._process.wait()

    async def drop(self) -> None:
        """End it, if it is there. What is over there ends by itself, in its own time."""
        process, self._process = self._process, None
        hello, self.hello = self.hello, None
        if process is None:
            return
        if self._ways.control is None and hello is not None:
            await self._quietly(self._ways.cancel(str(self.socket), hello.socket))
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(END_S if hello is not None else 0):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
        finally:
            if self._listening is not None:
                self._listening.cancel()
                await asyncio.gather(self._listening, return_exceptions=True)

    async def _quietly(self, words: list[str]) -> str | None:
        """Run a short command of `ssh`: None when it succeeded, else what it said."""
        try:
            process = await asyncio.create_subprocess_exec(
                *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                stderr=PIPE, start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError as error:
            return str(error)
        try:
            _, said = await process.communicate()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        return None if process.returncode == 0 else said.decode(errors="replace")


async def _line(process: Process) -> str:
    """The next line of the other machine; empty at the end."""
    assert process.stdout is not None
    try:
        return (await process.stdout.readline()).decode(errors="replace")
    except ValueError:  # longer than anything of ours
        return "\n"


def _understood(line: str) -> Hello | None:
    """The hello in a line; None where it is something else. Raises what the line says instead."""
    try:
        said = msgspec.json.decode(line, type=dict[str, Any])
        if "modeldeck" in said:
            return msgspec.convert(said["modeldeck"], Hello)
        info = msgspec.convert(said["error"], ErrorInfo) if "error" in said else None
    except msgspec.MsgspecError:
        return None
    if info is not None:
        raise from_info(info)
    return None
