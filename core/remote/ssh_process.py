"""One `ssh` process; its output is read at once, and only the last lines are kept.

Built on asyncio's transports, not its streams: a stream stops reading when its buffer is full, and
asyncio reports the end of a process only after its pipes have closed (Python 3.11). A machine that
writes without end would delay that for ever.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

KEPT_LINES = 20
"""Of what `ssh` writes to standard error; of a short command, of what it answers as well."""
LINE_BYTES = 1 << 16
"""A longer line comes in pieces of this size."""
TERMINATE_S = 2.0
"""Between asking a process to end, by SIGTERM, and SIGKILL."""
REST_S = 1.0
"""For what a process wrote before it ended to arrive."""
CONTROL_S = 20.0
"""For a short command: it asks a master on this machine, which may wait for the other one."""


@dataclass(frozen=True, slots=True)
class Text:
    """A line, or the first bytes of one that is longer than LINE_BYTES."""

    text: str
    whole: bool = True


class Lines:
    """Cuts bytes into lines; holds LINE_BYTES at most."""

    def __init__(self, limit: int = LINE_BYTES) -> None:
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> list[Text]:
        """The lines that are complete now, without their ends, and pieces of those too long."""
        *lines, rest = (self._rest + data).split(b"\n")
        out: list[Text] = []
        for line in lines:
            out += [Text(_decoded(piece), whole=False) for piece in self._pieces(line)[:-1]]
            out.append(Text(_decoded(self._pieces(line)[-1]), whole=len(line) <= self._limit))
        *pieces, self._rest = self._pieces(rest)
        return out + [Text(_decoded(piece), whole=False) for piece in pieces]

    def close(self) -> list[Text]:
        """A last line without an end."""
        rest, self._rest = self._rest, b""
        return [Text(_decoded(rest))] if rest else []

    def _pieces(self, data: bytes) -> list[bytes]:
        starts = range(0, len(data), self._limit) or range(1)
        return [data[start : start + self._limit] for start in starts]


def _decoded(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")


class SshProcess(asyncio.SubprocessProtocol):
    """A process whose lines go to `heard` (standard output) and `said` (standard error)."""

    def __init__(
        self, heard: Callable[[Text], object], said: Callable[[Text], object] = lambda _: None
    ) -> None:
        self.ended = asyncio.Event()
        """It has ended; what it wrote last may still be on its way."""
        self._finished = asyncio.Event()
        self._takers = {1: heard, 2: said}
        self._lines = {1: Lines(), 2: Lines()}
        self._transport: asyncio.SubprocessTransport | None = None

    @classmethod
    async def start(
        cls,
        words: Sequence[str],
        heard: Callable[[Text], object],
        said: Callable[[Text], object] = lambda _: None,
        *,
        asks: bool = False,
        listens: bool = False,
    ) -> SshProcess:
        """Start it; `listens`: it has a standard input; `asks`: it may ask on the terminal.

        Raises OSError.
        """
        loop = asyncio.get_running_loop()
        _, process = await loop.subprocess_exec(
            lambda: cls(heard, said),
            *words,
            stdin=PIPE if listens else DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=not asks,  # without a session of its own it can use the terminal
        )
        return process

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return None if self._transport is None else self._transport.get_returncode()

    def send(self, line: str) -> None:
        """Write a line to its standard input; nothing where that is closed."""
        assert self._transport is not None
        pipe = self._transport.get_pipe_transport(0)
        if pipe is not None and not pipe.is_closing():
            cast(asyncio.WriteTransport, pipe).write(f"{line}\n".encode())

    async def finish(self) -> None:
        """Return when it has ended, and what it wrote has come, where that does not take long."""
        await self.ended.wait()
        try:
            await asyncio.wait_for(self._finished.wait(), REST_S)
        except TimeoutError:
            pass  # a process that it started holds its pipes

    async def end(self, grace_s: float) -> None:
        """Close its standard input, and end it where it has not ended `grace_s` later.

        It is gone on return, and also when this is cancelled.
        """
        assert self._transport is not None
        try:
            if (pipe := self._transport.get_pipe_transport(0)) is not None:
                pipe.close()
            if not await self._ends_within(grace_s):
                self._signal(self._transport.terminate)
                if not await self._ends_within(TERMINATE_S):
                    self._signal(self._transport.kill)
                    await self._ends_within(TERMINATE_S)
        finally:
            self._transport.close()  # kills what is still there

    async def _ends_within(self, seconds: float) -> bool:
        if seconds > 0 and not self.ended.is_set():
            try:
                await asyncio.wait_for(self.ended.wait(), seconds)
            except TimeoutError:
                pass
        return self.ended.is_set()

    @staticmethod
    def _signal(send: Callable[[], object]) -> None:
        try:
            send()
        except ProcessLookupError:
            pass  # it has just ended

    # What asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It runs."""
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It has written."""
        for line in self._lines[fd].feed(data):
            self._takers[fd](line)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """It has closed a pipe."""
        for line in self._lines[fd].close() if fd in self._lines else ():
            self._takers[fd](line)

    def process_exited(self) -> None:
        """It has ended."""
        self.ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended, and all its pipes are closed."""
        if self._transport is not None:
            self._transport.close()  # also where its owner was cancelled before
        self.ended.set()
        self._finished.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a short command answered."""

    status: int | None
    """None: it could not be started, or did not end in time."""
    out: tuple[str, ...] = ()
    """The last lines of standard output."""
    said: tuple[str, ...] = ()
    """The last lines of standard error, or why there are none."""

    @property
    def is_done(self) -> bool:
        """Whether it did what it was to do."""
        return self.status == 0


async def run_briefly(words: Sequence[str], *, within_s: float = CONTROL_S) -> Answer:
    """Run a short command that asks nothing."""
    out: deque[str] = deque(maxlen=LINE_BYTES >> 7)
    said: deque[str] = deque(maxlen=KEPT_LINES)
    try:
        process = await SshProcess.start(
            words, lambda line: out.append(line.text), lambda line: said.append(line.text)
        )
    except OSError as error:
        return Answer(status=None, said=(f"{words[0]} cannot be started: {error.strerror}",))
    try:
        await asyncio.wait_for(process.finish(), within_s)
    except TimeoutError:
        said.append(f"{words[0]} did not answer within {within_s:.0f} s")
        return Answer(status=None, said=tuple(said))
    finally:
        await process.end(0)
    return Answer(status=process.status, out=tuple(out), said=tuple(said))
