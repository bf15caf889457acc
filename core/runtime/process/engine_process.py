"""One engine process: started, spoken to, listened to, ended.

It knows pipes and frames, and nothing of instances. Reports wait in a bounded line: when nobody
takes them the pipe is not read any more, and in the end the engine waits. Its stderr is the log.
The child ends when its input does, so hanging up is the gentle way to end it at any time; who does
not listen is terminated, and then killed.
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
from modeldeck.core.errors import EngineFailed, InvalidRequest
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

LogLevel = Literal["debug", "info", "warning", "error"]
TakeLine = Callable[[LogLevel, str], None]
"""Called with the level and the text of each line of the engine's log."""

HELLO_S = 60.0
"""How long an engine may take to start: Python and its libraries, from a cold and slow disk."""
END_S = 3.0
"""How long a process may take to end when told, before the next and rougher way. The child needs
milliseconds; a process in the middle of a page fault on a slow disk needs longer."""
GENTLE = 5
"""On macOS an MLX process gets this many times longer: to kill one can leave the memory that it
wired for the GPU taken until the machine starts anew (seen in jundot/omlx#2184)."""
PIPES_S = 1.0
"""How long pipes may stay open after the process: somebody it started may hold them."""
LOOK_S = 1.0
"""Between two looks at whether a process has said anything, in seconds."""
REPORTS_WAITING = 64
"""Reports that may wait before the pipe is left alone; each is a token or so."""
LOG_LINES = 400
"""Lines kept of a process: a load writes about 200."""
LINE_LENGTH = 2000
"""Longest line of the log, in characters; the rest of it is dropped."""
LAST_LINES = 8
"""Log lines that go into an error."""

_LEVELS: dict[str, LogLevel] = {"7": "debug", "6": "info", "4": "warning", "3": "error"}
"""Marks at the beginning of a log line: the prefixes of sd-daemon(3)."""


def log_line(text: str) -> tuple[LogLevel, str]:
    """Level and text of a line on stderr. What bears no mark was printed by something that failed.

    >>> log_line("<4>no chat template")
    ('warning', 'no chat template')
    >>> log_line("GGML_ASSERT(n > 0) failed")
    ('error', 'GGML_ASSERT(n > 0) failed')
    """
    match = re.match(r"<([3467])>", text)
    return (_LEVELS[match[1]], text[3:]) if match else ("error", text)


def last_lines(lines: Sequence[tuple[LogLevel, str]]) -> tuple[str, ...]:
    """The lines to show for a failure: warnings and errors, else whatever came last."""
    bad = [text for level, text in lines if level in ("warning", "error") and text.strip()]
    return tuple((bad or [text for _, text in lines if text.strip()])[-LAST_LINES:])


_DEATHS = {
    signal.SIGKILL: (
        "was killed; if nobody did that, the system ran out of memory",
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
    signal.SIGILL: (
        "was built for another processor",
        "Build it on this machine: pip install --force-reinstall --no-cache-dir llama-cpp-python",
    ),
}


_NO_MEMORY = re.compile(r"alloc|MemoryError|out of memory|Resource temporarily", re.IGNORECASE)


def death(code: int | None, lines: Sequence[tuple[LogLevel, str]]) -> EngineFailed:
    """The error for a process that ended unasked, by its exit code as asyncio gives it."""
    what, remedy = f"ended with code {code}", "See the last lines of its log."
    if any(_NO_MEMORY.search(text) for text in last_lines(lines)):
        what, remedy = f"got no memory and {what}", _DEATHS[signal.SIGKILL][1]
    if code is not None and code < 0:
        try:
            number = signal.Signals(-code)
            known = _DEATHS.get(number, (f"was ended by {number.name}", remedy))
            what, remedy = f"{known[0]} ({number.name})", known[1]
        except ValueError:
            what = f"was ended by signal {-code}"
    return EngineFailed(f"The engine process {what}.", remedy, details=last_lines(lines))


class NoAnswer(Exception):
    """The process is of no use any more, and has not ended.

    It gave no sign of life for too long (it is stopped, or its interpreter is stuck), or said
    itself that its work does not come to an end.
    """

    def __init__(self, message: str, *, asked: bool = False) -> None:
        super().__init__(message)
        self.asked = asked
        """Whether what was asked is to blame."""


class _Pipes(asyncio.SubprocessProtocol):
    """What asyncio calls; all of it runs on the event loop."""

    def __init__(self, take_line: TakeLine) -> None:
        self.reports: deque[AnyReport] = deque()
        self.lines: deque[tuple[LogLevel, str]] = deque(maxlen=LOG_LINES)
        self.news = asyncio.Event()
        """Set when there is a report, and when there will be none any more."""
        self.over = asyncio.Event()
        """Set when the process is gone and everything it wrote has been read."""
        self.broken: str | None = None
        """Why what it says cannot be understood any more."""
        self.take_line = take_line
        self._decoder = FrameDecoder()
        self._partial = b""
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self._hear(data)
            return
        try:
            found = [report(payload) for payload in self._decoder.feed(data)]
            # A sign of life tells nothing but that something came, which `news` tells.
            self.reports.extend(item for item in found if not isinstance(item, Alive))
        except (FrameError, msgspec.DecodeError) as error:
            self.broken = str(error)
            self.pause()
        if len(self.reports) >= REPORTS_WAITING:
            self.pause()
        self.news.set()

    def _hear(self, data: bytes) -> None:
        *whole, self._partial = (self._partial + data).split(b"\n")
        self._partial = self._partial[:LINE_LENGTH]
        for line in whole:
            self._keep(line)

    def _keep(self, line: bytes) -> None:
        level, text = log_line(line.decode("utf-8", "replace").rstrip("\r")[:LINE_LENGTH])
        self.lines.append((level, text))
        self.take_line(level, text)

    def pause(self) -> None:
        """Leave what comes in the pipe."""
        if isinstance(pipe := self._pipe(1), asyncio.ReadTransport) and pipe.is_reading():
            pipe.pause_reading()

    def resume(self) -> None:
        """Read the pipe again."""
        if self.broken is None and isinstance(pipe := self._pipe(1), asyncio.ReadTransport):
            pipe.resume_reading()

    def _pipe(self, fd: int) -> asyncio.BaseTransport | None:
        return self._transport.get_pipe_transport(fd) if self._transport else None

    def process_exited(self) -> None:
        self.resume()  # the end of a pipe is only seen by reading it
        asyncio.get_running_loop().call_later(PIPES_S, self._let_go)

    def _let_go(self) -> None:
        if self._transport and not self.over.is_set():
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._partial:
            self._keep(self._partial)
        self.over.set()
        self.news.set()


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
        """What it said about its engine."""

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
        """Its log: the last lines."""
        return tuple(text for _, text in self._pipes.lines)

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The lines of its log to show for a failure."""
        return last_lines(tuple(self._pipes.lines))

    def send(self, command: EngineCommand) -> None:
        """Send a command; one that is sent to a process that is gone is dropped.

        Raises InvalidRequest when it is too long for a frame, or nested too deeply.
        """
        try:
            data = frame(command)
        except FrameError as error:
            raise InvalidRequest(f"The request is too long: {error}.", "Send less.") from error
        except RecursionError as error:
            raise InvalidRequest("The request is nested too deeply.") from error
        pipe = self._transport.get_pipe_transport(0)
        if isinstance(pipe, asyncio.WriteTransport) and not pipe.is_closing():
            pipe.write(data)

    async def receive(self, silence_s: float = 0.0) -> AnyReport:
        """The next report.

        Raises EngineFailed when the process ended or speaks nonsense, and NoAnswer when it gave no
        sign of life for `silence_s` seconds (0 is for ever) while it was waited for.
        """
        pipes = self._pipes
        while not pipes.reports:
            if pipes.broken is not None:
                raise EngineFailed(
                    f"The engine process cannot be understood: {pipes.broken}.",
                    details=self.last_lines,
                )
            if pipes.over.is_set():
                raise death(self._transport.get_returncode(), tuple(pipes.lines))
            pipes.news.clear()
            await self._hear(silence_s)
        found = pipes.reports.popleft()
        if len(pipes.reports) < REPORTS_WAITING // 2:
            pipes.resume()
        return found

    async def _hear(self, silence_s: float) -> None:
        """Wait until something comes from the process. Raises NoAnswer."""
        news = self._pipes.news
        if not silence_s:
            await news.wait()
        quiet_s, step_s = 0.0, min(LOOK_S, silence_s / 4)
        # In steps, each of which counts once: when this process stood still as well, as on a
        # machine that slept, the time on the clock says nothing about the other.
        while not news.is_set():
            if quiet_s >= silence_s:
                raise NoAnswer(
                    f"The engine does not answer: it gave no sign of life for {silence_s:g} s."
                )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(step_s):
                    await news.wait()
            quiet_s += step_s

    async def wait(self) -> None:
        """Wait until the process is gone and everything it wrote has been read."""
        await self._pipes.over.wait()

    @whole
    async def end(self) -> bool:
        """End the process: close its input, then terminate, then kill. Says whether it is gone.

        Runs to its end even when its caller is cancelled. Returns False only for a process that the
        system cannot end (stuck in a system call).
        """
        if pipe := self._transport.get_pipe_transport(0):
            pipe.close()
        self._pipes.reports.clear()
        self._pipes.resume()  # so that a process that waits to be read can go on
        patience_s = END_S * (GENTLE if self._wired else 1)
        for name in ("", "terminate", "kill"):
            if name and not self.gone:
                risk = "; memory of the GPU may stay taken until the machine starts anew"
                told = risk if name == "kill" and self._wired else ""
                self._pipes.take_line("warning", f"it does not end by itself: {name}{told}")
                with contextlib.suppress(ProcessLookupError):
                    getattr(self._transport, name)()
            try:
                async with asyncio.timeout(patience_s):
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
    """The environment of an engine process: ours, without secrets it has no use for."""
    ours = {k: v for k, v in os.environ.items() if "TOKEN" not in k and "API_KEY" not in k}
    # An abort would start a debugger for a backtrace where there is one: a second, and no use.
    return {**ours, "GGML_NO_BACKTRACE": "1"}
