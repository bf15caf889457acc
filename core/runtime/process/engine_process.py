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
import sys
from collections.abc import Callable

from modeldeck.core.concurrency import settled, whole
from modeldeck.core.errors import ContextExceeded, EngineFailed, InvalidRequest
from modeldeck.core.runtime.process.attachments import outgoing
from modeldeck.core.runtime.process.engine_log import TakeLine, death, last_lines
from modeldeck.core.runtime.process.frames import FrameError
from modeldeck.core.runtime.process.messages import (
    PROTOCOL,
    AnyReport,
    EngineCommand,
    EngineHello,
)
from modeldeck.core.runtime.process.pipes import REPORTS_WAITING, EnginePipes
from modeldeck.core.schema import Engine
from modeldeck.core.schema.errors import from_info

HELLO_S = 60.0
"""Seconds that an engine may take to start: Python and its libraries, from a slow disk."""
END_S = 3.0
"""Seconds to wait for the end after closing the input, and after SIGTERM. The child needs
milliseconds; a process in the middle of a page fault on a slow disk needs longer."""
KILL_S = 15.0
"""Seconds to wait for the end after SIGKILL, which no process outlives for long unless it hangs in
the system: a busy machine may need seconds to clean up after it."""
WIRED_FACTOR = 5
"""On macOS an MLX process gets this many times longer: killing one can leave the memory that it
wired for the GPU taken until the machine restarts (seen in jundot/omlx#2184)."""
LOOK_S = 1.0
"""Seconds between two checks whether a process has sent anything."""


class NoAnswer(Exception):
    """The process still runs but cannot be used any more.

    It gave no sign of life for too long (it is stopped, or its interpreter is stuck), or reported
    itself that its command does not end.
    """

    def __init__(self, message: str, *, request: int = 0) -> None:
        super().__init__(message)
        self.request = request
        """Id of the command that caused it; 0 where that is not known."""


class EngineProcess:
    """An engine process. Only its owner calls `receive`; use `start` to make one."""

    def __init__(
        self, transport: asyncio.SubprocessTransport, pipes: EnginePipes, engine: Engine
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
                lambda: EnginePipes(take_line),
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
            data = list(outgoing(command))
        except FrameError as error:
            raise ContextExceeded(
                f"The prompt is too long: {error} ({ContextExceeded.code}).", "Send less."
            ) from error
        except RecursionError as error:
            raise InvalidRequest("The request is nested too deeply.") from error
        self._pipes.write(data)

    async def receive(self, silence_s: Callable[[], float] | None = None) -> AnyReport:
        """Wait for the next report.

        Raises EngineFailed when the process ended or its output cannot be decoded, and NoAnswer
        when it gave no sign of life for the seconds that `silence_s` returns (0 and None: no
        limit). It is asked before each wait, since the limit may change meanwhile.
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
            pipes.forget_what_came()
            await self._wait_for_data(silence_s)
        found = pipes.reports.popleft()
        if len(pipes.reports) < REPORTS_WAITING // 2:
            pipes.resume()
        return found

    async def _wait_for_data(self, silence_s: Callable[[], float] | None) -> None:
        """Wait until the process sends data or ends. Raises NoAnswer."""
        quiet_s = 0.0
        # In steps, each of which counts once: when the core was suspended too, as on a machine that
        # slept, the clock says nothing about the child.
        while True:
            limit_s = silence_s() if silence_s is not None else 0.0
            if limit_s and quiet_s >= limit_s:
                raise NoAnswer(
                    f"The engine does not answer: it gave no sign of life for {limit_s:g} s."
                )
            step_s = min(LOOK_S, limit_s / 4) if limit_s else LOOK_S
            if await self._pipes.wait(step_s):
                return
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
        gentle_s = END_S * (WIRED_FACTOR if self._wired else 1)
        try:
            await self._end_within(gentle_s)
        finally:
            self._transport.close()  # kills what is still there
        return self.gone

    async def _end_within(self, gentle_s: float) -> None:
        """Wait for the end, then terminate, then kill, and wait again each time."""
        for name, limit_s in (("", gentle_s), ("terminate", gentle_s), ("kill", KILL_S)):
            if name and not self.gone:
                risk = "; memory of the GPU may stay taken until the machine restarts"
                note = risk if name == "kill" and self._wired else ""
                self._pipes.take_line("warning", f"it does not end by itself: {name}{note}")
                with contextlib.suppress(ProcessLookupError):
                    getattr(self._transport, name)()
            try:
                async with asyncio.timeout(limit_s):
                    await self.wait()
                return
            except TimeoutError:
                continue


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
