"""Starts one engine process, exchanges messages with it, and ends it.

It handles pipes and frames, and knows nothing of instances. Reports are kept in a bounded queue:
when it is full the pipe is no longer read, and in the end the engine blocks. The process's stderr
is its log. The child ends when its input ends, so closing the input is the gentle way to end it at
any time; a child that does not react is terminated, and then killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from modeldeck.core.concurrency import settled, whole
from modeldeck.core.errors import ContextExceeded, EngineFailed, InvalidRequest
from modeldeck.core.runtime.platforms import llama_remedy
from modeldeck.core.runtime.process.frames import FrameDecoder, FrameError
from modeldeck.core.runtime.process.messages import (
    PROTOCOL,
    Alive,
    AnyReport,
    EngineCommand,
    EngineHello,
    frame,
    report,
)
from modeldeck.core.schema import Engine
from modeldeck.core.schema.errors import from_info
from modeldeck.core.storage.installation import this_installation

LogLevel = Literal["debug", "info", "warning", "error"]
TakeLine = Callable[[LogLevel, str], None]
"""Called with the level and the text of each line of the engine's log."""

HELLO_S = 60.0
"""Seconds that an engine may take to start: Python and its libraries, from a slow disk."""
END_S = 3.0
"""Seconds to wait for the end after each of closing the input, SIGTERM and SIGKILL. The child needs
milliseconds; a process in the middle of a page fault on a slow disk needs longer."""
WIRED_FACTOR = 5
"""On macOS an MLX process gets this many times longer: killing one can leave the memory that it
wired for the GPU taken until the machine restarts (seen in jundot/omlx#2184)."""
PIPES_S = 1.0
"""Seconds that pipes may stay open after the process: a process that it started may hold them."""
LOOK_S = 1.0
"""Seconds between two checks whether a process has sent anything."""
REPORTS_WAITING = 64
"""Reports in the queue at which the pipe is no longer read; each is about a token."""
LOG_LINES = 400
"""Lines kept of a process: a load writes about 200."""
LINE_LENGTH = 2000
"""Longest line of the log, in characters; the rest of it is dropped."""
LAST_LINES = 8
"""Log lines that go into an error."""

_LEVELS: dict[str, LogLevel] = {"7": "debug", "6": "info", "4": "warning", "3": "error"}
"""Marks at the beginning of a log line: the prefixes of sd-daemon(3)."""


def log_line(text: str) -> tuple[LogLevel, str]:
    """Level and text of a line on stderr. A line without a mark comes from a failing library.

    >>> log_line("<4>no chat template")
    ('warning', 'no chat template')
    >>> log_line("GGML_ASSERT(n > 0) failed")
    ('error', 'GGML_ASSERT(n > 0) failed')
    """
    match = re.match(r"<([3467])>", text)
    return (_LEVELS[match[1]], text[3:]) if match else ("error", text)


def last_lines(lines: Sequence[tuple[LogLevel, str]]) -> tuple[str, ...]:
    """The lines to show for a failure: the last warnings and errors, else the last lines."""
    bad = [text for level, text in lines if level in ("warning", "error") and text.strip()]
    return tuple((bad or [text for _, text in lines if text.strip()])[-LAST_LINES:])


_DEATHS = {
    signal.SIGKILL: (
        "was killed, most likely because the system ran out of memory",
        "Take a smaller context length or a smaller quantization, or unload another model.",
    ),
    signal.SIGABRT: (
        "gave up: the file or the options are not what its engine takes",
        "See the last lines of its log; download the model again if its file may be damaged.",
    ),
    signal.SIGSEGV: ("crashed", "See the last lines of its log; update the engine."),
    signal.SIGBUS: (
        "crashed: the model's file changed or ended while it was in use, or the disk failed",
        "Download the model again.",
    ),
}


_NO_MEMORY = re.compile(r"alloc|MemoryError|out of memory|Resource temporarily", re.IGNORECASE)


def death(code: int | None, lines: Sequence[tuple[LogLevel, str]]) -> EngineFailed:
    """The error for a process that ended by itself, from its exit code as asyncio gives it."""
    what, remedy = f"ended with code {code}", "See the last lines of its log."
    if any(_NO_MEMORY.search(text) for text in last_lines(lines)):
        what, remedy = f"got no memory and {what}", _DEATHS[signal.SIGKILL][1]
    if code is not None and code < 0:
        try:
            number = signal.Signals(-code)
            known = _DEATHS.get(number, (f"was ended by {number.name}", remedy))
            if number is signal.SIGILL:
                again = llama_remedy(this_installation(), rebuild=True)
                known = ("was built for another processor", again)
            what, remedy = f"{known[0]} ({number.name})", known[1]
        except ValueError:
            what = f"was ended by signal {-code}"
    return EngineFailed(f"The engine process {what}.", remedy, details=last_lines(lines))


class NoAnswer(Exception):
    """The process still runs but cannot be used any more.

    It gave no sign of life for too long (it is stopped, or its interpreter is stuck), or reported
    itself that its command does not end.
    """

    def __init__(self, message: str, *, request: int = 0) -> None:
        super().__init__(message)
        self.request = request
        """Id of the command that caused it; 0 where that is not known."""


class _Pipes(asyncio.SubprocessProtocol):
    """The callbacks of asyncio for the process; all of them run on the event loop."""

    def __init__(self, take_line: TakeLine) -> None:
        self.reports: deque[AnyReport] = deque()
        self.lines: deque[tuple[LogLevel, str]] = deque(maxlen=LOG_LINES)
        self.activity = asyncio.Event()
        """Set when data comes, and when no more can come."""
        self.finished = asyncio.Event()
        """Set when the process is gone and all its output has been read."""
        self.broken: str | None = None
        """Why its output can no longer be decoded; None while it can."""
        self.take_line = take_line
        self._decoder = FrameDecoder()
        self._partial = b""
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self._read_log(data)
            return
        try:
            found = [report(payload) for payload in self._decoder.feed(data)]
            # `Alive` has no content: setting `activity` is all that it is for.
            self.reports.extend(item for item in found if not isinstance(item, Alive))
        except (FrameError, msgspec.DecodeError) as error:
            self.broken = str(error)
            self.pause()
        if len(self.reports) >= REPORTS_WAITING:
            self.pause()
        self.activity.set()

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

    def process_exited(self) -> None:
        self.resume()  # the end of a pipe is only seen by reading it
        asyncio.get_running_loop().call_later(PIPES_S, self._close_transport)

    def _close_transport(self) -> None:
        if self._transport and not self.finished.is_set():
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._partial:
            self._add_line(self._partial)
        self.finished.set()
        self.activity.set()


class EngineProcess:
    """An engine process. Only its owner calls `receive`; use `start` to make one."""

    def __init__(
        self, transport: asyncio.SubprocessTransport, pipes: _Pipes, engine: Engine
    ) -> None:
        self._wired = wires_memory(engine, sys.platform)
        self._transport = transport
        self._pipes = pipes
        self.pid = transport.get_pid()
        self.hello = EngineHello(protocol=PROTOCOL)
        """The first report: version and devices of the engine."""

    @classmethod
    async def start(cls, engine: Engine, take_line: TakeLine) -> EngineProcess:
        """Start a process and wait for its hello.

        Must be called on the thread that lives as long as the core: Linux ends the child when the
        *thread* that started it ends. When this is cancelled, the process is ended first.

        Raises EngineMissing, or EngineFailed when it does not start.
        """
        process = await cls._create(engine, take_line)
        try:
            async with asyncio.timeout(HELLO_S):
                hello = await process.receive()
            if not isinstance(hello, EngineHello) or hello.protocol != PROTOCOL:
                raise EngineFailed(
                    "The engine process is of another version.", "Start modeldeck again."
                )
            if hello.error is not None:
                raise from_info(hello.error)
            process.hello = hello
        except TimeoutError:
            await process.end()
            raise EngineFailed(
                f"The engine did not start within {HELLO_S:g} s.", details=process.last_lines
            ) from None
        except BaseException:
            await process.end()
            raise
        return process

    @classmethod
    async def _create(cls, engine: Engine, take_line: TakeLine) -> EngineProcess:
        """Create the process with its pipes.

        asyncio leaves pipes or the process behind when `subprocess_exec` is cancelled half way, so
        a cancellation waits until the process exists, and ends it.
        """
        command = (sys.executable, "-P", "-m", "modeldeck.core.runtime.child", engine)
        loop = asyncio.get_running_loop()
        creation = loop.create_task(
            loop.subprocess_exec(
                lambda: _Pipes(take_line),
                *command,
                str(os.getpid()),
                env=environment(),
                start_new_session=True,
            )
        )
        cancelled = False
        try:
            await settled(creation)
        except asyncio.CancelledError:
            cancelled = True
        try:
            transport, pipes = creation.result()
        except (OSError, RuntimeError) as error:  # no process, or no thread to watch over it
            raise EngineFailed(
                f"No engine process could be started: {error}.",
                "The system is short of memory, processes or threads: end something first.",
            ) from error
        process = cls(transport, pipes, engine)
        if cancelled:
            with contextlib.suppress(ProcessLookupError):
                transport.kill()
            await process.end()
            raise asyncio.CancelledError
        return process

    @property
    def gone(self) -> bool:
        """Whether the process has ended."""
        return self._transport.get_returncode() is not None

    @property
    def lines(self) -> tuple[str, ...]:
        """The last lines of its log."""
        return tuple(text for _, text in self._pipes.lines)

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The log lines to show for a failure."""
        return last_lines(tuple(self._pipes.lines))

    def send(self, command: EngineCommand) -> None:
        """Send a command; it is dropped when the process is gone.

        Raises ContextExceeded when it is too long for a frame, InvalidRequest when it is nested too
        deeply.
        """
        try:
            data = frame(command)
        except FrameError as error:
            raise ContextExceeded(
                f"The prompt is too long: {error} ({ContextExceeded.code}).", "Send less."
            ) from error
        except RecursionError as error:
            raise InvalidRequest("The request is nested too deeply.") from error
        pipe = self._transport.get_pipe_transport(0)
        if isinstance(pipe, asyncio.WriteTransport) and not pipe.is_closing():
            pipe.write(data)

    async def receive(self, silence_s: Callable[[], float] | None = None) -> AnyReport:
        """Wait for the next report.

        Raises EngineFailed when the process ended or its output cannot be decoded, and NoAnswer
        when it gave no sign of life for so many seconds of waiting as `silence_s` returns (0 and
        None: no limit). It is called again and again, since the limit may change meanwhile.
        """
        pipes = self._pipes
        while not pipes.reports:
            if pipes.broken is not None:
                raise EngineFailed(
                    f"The engine process cannot be understood: {pipes.broken}.",
                    details=self.last_lines,
                )
            if pipes.finished.is_set():
                raise death(self._transport.get_returncode(), tuple(pipes.lines))
            pipes.activity.clear()
            await self._wait_for_data(silence_s)
        found = pipes.reports.popleft()
        if len(pipes.reports) < REPORTS_WAITING // 2:
            pipes.resume()
        return found

    async def _wait_for_data(self, silence_s: Callable[[], float] | None) -> None:
        """Wait until the process sends data or ends. Raises NoAnswer."""
        activity = self._pipes.activity
        if silence_s is None:
            await activity.wait()
        quiet_s = 0.0
        # In steps, each of which counts once: when the core was suspended too, as on a machine that
        # slept, the clock says nothing about the child.
        while silence_s is not None and not activity.is_set():
            limit_s = silence_s()
            if limit_s and quiet_s >= limit_s:
                raise NoAnswer(
                    f"The engine does not answer: it gave no sign of life for {limit_s:g} s."
                )
            step_s = min(LOOK_S, limit_s / 4) if limit_s else LOOK_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(step_s):
                    await activity.wait()
            quiet_s = quiet_s + step_s if limit_s else 0.0

    async def wait(self) -> None:
        """Wait until the process is gone and all its output has been read."""
        await self._pipes.finished.wait()

    @whole
    async def end(self) -> bool:
        """End the process: close its input, then terminate, then kill. Says whether it is gone.

        Runs to its end even when its caller is cancelled. Returns False only for a process that the
        system cannot end (stuck in a system call).
        """
        if pipe := self._transport.get_pipe_transport(0):
            pipe.close()
        self._pipes.reports.clear()
        self._pipes.resume()  # so that a process that blocks on a full pipe can go on
        limit_s = END_S * (WIRED_FACTOR if self._wired else 1)
        for name in ("", "terminate", "kill"):
            if name and not self.gone:
                risk = "; memory of the GPU may stay taken until the machine restarts"
                note = risk if name == "kill" and self._wired else ""
                self._pipes.take_line("warning", f"it does not end by itself: {name}{note}")
                with contextlib.suppress(ProcessLookupError):
                    getattr(self._transport, name)()
            try:
                async with asyncio.timeout(limit_s):
                    await self.wait()
                break
            except TimeoutError:
                continue
        self._transport.close()
        return self.gone


def wires_memory(engine: Engine, system: str) -> bool:
    """Whether an engine holds memory that the system may not get back when it is killed.

    >>> wires_memory("mlx", "darwin"), wires_memory("mlx", "linux")
    (True, False)
    """
    return engine == "mlx" and system == "darwin"


def environment() -> dict[str, str]:
    """The environment of an engine process: that of the core, without tokens and API keys."""
    ours = {k: v for k, v in os.environ.items() if "TOKEN" not in k and "API_KEY" not in k}
    # On abort ggml would start a debugger for a backtrace, which takes a second.
    return {**ours, "GGML_NO_BACKTRACE": "1"}
