"""An SSH connection to another machine: its `ssh` process, and the sockets forwarded over it.

It can be reopened after it broke; the socket on this side keeps its path, so a client reconnects to
it as to a core on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

from modeldeck.core.config.config import RemoteSettings
from modeldeck.core.errors import Conflict, CoreUnreachable, DeckError, StorageFailed
from modeldeck.core.remote.hello import BridgeHello
from modeldeck.core.remote.printable import clean
from modeldeck.core.remote.ssh_command import (
    SshTarget,
    check_socket,
    command,
    failure,
    is_uncompressed,
)
from modeldeck.core.remote.ssh_conversation import Conversation
from modeldeck.core.remote.ssh_process import KEPT_LINES, SshProcess, Text, run_briefly
from modeldeck.core.schema import protocol
from modeldeck.core.storage.installation import update_command

HELLO_S = 90.0
"""For a core to be found or started over there, once ssh is in; a cold disk takes its time."""
ANSWER_S = {"peer": 20.0, "leave": 50.0}
"""For an answer to a word, where that needs no core to be started: one that is told to end may take
40 s."""
END_S = 5.0
"""For `ssh` to end when it is no longer wanted."""
LONGEST_SAID = 500
"""Characters of a line of `ssh` that are kept and shown."""


class SshConnection:
    """The SSH connection to one machine. `open` may be called again after it broke."""

    def __init__(
        self,
        name: str,
        remote: RemoteSettings,
        folder: Path,
        *,
        start: bool = True,
        compressed: bool = True,
    ) -> None:
        """`folder` is private to this process; `start`: a core is started where there is none."""
        assert remote.ssh is not None
        self.name = name
        self.socket = folder / "core"
        """Where the core of the other machine answers on this one."""
        self._folder = folder
        self._own = SshTarget(
            destination=remote.ssh, control=folder / "master", compressed=compressed
        )
        self._ways = self._own
        self._command = command(remote, start=start)
        self._process: SshProcess | None = None
        self._conversation: Conversation | None = None
        self._said: deque[str] = deque(maxlen=KEPT_LINES)
        self._aloud = False
        self._asked = False
        """Whether `ssh` could ask what it had to."""
        self.hello: BridgeHello | None = None

    @property
    def is_up(self) -> bool:
        """Whether `ssh` is there, and has said hello."""
        return (
            self.hello is not None
            and self._process is not None
            and not self._process.ended.is_set()
        )

    @property
    def is_compressed(self) -> bool:
        """Whether what goes over it is compressed, as far as that is known."""
        return self._own.compressed

    async def open(self, *, batch: bool) -> BridgeHello:
        """Make the line, or make it again; without `batch` it may ask on the terminal.

        Raises CoreUnreachable, Forbidden, Incompatible, StorageFailed, or what the other machine
        answered.
        """
        await self.drop()
        self._prepare()
        self._ways = self._own
        if await self._shares_a_master():
            self._ways = replace(self._own, control=None)
        self._said.clear()
        self._asked = self._aloud = not batch and sys.stderr.isatty()
        conversation = self._conversation = Conversation(self.name)
        try:
            process = self._process = await SshProcess.start(
                self._ways.line(self._command, batch=batch),
                conversation.heard,
                self._listen,
                asks=not batch,
                listens=True,
            )
        except FileNotFoundError as error:
            raise CoreUnreachable(
                "There is no ssh on this machine.", "Install the OpenSSH client."
            ) from error
        except OSError as error:  # no memory, no process, no file descriptor is left
            raise CoreUnreachable(f"ssh cannot be started: {error.strerror}.") from error
        try:
            self.hello = await self._greeted(process, conversation)
            await self._carry(self.hello)
        except BaseException:
            await self.drop()
            raise
        self._aloud = False
        return self.hello

    def _prepare(self) -> None:
        """Have the folder, without the sockets of a master that was killed."""
        assert self._own.control is not None
        try:  # it may have been cleared away as too old
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._own.control.unlink(missing_ok=True)
            self.socket.unlink(missing_ok=True)
        except OSError as error:
            raise StorageFailed(
                f"There is no folder for the sockets of ssh: {error}.",
                "Make room there, or name another place with TMPDIR.",
            ) from error

    async def _shares_a_master(self) -> bool:
        """Whether the person has a master for this machine that does what is needed here."""
        if not (await run_briefly(self._own.ask_master())).is_done:
            return False
        return self._own.compressed or is_uncompressed(
            (await run_briefly(self._own.configured())).out
        )

    async def _greeted(self, process: SshProcess, conversation: Conversation) -> BridgeHello:
        """The bridge's first message; lines of the login shell before it are skipped."""
        await _first(conversation.greeting, process, HELLO_S)
        if not conversation.greeting.done():
            said, heard = "\n".join(self._said), "\n".join(conversation.noise)
            raise failure(self.name, process.status, said, heard, asked=self._asked)
        hello = conversation.greeting.result()
        there = protocol.ProtocolRange(
            version=hello.version,
            protocol=hello.protocol,
            oldest_protocol=hello.oldest_protocol,
        )
        protocol.check(protocol.ours(), there, self.name, update_command)
        return hello

    def _listen(self, line: Text) -> None:
        """Keep what `ssh` says, and say it aloud while it is being asked for."""
        text = clean(line.text[:LONGEST_SAID])
        self._said.append(text)
        if self._aloud:
            with contextlib.suppress(OSError, ValueError):  # the terminal is gone
                print(text, file=sys.stderr)

    async def _carry(self, hello: BridgeHello) -> None:
        """Have the core's socket carried to this side."""
        check_socket(hello.socket)
        answer = await run_briefly(self._ways.forward(str(self.socket), hello.socket))
        if not answer.is_done or not await self._answers():  # sshd refuses only what is sent
            raise Conflict(
                f"ssh does not carry the socket of {self.name}.",
                "Its sshd must allow it: AllowStreamLocalForwarding yes.",
                details=tuple(clean(line) for line in answer.said),
            )

    async def _answers(self) -> bool:
        """Whether what is sent into the socket on this side comes to a core."""
        try:
            async with asyncio.timeout(HELLO_S):
                reader, writer = await asyncio.open_unix_connection(self.socket)
                try:
                    writer.write(b"GET /.well-known/health HTTP/1.0\r\nHost: localhost\r\n\r\n")
                    return bool(await reader.read(1))
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False

    async def lend(self, socket: str) -> str:
        """Let the other machine reach a socket of this one: the path that it has there."""
        there = await self.ask("peer")
        answer = await run_briefly(self._ways.forward(socket, there, back=True))
        if not answer.is_done:
            raise Conflict(
                f"{self.name} does not let its core reach another machine over ssh.",
                "Its sshd must allow it: AllowStreamLocalForwarding yes.",
                details=tuple(clean(line) for line in answer.said),
            )
        return str(there)

    async def take_back(self, socket: str, there: str) -> None:
        """Lend it no more; what is not there any more is no harm."""
        await run_briefly(self._ways.cancel(socket, there, back=True))

    async def ask(self, word: str) -> Any:
        """What the bridge answers to a word. Raises CoreUnreachable, or what it could not do."""
        process, conversation = self._process, self._conversation
        if process is None or conversation is None or not self.is_up:
            raise self.trouble()
        answer = conversation.asked()
        process.send(word)
        try:
            await _first(answer, process, ANSWER_S.get(word, HELLO_S))
            if answer.done():
                return answer.result()
        finally:
            answer.cancel()  # its place in the queue stays: a late answer is not another's
        if process.ended.is_set():
            raise self.trouble()
        raise CoreUnreachable(f"modeldeck on {self.name} does not answer.")

    def trouble(self) -> DeckError:
        """Why the line is not up, as `ssh` said it."""
        status = self._process.status if self._process is not None else None
        if status is None:
            return CoreUnreachable(f"The line to {self.name} is down.")
        return failure(self.name, status, "\n".join(self._said), "")

    async def broken(self) -> None:
        """Return when the line has broken, or when what comes over it makes no sense any more."""
        process, conversation = self._process, self._conversation
        if process is None or conversation is None:
            return
        await _first(conversation.overrun, process, None)
        if process is self._process and conversation.overrun.done():
            await self.drop()

    async def drop(self) -> None:
        """End it, if it is there. What is over there ends by itself, in its own time."""
        process, self._process = self._process, None
        conversation, self._conversation = self._conversation, None
        hello, self.hello = self.hello, None
        if process is None:
            return
        grace_s = 0.0
        try:
            if hello is not None and conversation is not None and not conversation.overrun.done():
                grace_s = END_S
            if self._ways.control is None and hello is not None:
                await run_briefly(self._ways.cancel(str(self.socket), hello.socket))
        finally:
            if conversation is not None:
                conversation.close(CoreUnreachable(f"The line to {self.name} is down."))
            await process.end(grace_s)


async def _first(future: asyncio.Future[Any], process: SshProcess, within_s: float | None) -> None:
    """Return when the future is done, the process has ended with all it had to say, or in time."""
    ended = asyncio.create_task(process.finish())
    try:
        await asyncio.wait((future, ended), timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended.cancel()
