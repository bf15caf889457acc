"""The pipes of an engine process: reports, log lines, and the bytes that go to it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

import msgspec

from modeldeck.core.concurrency.deadline import Deadline
from modeldeck.core.runtime.process.engine_log import LogLevel, TakeLine, log_line
from modeldeck.core.runtime.process.frames import FrameDecoder, FrameError
from modeldeck.core.runtime.process.messages import Alive, AnyReport, report

PIPES_S = 1.0
"""Seconds that pipes may stay open after the process: a process that it started may hold them."""
REPORTS_WAITING = 64
"""Reports in the queue at which the pipe is no longer read; each is about a token."""
LOG_LINES = 400
"""Lines kept of a process: a load writes about 200."""
LINE_LENGTH = 2000
"""Longest line of the log, in characters; the rest of it is dropped."""


class EnginePipes(asyncio.SubprocessProtocol):
    """The callbacks of asyncio for the process; all of them run on the event loop."""

    def __init__(self, take_line: TakeLine) -> None:
        self.reports: deque[AnyReport] = deque()
        self.lines: deque[tuple[LogLevel, str]] = deque(maxlen=LOG_LINES)
        self.finished = asyncio.Event()
        """Set when the process is gone and all its output has been read."""
        self.broken: str | None = None
        """Why its output can no longer be decoded; None while it can."""
        self.take_line = take_line
        self._decoder = FrameDecoder()
        self._partial = b""
        self._outgoing: deque[bytes | memoryview] = deque()
        self._full = False
        """Whether the pipe to the process takes no more for now."""
        self._transport: asyncio.SubprocessTransport | None = None
        self._came = False
        """Whether data came, or the end of it, since `forget_what_came`."""
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = Deadline(self._wake)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport of the process."""
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Take what the process wrote: reports, or its log."""
        if fd == 2:
            self._read_log(data)
            return
        try:
            found = [report(payload) for payload in self._decoder.feed(data)]
            # `Alive` has no content: that something came is all that it says.
            self.reports.extend(item for item in found if not isinstance(item, Alive))
        except (FrameError, msgspec.DecodeError) as error:
            self.broken = str(error)
            self.pause()
        if len(self.reports) >= REPORTS_WAITING:
            self.pause()
        self._came = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def forget_what_came(self) -> None:
        """Let `wait` wait for what comes from now on."""
        self._came = False

    async def wait(self, limit_s: float) -> bool:
        """Wait until data comes, or no more can come; False where that takes too long.

        Called for each token or few of an answer, so it costs less than `asyncio.timeout`.
        """
        if self._came:
            return True
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        self._deadline.set(limit_s)
        try:
            await waiter
        finally:
            if self._waiter is waiter:  # else it was cancelled, and the next one waits already
                self._deadline.clear()
                self._waiter = None
        return self._came

    def _read_log(self, data: bytes) -> None:
        *whole, self._partial = (self._partial + data).split(b"\n")
        self._partial = self._partial[:LINE_LENGTH]
        for line in whole:
            self._add_line(line)

    def _add_line(self, line: bytes) -> None:
        level, text = log_line(line.decode("utf-8", "replace").rstrip("\r")[:LINE_LENGTH])
        self.lines.append((level, text))
        self.take_line(level, text)

    def pause(self) -> None:
        """Stop reading reports from the pipe."""
        if isinstance(pipe := self._pipe(1), asyncio.ReadTransport) and pipe.is_reading():
            pipe.pause_reading()

    def resume(self) -> None:
        """Read reports from the pipe again."""
        if self.broken is None and isinstance(pipe := self._pipe(1), asyncio.ReadTransport):
            pipe.resume_reading()

    def _pipe(self, fd: int) -> asyncio.BaseTransport | None:
        return self._transport.get_pipe_transport(fd) if self._transport else None

    def write(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Write to the process, in this order, as fast as it reads; never waits."""
        self._outgoing.extend(pieces)
        self._write_on()

    def pause_writing(self) -> None:
        """Write nothing for now: the pipe to the process is full."""
        self._full = True

    def resume_writing(self) -> None:
        """Write what waits."""
        self._full = False
        self._write_on()

    def _write_on(self) -> None:
        pipe = self._pipe(0)
        if not isinstance(pipe, asyncio.WriteTransport) or pipe.is_closing():
            self._outgoing.clear()
            return
        while self._outgoing and not self._full:
            pipe.write(self._outgoing.popleft())

    def process_exited(self) -> None:
        """Read the pipes to their end, and close them where another process holds them."""
        self.resume()  # the end of a pipe is only seen by reading it
        asyncio.get_running_loop().call_later(PIPES_S, self._close_transport)

    def _close_transport(self) -> None:
        if self._transport and not self.finished.is_set():
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that all of the output was read."""
        if self._transport is not None:
            self._transport.close()  # also where its owner was cancelled before
        if self._partial:
            self._add_line(self._partial)
        self.finished.set()
        self._deadline.close()
        self._came = True
        self._wake()
